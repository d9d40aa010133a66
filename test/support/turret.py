"""An arm for faults that the shipped one has not: a continuous joint and a mimic finger."""

_MASS = (
    '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/>'
    "</inertial>"
)


def _link(name: str, size: str, xyz: str = "0 0 0", more: str = "") -> str:
    return (
        f'<link name="{name}">{_MASS}<collision><origin xyz="{xyz}"/><geometry><box size="{size}"/>'
        f"</geometry></collision>{more}</link>"
    )


def _joint(name: str, kind: str, parent: str, child: str, xyz: str, axis: str, inside: str) -> str:
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{xyz}"/><axis xyz="{axis}"/>{inside}</joint>'
    )


TURRET = (
    '<robot name="arm"><link name="base"/>'
    + '<link name="table"/>'
    + _joint("mount", "fixed", "base", "table", "0 0 0.1", "0 0 1", "")
    + _link("column", "0.1 0.1 0.3", "0 0 0.15")
    + _link("beam", "0.4 0.06 0.06", "0.2 0 0")
    + _link("left", "0.1 0.02 0.02", "0.05 0.02 0")
    + _link("right", "0.1 0.02 0.02", "0.05 -0.02 0")
    + _joint("turn", "continuous", "base", "column", "0 0 0.1", "0 0 1",
             '<limit velocity="2" effort="1"/>')
    + _joint("lift", "revolute", "column", "beam", "0.06 0 0.35", "0 -1 0",
             '<limit lower="-1.2" upper="1.2" velocity="2" effort="1"/>')
    + _joint("grip", "prismatic", "beam", "left", "0.41 0 0", "0 1 0",
             '<limit lower="0" upper="0.06" velocity="0.2" effort="1"/>')
    + _joint("other", "prismatic", "beam", "right", "0.41 0 0", "0 -1 0",
             '<limit lower="0" upper="0.06" velocity="0.2" effort="1"/>'
             '<mimic joint="grip" multiplier="1.0" offset="0.0"/>')
    + "</robot>"
)  # fmt: skip
"""Joints turn (continuous), lift, grip; ``other`` mimics grip. The beam points along x and
rises with lift; the fingers move apart along y."""

CONTACTS = (
    '<robot name="arm">'
    + "".join(
        f'<disable_collisions link1="{a}" link2="{b}" reason="Adjacent"/>'
        for a, b in (("column", "beam"), ("beam", "left"), ("beam", "right"), ("left", "right"))
    )
    + "</robot>"
)
