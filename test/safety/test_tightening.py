"""What is called no looser lets nothing more through; all else is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cells import tabletop
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvla_ros.safety import Clearance, Limits, Zone
from smolvla_ros.safety.tightening import limits_loosened, zones_loosened

_, ROBOT = tabletop()
LINKS = ["upper_arm_link", "lower_arm_link", "wrist_link", "gripper_link"]
SIZES = {"box": 3, "sphere": 1, "cylinder": 2, "capsule": 2, "half_space": 0}


@st.composite
def zones(draw):
    kind = draw(st.sampled_from(["keep_out", "keep_in", "slow", "approach"]))
    shape = draw(st.sampled_from(sorted(SIZES)))
    metres = lambda low, high: st.floats(low, high).map(lambda x: round(x, 3))  # noqa: E731
    margin = draw(st.none() | metres(0.0, 0.1))
    rules = {}
    if kind == "slow":
        rules = draw(
            st.fixed_dictionaries({"speed_ratio": metres(0.1, 1.0)})
            | st.fixed_dictionaries({"speed": metres(0.1, 1.0)})
        )
    if kind == "approach":
        rules = {"speed_ratio": draw(metres(0.1, 1.0)), "distance": draw(metres(0.2, 0.5))}
    links = draw(
        st.just({})
        | st.lists(st.sampled_from(LINKS), min_size=1, max_size=3, unique=True).flatmap(
            lambda ls: st.sampled_from([{"links": ls}, {"except_links": ls}])
        )
    )
    return Zone(
        kind=kind,
        shape=shape,
        size=[draw(metres(0.02, 0.6)) for _ in range(SIZES[shape])],
        position=[draw(metres(-0.4, 0.4)) for _ in range(3)],
        rpy=[draw(metres(-3.0, 3.0)) for _ in range(3)],
        margin=margin,
        **links,
        **rules,
    )


@st.composite
def changed(draw, zone, tighter):
    """A zone near the given one; ``tighter``: mostly, by what is known of zones."""
    up = st.floats(1.0 if tighter else 0.5, 2.0).map(lambda x: round(x, 2)) | st.just(1.0)
    down = up.map(lambda x: 1.0 / x)
    others = {}
    if zone.size:
        factor = down if zone.kind == "keep_in" else up
        others["size"] = [s * draw(factor) for s in zone.size]
    if zone.margin is not None:
        others["margin"] = zone.margin * draw(up)
    for field in ("speed_ratio", "speed"):
        value = getattr(zone, field)
        if value is not None:
            others[field] = min(1.0, value * draw(down))
    if zone.distance is not None:
        others["distance"] = max(0.21, zone.distance * draw(up))
    some = [
        {},
        {},
        {"links": [], "except_links": []},
        {"links": [], "except_links": LINKS[:1]},
        {"links": LINKS[:2], "except_links": []},
        {"margin": 0.05},
        {"margin": None},
        {"position": [p + 0.01 for p in zone.position]},
    ]
    return replace(zone, **{**others, **draw(st.sampled_from(some[:4] if tighter else some))})


@st.composite
def pairs_of_sets(draw):
    tighter = draw(st.booleans())
    old = {f"z{k}": z for k, z in enumerate(draw(st.lists(zones(), min_size=1, max_size=2)))}
    kept = {n: z for n, z in old.items() if tighter or draw(st.integers(0, 9))}
    new = {n: draw(changed(z, tighter)) for n, z in kept.items()}
    if draw(st.booleans()):
        new["added"] = draw(zones())
    margins = [draw(st.sampled_from([0.0, 0.01, 0.05])) for _ in range(2)]
    return old, new, *(sorted(margins) if tighter else margins)


def room(clearance, q):
    """(link, zone, k-th of the two) → metres beyond the margin."""
    found: dict[tuple, float] = {}
    times: dict[tuple, int] = {}
    for pair, d in zip(clearance.pairs, clearance.distances(q), strict=True):
        key = (pair.name, pair.zone)
        times[key] = times.get(key, -1) + 1
        found[*key, times[key]] = d - pair.margin
    return found


def test_i9_what_is_called_no_looser_leaves_no_more_room():
    counts = {"tighter": 0, "looser": 0}

    @settings(max_examples=300, deadline=None)
    @given(pairs_of_sets(), st.integers(0, 2**32 - 1))
    def holds(sets, seed):
        old, new, old_margin, new_margin = sets
        assert zones_loosened(old, old, old_margin, old_margin) == []
        if zones_loosened(old, new, old_margin, new_margin):
            counts["looser"] += 1
            return
        counts["tighter"] += old != {n: new[n] for n in old}
        before = Clearance(ROBOT, old, old_margin, 0.001)
        after = Clearance(ROBOT, new, new_margin, 0.001)
        rng = np.random.default_rng(seed)
        for q in rng.uniform(ROBOT.lower, ROBOT.upper, (3, ROBOT.dof)):
            left, was = room(after, q), room(before, q)
            assert was.keys() <= left.keys()
            for key, metres in was.items():
                assert left[key] <= metres + 2e-6, key
            v = rng.normal(size=ROBOT.dof)
            before.anchor(q)
            after.anchor(q)
            slowest = after.speed_factor(v, ROBOT.velocity)[0]
            assert slowest <= before.speed_factor(v, ROBOT.velocity)[0] + 1e-4

    holds()
    assert counts["tighter"] > 50 and counts["looser"] > 50, counts


BALL = Zone(kind="keep_out", shape="sphere", size=[0.1], links=["a", "b"])
NEAR = Zone(kind="approach", shape="sphere", size=[0.1], speed_ratio=0.2, distance=0.3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (BALL, replace(BALL, size=[0.09]), "size: [0.1] -> [0.09]"),
        (NEAR, replace(NEAR, size=[0.2]), "size: [0.1] -> [0.2]"),
        (BALL, replace(BALL, margin=0.005), "margin: 0.01 -> 0.005"),
        (BALL, replace(BALL, position=[0.0, 0.0, 0.1]), "position: [0.0, 0.0, 0.0] -> "),
        (BALL, replace(BALL, frame="a"), "frame: None -> a"),
        (BALL, replace(BALL, kind="keep_in"), "kind: keep_out -> keep_in"),
        (BALL, replace(BALL, links=["a"]), "links: a, b -> a"),
        (BALL, replace(BALL, links=[], except_links=["a"]), "links: a, b -> all but a"),
        (replace(BALL, links=[]), BALL, "links: all -> a, b"),
        (BALL, replace(BALL, shape="box", size=[1.0, 1.0, 1.0]), "shape: sphere -> box"),
    ],
)
def test_what_is_looser_is_said_with_both_values(old, new, says):
    (line,) = zones_loosened({"z": old}, {"z": new}, 0.01, 0.01)
    assert line.startswith(f"zones.z.{says}")


def test_a_zone_that_went_and_a_smaller_margin_are_looser():
    assert zones_loosened({"z": BALL}, {}, 0.01, 0.01) == ["zones.z: there -> removed"]
    assert "margin: 0.01 -> 0.005" in zones_loosened({"z": BALL}, {"z": BALL}, 0.01, 0.005)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"speed": 0.2}, {"speed_ratio": 0.01}),
        ({"speed_ratio": 0.2}, {"speed": 0.01}),
        ({"speed_ratio": 0.2, "hysteresis": 0.01}, {"speed_ratio": 0.2}),
    ],
)
def test_slow_zones_that_cannot_be_compared_or_are_left_sooner_are_looser(old, new):
    zone = {"kind": "slow", "shape": "sphere", "size": [0.1]}
    assert zones_loosened({"z": Zone(**zone, **old)}, {"z": Zone(**zone, **new)}, 0.0, 0.0)
    assert not zones_loosened({"z": Zone(**zone, **old)}, {"z": Zone(**zone, **old)}, 0.0, 0.0)


def limits(**changes):
    parts = {
        "lower": [-1.0, -2.0], "upper": [1.0, 2.0], "velocity": [1.0, 1.0],
        "acceleration": [5.0, 5.0], "jerk": [np.inf, 50.0], **changes,
    }  # fmt: skip
    return Limits(**{k: np.array(v) for k, v in parts.items()})


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ({"lower": [-1.1, -2.0]}, "limits.j1.lower: -1.0 -> -1.1"),
        ({"upper": [1.0, 2.1]}, "limits.j2.upper: 2.0 -> 2.1"),
        ({"velocity": [1.0, 1.5]}, "limits.j2.velocity: 1.0 -> 1.5"),
        ({"acceleration": [6.0, 5.0]}, "limits.j1.acceleration: 5.0 -> 6.0"),
        ({"jerk": [np.inf, np.inf]}, "limits.j2.jerk: 50.0 -> inf"),
        ({"velocity": [np.nan, 1.0]}, "limits.j1.velocity: 1.0 -> nan"),
    ],
)
def test_i9_limits_that_let_more_through_are_named(new, says):
    assert limits_loosened(limits(), limits(**new), ["j1", "j2"]) == [says]
    assert limits_loosened(limits(), limits(), ["j1", "j2"]) == []


def test_tighter_limits_are_no_looser_and_other_joints_are_refused():
    tighter = limits(lower=[-0.9, -1.0], velocity=[0.5, 1.0], jerk=[10.0, 50.0])
    assert limits_loosened(limits(), tighter, ["j1", "j2"]) == []
    with pytest.raises(ValueError, match="joints"):
        limits_loosened(limits(), tighter, ["j1", "j2", "j3"])
