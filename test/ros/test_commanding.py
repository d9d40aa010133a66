"""Who commands an arm is looked up in the graph, through real DDS; nobody is missed or invented."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cells import tabletop
from rclpy.action import ActionClient
from rig import wait_until
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cli.bystander import Bystander
from smolvla_ros.cli.processes import private_domain
from smolvla_ros.ros import qos
from smolvla_ros.ros.commanding import all_named, commanding

CONTROLLER = "joint_trajectory_controller"


@pytest.fixture
def domain(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    number, lock = private_domain()
    with lock:
        yield number


class Cell(contextlib.ExitStack):
    """Nodes with the endpoints that a cell has, and one that looks at them."""

    def __init__(self, domain: int):
        super().__init__()
        self._domain = domain
        self.seen = self.node("check").node
        self.count = 0

    def node(self, name: str, namespace: str = "") -> Bystander:
        made = self.enter_context(Bystander(name, self._domain, namespace))
        made.start()
        return made

    def writes(self, name: str, topic: str, kind: type = JointTrajectory, namespace: str = ""):
        self.node(name, namespace).node.create_publisher(kind, topic, qos.STREAM_OUT)
        self.count += 1

    def controller(self, name: str = CONTROLLER, kind: type = JointTrajectory) -> None:
        """As ros2_control makes one: a node of its own, its topic below its name."""
        topic = "~/commands" if kind is Float64MultiArray else "~/joint_trajectory"
        self.node(name).node.create_subscription(kind, topic, lambda _: None, qos.NEWEST_IN)
        self.count += 1

    def findings(self, **changes: object) -> list[tuple[str, str]]:
        """Level and line of each, once all that was made has been discovered."""
        config = replace(tabletop()[0].safety_monitor, **changes)

        def known() -> bool:
            topics = [t for t, _ in self.seen.get_topic_names_and_types()]
            ends = [
                end
                for t in topics
                for look in (
                    self.seen.get_publishers_info_by_topic,
                    self.seen.get_subscriptions_info_by_topic,
                )
                for end in look(t)
                if end.topic_type.endswith(("/JointTrajectory", "/Float64MultiArray"))
            ]
            return len(ends) == self.count and all_named(self.seen)

        wait_until(known, 10, "discovered")
        return [
            (f.level, str(f)) for f in commanding(self.seen, config, self.seen.resolve_topic_name)
        ]


@pytest.fixture
def cell(domain) -> Iterator[Cell]:
    with Cell(domain) as cell:
        yield cell


def test_a_gate_between_policy_and_controller_is_well_wherever_it_is_remapped_to(cell) -> None:
    cell.writes("vla", "proposed")
    cell.writes("safety_monitor", f"{CONTROLLER}/joint_trajectory")
    cell.controller()
    assert cell.findings() == [
        ("ok", "command: /proposed: /vla"),
        ("ok", f"command: /{CONTROLLER}/joint_trajectory: /safety_monitor"),
    ]


def test_what_nobody_hears_is_doubted_unless_it_is_a_shadow(cell) -> None:
    cell.writes("safety_monitor", "shadow/arm/joint_trajectory")
    heard_by_nobody = [line for level, line in cell.findings() if level == "warning"]
    assert len(heard_by_nobody) == 1 and "nobody subscribes" in heard_by_nobody[0]
    assert [level for level, _ in cell.findings(shadow=True)] == ["ok", "ok"]


def test_whoever_writes_to_the_gates_controller_is_an_error(cell) -> None:
    cell.writes("safety_monitor", f"{CONTROLLER}/joint_trajectory")
    cell.writes("rqt", f"{CONTROLLER}/joint_trajectory")
    cell.controller()
    bad = [f for f in cell.findings() if f[0] != "ok"]
    assert bad == [
        ("error", f"command: /rqt publishes on /{CONTROLLER}/joint_trajectory; nobody else may: "
                  "end it")
    ]  # fmt: skip


def test_a_monitor_of_another_cell_is_not_this_cells(cell) -> None:
    cell.writes("safety_monitor", "arm/joint_trajectory")
    cell.writes("safety_monitor", "/arm/joint_trajectory", namespace="left")
    errors = [line for level, line in cell.findings() if level == "error"]
    assert errors == [
        "command: /left/safety_monitor publishes on /arm/joint_trajectory; nobody else may: end it"
    ]


def test_a_cell_whose_monitor_does_not_run_is_doubted(cell) -> None:
    cell.writes("safety_monitor", "arm/joint_trajectory", namespace="left")
    said = "command: /safety_monitor does not run, or is not this cell's; start it: nothing gates "
    assert any(line.startswith(said) for level, line in cell.findings() if level == "warning")


@pytest.mark.parametrize("kind", [JointTrajectory, Float64MultiArray])
def test_a_controller_that_somebody_else_commands_is_doubted(cell, kind) -> None:
    topic = "/other/commands" if kind is Float64MultiArray else "/other/joint_trajectory"
    cell.writes("safety_monitor", f"{CONTROLLER}/joint_trajectory")
    cell.controller()
    cell.controller("other", kind)
    assert not [f for f in cell.findings() if f[0] != "ok"], "one that nobody commands is well"
    cell.writes("teleop_twist", topic, kind)
    ((level, line),) = [f for f in cell.findings() if f[0] != "ok"]
    assert level == "warning"
    assert f"/teleop_twist publishes on {topic}, which the controller /other hears" in line
    levels = [level for level, line in cell.findings(watch=["other/joint_trajectory",
                                                            "other/commands"])
              if "/teleop_twist" in line]  # fmt: skip
    assert levels == ["error"], "what is watched keeps the arm from being enabled"


def test_a_client_of_the_controllers_own_action_is_doubted_and_of_the_gates_is_not(cell) -> None:
    actions = pytest.importorskip("control_msgs.action", reason="needs control_msgs")
    cell.writes("safety_monitor", f"{CONTROLLER}/joint_trajectory")
    cell.controller()
    kind = actions.FollowJointTrajectory
    clients = [
        (cell.node(name).node, f"{action}/follow_joint_trajectory")
        for name, action in (("move_group", "arm_controller"), ("rqt", CONTROLLER))
    ]
    made = [ActionClient(node, kind, action) for node, action in clients]

    def doubted() -> list[str]:
        return [line for level, line in cell.findings() if level == "warning"]

    wait_until(doubted, 10, "the client is discovered")
    assert len(doubted()) == 1
    assert (
        f"/rqt has a client of /{CONTROLLER}/follow_joint_trajectory; if that moves" in doubted()[0]
    )
    for client in made:
        client.destroy()


def test_a_node_that_goes_while_it_is_looked_at_is_no_failure(cell, monkeypatch) -> None:
    from smolvla_ros.ros import commanding as module

    def gone(node, name, namespace):
        raise RuntimeError("Failed to get action client names and type: error not set")

    monkeypatch.setattr(module, "get_action_client_names_and_types_by_node", gone)
    cell.writes("safety_monitor", "arm/joint_trajectory")
    assert all(level != "error" for level, _ in cell.findings())
