"""A gate's inputs out of bags written by the library that others use."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from cells import TABLETOP

from smolvla_ros.cli.main import main

pytest.importorskip("rosbags", reason="the extra bags is not installed")

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

NAMES = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
READY = np.array([0.0, -0.5, 0.1, 1.5, 0.0, 0.5])
BEGIN = 1_700_000_000.0
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types


def stamp(t: float, kind: str = "Time"):
    nanoseconds = round(t * 1e9)
    return TYPES[f"builtin_interfaces/msg/{kind}"](
        sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9
    )


def header(t: float):
    return TYPES["std_msgs/msg/Header"](stamp=stamp(t), frame_id="")


def trajectory(t: float, speed: float = 0.3, names=NAMES):
    nothing = np.zeros(0)
    points = [
        TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
            positions=READY + np.eye(6)[0] * speed * k / 30, velocities=nothing,
            accelerations=nothing, effort=nothing, time_from_start=stamp(k / 30, "Duration"),
        )
        for k in range(50)
    ]  # fmt: skip
    return TYPES["trajectory_msgs/msg/JointTrajectory"](
        header=header(t), joint_names=list(names), points=points
    )


def joint_state(t: float, q=READY):
    nothing = np.zeros(0)
    return TYPES["sensor_msgs/msg/JointState"](
        header=header(t), name=NAMES[::-1], position=np.array(q)[::-1].copy(),
        velocity=nothing, effort=nothing,
    )  # fmt: skip


def array(values):
    layout = TYPES["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return TYPES["std_msgs/msg/Float64MultiArray"](layout=layout, data=np.array(values))


def write(path: Path, messages, plugin=StoragePlugin.SQLITE3, prefix: str = "") -> Path:
    """A bag of ``(seconds received, topic, message)``."""
    with Writer(path, version=9, storage_plugin=plugin) as bag:
        connections = {}
        for t, topic, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = bag.add_connection(prefix + topic, kind, typestore=STORE)
            raw = STORE.serialize_cdr(message, kind)
            bag.write(connections[topic], round(t * 1e9), raw)
    return path


def ordinary(begin: float = BEGIN):
    """Joint states at 50 Hz that follow, chunks every 0.4 s, a stop."""
    found = [
        (begin + 0.02 * k, "/joint_states", joint_state(begin, READY + np.eye(6)[0] * 0.006 * k))
        for k in range(60)
    ]
    for k in range(3):
        moved = trajectory(begin + 0.4 * k + 0.05)
        for point in moved.points:
            point.positions[0] += 0.12 * k
        found.append((begin + 0.4 * k + 0.1, "/policy/joint_trajectory", moved))
    found.append((begin + 1.15, "/stop", TYPES["std_msgs/msg/Bool"](data=True)))
    found.append((begin + 0.5, "/rosout", TYPES["std_msgs/msg/String"](data="of no interest")))
    return sorted(found, key=lambda m: m[0])


@pytest.fixture
def gate(tmp_path, capsys):
    """Run the command on a bag: (rows, summary)."""

    def run(bag: Path, cell: Path = TABLETOP):
        out = tmp_path / "out.jsonl"
        words = ["--cell", str(cell), "--in", str(bag), "--out", str(out), "--json"]
        assert main(["gate", *words]) == 0
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        return rows, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_bag_is_what_the_monitor_heard(plugin, gate, tmp_path):
    bag = write(tmp_path / "bag", ordinary(), plugin)
    rows, summary = gate(bag)
    assert summary["lines"] == 64, "rosout is nothing that the monitor hears"
    assert summary["refusals"] == {}
    assert summary["start"] == "joint states"
    states = [r["state"] for r in rows]
    assert "following" in states
    assert states[-1] == "stopped" and rows[-1]["reason"] == "stop: stop line"
    assert max(r["positions"][0] for r in rows) > 0.1
    assert rows[0]["t"] == BEGIN
    assert summary["travel_rad"] > 0.1


def test_what_was_sent_is_in_a_bag_too_and_no_input(gate, tmp_path, capsys):
    out = [(t, "/arm/joint_trajectory", m) for t, topic, m in ordinary() if "policy" in topic]
    bag = write(tmp_path / "bag", sorted(ordinary() + out, key=lambda m: m[0]))
    assert gate(bag) == gate(write(tmp_path / "without", ordinary()))
    found = tmp_path / "found.json"
    assert main(["clearance", "--cell", str(TABLETOP), "--in", str(bag), "--json", str(found)]) == 0
    figures = json.loads(found.read_text())
    assert figures["positions"] == {"measured": 60, "sent": len(out)}
    assert figures["zones"]["table"]["sent"]["clearance_m"] > 0.05
    assert "60 measured, 3 sent positions" in capsys.readouterr().out


def test_every_form_of_a_bag_gives_the_same_rows(gate, tmp_path):
    folders = [write(tmp_path / p.name, ordinary(), p) for p in StoragePlugin]
    files = [next(f.glob("*.mcap"), None) or next(f.glob("*.db3")) for f in folders]
    found = [gate(bag) for bag in (*folders, *files)]
    assert len(found) == 4
    assert all(one == found[0] for one in found[1:])


def test_a_namespace_is_found_and_two_are_an_error(gate, tmp_path, capsys):
    rows, _ = gate(write(tmp_path / "one", ordinary(), prefix="/left"))
    assert any(r["state"] == "following" for r in rows)
    both = [(t, "/left" + topic, m) for t, topic, m in ordinary()]
    both += [(t, "/right" + topic, m) for t, topic, m in ordinary()]
    bag = write(tmp_path / "two", sorted(both, key=lambda m: m[0]))
    assert main(["gate", "--cell", str(TABLETOP), "--in", str(bag)]) == 2
    text = capsys.readouterr().err
    assert "/left/joint_states or /right/joint_states" in text


def test_a_header_tells_how_old_a_command_is(gate, tmp_path):
    states = [(BEGIN + 0.02 * k, "/joint_states", joint_state(BEGIN)) for k in range(250)]
    late = [(BEGIN + 4.0, "/policy/joint_trajectory", trajectory(BEGIN + 1.0))]
    unstamped = [(BEGIN + 4.2, "/policy/joint_trajectory", trajectory(0.0))]
    messages = sorted(states + late + unstamped, key=lambda m: m[0])
    rows, summary = gate(write(tmp_path / "bag", messages))
    assert summary["refusals"] == {"too_old": 1}
    at = {round(r["t"] - BEGIN, 2): r["state"] for r in rows}
    assert at[4.1] == "holding"
    assert at[4.25] == "following"


def test_sources_of_every_type(gate, tmp_path):
    document = yaml.safe_load(TABLETOP.read_text())
    monitor = document["/**/safety_monitor"]["ros__parameters"]
    monitor["sources"] = {
        "teleop": {"topic": "teleop", "type": "JointState", "priority": 1},
        "array": {"topic": "array", "type": "Float64MultiArray", "joints": NAMES},
    }
    shared = document["/**"]["ros__parameters"]["robot"]
    for name in ("urdf", "srdf"):
        shared[name] = str((TABLETOP.parent / shared[name]).resolve())
    cell = tmp_path / "cell.yaml"
    cell.write_text(yaml.safe_dump(document, sort_keys=False))
    states = [(BEGIN + 0.02 * k, "/joint_states", joint_state(BEGIN)) for k in range(60)]
    asked = [
        (BEGIN + 0.1, "/array", array(READY)),
        (BEGIN + 0.2, "/array", array(READY[:5])),
        (BEGIN + 0.3, "/teleop", joint_state(BEGIN + 0.3)),
        (BEGIN + 0.4, "/array", array(READY)),
    ]
    messages = sorted(states + asked, key=lambda m: m[0])
    _, summary = gate(write(tmp_path / "bag", messages), cell)
    assert summary["refusals"] == {"wrong_length": 1, "lower_priority": 1}


def test_a_bag_without_anything_to_hear_says_what_it_holds(tmp_path, capsys):
    talk = [(BEGIN, "/chatter", TYPES["std_msgs/msg/String"](data="x"))]
    bag = write(tmp_path / "bag", talk)
    assert main(["gate", "--cell", str(TABLETOP), "--in", str(bag)]) == 2
    text = capsys.readouterr().err
    assert "joint_states" in text and "/chatter (std_msgs/msg/String)" in text


def test_a_bag_whose_topics_hold_nothing_says_so(tmp_path, capsys):
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
        bag.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=STORE)
    assert main(["gate", "--cell", str(TABLETOP), "--in", str(path)]) == 2
    assert "holds no message on /joint_states" in capsys.readouterr().err


SECOND = {"sec": 1, "nsec": 0}
QOS = [
    {
        "history": "keep_last", "depth": 10, "reliability": "reliable", "durability": "volatile",
        "deadline": SECOND, "lifespan": SECOND, "liveliness_lease_duration": SECOND,
        "liveliness": "automatic", "avoid_ros_namespace_conventions": False,
    }
]  # fmt: skip


def test_a_bag_whose_metadata_is_not_its_files_says_which_to_take(tmp_path, capsys):
    path = write(tmp_path / "bag", ordinary(), StoragePlugin.MCAP)
    metadata = path / "metadata.yaml"  # as reindexing leaves it
    document = yaml.safe_load(metadata.read_text())
    for topic in document["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = QOS
    metadata.write_text(yaml.safe_dump(document))
    code = main(["gate", "--cell", str(TABLETOP), "--in", str(path)])
    text = capsys.readouterr().err
    assert code == 2 and "is at odds with its files" in text and ".mcap" in text, text


def test_what_is_no_bag_is_an_error(tmp_path, capsys):
    for name in ("empty", "broken.mcap", "broken.db3"):
        path = tmp_path / name
        path.mkdir() if name == "empty" else path.write_bytes(b"nothing of the kind")
        assert main(["gate", "--cell", str(TABLETOP), "--in", str(path)]) == 2
        assert str(path) in capsys.readouterr().err


def test_without_the_library_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    bag = write(tmp_path / "bag", ordinary())
    for name in [n for n in sys.modules if n.split(".")[0] == "rosbags"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["gate", "--cell", str(TABLETOP), "--in", str(bag)]) == 2
    assert "smolvla_ros[bags]" in capsys.readouterr().err
