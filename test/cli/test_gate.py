"""``smolvla-ros gate``: files in, rows out, as a user runs it."""

from __future__ import annotations

import functools
import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import yaml
from arms import write_mesh
from cells import TABLETOP, tabletop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from smolvla_ros.cell import load_gate
from smolvla_ros.cli.main import main
from smolvla_ros.safety.offline import Replay, read_lines, row
from smolvla_ros.safety.recording import Ring, command_line
from smolvla_ros.share import share

NAMES = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
READY = [0.0, -0.5, 0.1, 1.5, 0.0, 0.5]
SO101 = ["--urdf", str(share("urdf", "so101.urdf")), "--srdf", str(share("urdf", "so101.srdf"))]


def chunk(start=READY, joint: int = 0, speed: float = 0.3, rows: int = 50) -> dict:
    """A chunk at 30 Hz that moves one joint away from ``start`` at ``speed`` rad/s."""
    points = []
    for k in range(rows):
        q = list(start)
        q[joint] += speed * k / 30
        points.append({"t": k / 30, "positions": q})
    return {"names": NAMES, "points": points}


def measured(q=READY) -> dict:
    return {"names": NAMES, "positions": list(q)}


@pytest.fixture
def gate(tmp_path, capsys):
    """Run the command on lines: (rows, summary)."""

    def run(lines, *arguments, cell=("--cell", str(TABLETOP))):
        given = tmp_path / "in.jsonl"
        given.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
        out = tmp_path / "out.jsonl"
        code = main(["gate", *cell, "--in", str(given), "--out", str(out), "--json", *arguments])
        assert code == 0
        rows = [
            json.loads(line, parse_constant=pytest.fail) for line in out.read_text().splitlines()
        ]
        return rows, json.loads(capsys.readouterr().out)

    return run


def refused(path, *arguments, capsys) -> str:
    """The errors of a run that must end with 2 before anything is written."""
    out = path.parent / "never.jsonl"
    assert main(["gate", *arguments, "--in", str(path), "--out", str(out)]) == 2
    assert not out.exists()
    return capsys.readouterr().err


def test_a_chunk_is_carried_out_tick_by_tick_until_rest(gate):
    rows, summary = gate([{"t": 5.0, "command": chunk(speed=0.3, rows=31)}])
    assert set(rows[0]) == {
        "t", "positions", "velocities", "state", "verdict", "reason", "clearance",
    }  # fmt: skip
    assert np.allclose([r["t"] for r in rows], 5.0 + 0.01 * np.arange(len(rows)), atol=1e-9)
    assert rows[-1]["state"] == "holding"
    assert rows[-1]["positions"] == pytest.approx([0.3, *READY[1:]], abs=0.03)
    positions = np.array([READY, *(r["positions"] for r in rows)])
    assert np.allclose(np.diff(positions, axis=0) / 0.01, [r["velocities"] for r in rows])
    assert summary["ticks"] == len(rows) == sum(summary["states"].values())
    assert summary["verdicts"]["passed"] > 90
    assert summary["refusals"] == {}
    assert summary["travel_rad"] == pytest.approx(np.abs(np.diff(positions[1:], axis=0)).sum())
    assert summary["start"] == "group_state 'ready'"
    assert summary["min_clearance_m"] == min(r["clearance"] for r in rows)


def test_an_arm_that_was_elsewhere_may_be_taken_to_follow(gate, tmp_path):
    # As in a bag of shadow mode, or of another gate: joint states that the motion did not make.
    lines = [{"t": 0.02 * k, "joint_state": measured()} for k in range(120)]
    lines += [{"t": 0.1, "command": chunk(speed=0.6, rows=31)}]
    lines.sort(key=lambda line: line["t"])
    _, summary = gate(lines)
    assert summary["checks"].get("frozen"), "as recorded, it stands"
    follow = gate(lines, "--follow")
    assert follow[0][-1]["positions"][0] == pytest.approx(0.6, abs=0.06)
    assert set(follow[1]["verdicts"]) <= {"passed", "held"} and not follow[1]["refusals"]
    document = yaml.safe_load(TABLETOP.read_text())
    document["/**/safety_monitor"]["ros__parameters"]["shadow"] = True
    robot = document["/**"]["ros__parameters"]["robot"]
    for name in robot:
        robot[name] = str((TABLETOP.parent / robot[name]).resolve())
    shadow = tmp_path / "shadow.yaml"
    shadow.write_text(yaml.safe_dump(document, sort_keys=False))
    assert gate(lines, cell=("--cell", str(shadow))) == follow


def test_the_same_input_gives_the_same_bytes(tmp_path):
    given = tmp_path / "in.jsonl"
    lines = [{"t": 0.1 * k, "command": chunk(joint=1, speed=0.9)} for k in range(8)]
    given.write_text("\n".join(map(json.dumps, lines)))
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        words = ["gate", "--cell", str(TABLETOP), "--in", str(given), "--out", str(out)]
        subprocess.run([sys.executable, "-m", "smolvla_ros.cli.main", *words], check=True)
    assert outs[0].read_bytes() == outs[1].read_bytes() != b""


def test_it_runs_where_there_is_no_ros(tmp_path):
    given = tmp_path / "in.jsonl"
    given.write_text(json.dumps({"t": 0, "command": chunk()}))
    program = (
        "import sys; sys.modules |= dict.fromkeys(['rclpy', 'torch', 'lerobot', 'mujoco'])\n"
        "from smolvla_ros.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["gate", "--cell", str(TABLETOP), "--in", str(given)]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["state"] == "following"
    assert "passed" in done.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"t": 0, "enable": true}', "nonsense"], "line 2: is no JSON"),
        (['{"enable": true}'], "line 1: has no time"),
        (['{"t": "0", "enable": true}'], "line 1: t is '0'"),
        (['{"t": NaN, "enable": true}'], "line 1: t is nan"),
        (['{"t": 1' + "0" * 400 + "}"], "line 1: t is 1000"),
        (['{"t": true, "enable": true}'], "line 1: t is True"),
        (['{"t": 2, "stop": 1}', "", '{"t": 1, "stop": 1}'], "line 3: t goes back from 2.0 to 1"),
        (['{"t": 0, "comand": {}}'], "line 1: unknown key 'comand'"),
        (["[1, 2]"], "line 1: is list"),
        (["[" * 100_000], "line 1:"),
        ([], "holds no line"),
        (['{"t": 0, "stop": 1}', '{"t": 1700000000, "stop": 1}'], "spans 1700000000 s"),
    ],
)
def test_a_file_of_another_shape_is_an_error_before_anything_runs(lines, said, tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(lines))
    text = refused(path, "--cell", str(TABLETOP), capsys=capsys)
    assert f"{path}: " in text
    assert said in text


def test_every_wrong_line_is_named_at_once(tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"t": 0, "stop": 1}\nx\n{"t": 1}\ny\n')
    text = refused(path, "--cell", str(TABLETOP), capsys=capsys)
    assert "line 2" in text and "line 4" in text and "line 3" not in text
    path.write_bytes(b"\xff\xfe")
    assert "UTF-8" in refused(path, "--cell", str(TABLETOP), capsys=capsys)


def changed(**fields) -> dict:
    return chunk(rows=4) | fields


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (changed(points=[{"t": 0, "positions": [math.nan] * 6}]), "not_finite"),
        (changed(points=[{"t": 0, "positions": [math.inf] * 6}]), "not_finite"),
        (changed(points=[{"t": math.nan, "positions": READY}]), "not_finite"),
        (changed(stamp=math.nan), "not_finite"),
        (changed(points=[{"t": 0, "positions": READY[:5]}]), "wrong_length"),
        (changed(names=[*NAMES[:5], "wing"]), "unknown_joint"),
        (changed(names=NAMES[:5], points=[{"t": 0, "positions": READY[:5]}]), "missing_joint"),
        (changed(names=[*NAMES[:5], NAMES[0]]), "duplicate_joint"),
        (changed(points=[]), "empty"),
        (changed(points=[{"t": k, "positions": READY} for k in range(5000)]), "too_long"),
        (changed(points=[{"t": k, "positions": READY} for k in (1, 0)]), "time_order"),
        (changed(points=[{"t": 0, "positions": [1e6, *READY[1:]]}]), "out_of_range"),
        (changed(source="nobody"), "unknown_source"),
        (changed(source=[1]), "unknown_source"),
        (changed(stamp=-60.0), "before_enable"),
        (changed(stamp=60.0), "future"),
        (changed(stamp="now"), "malformed"),
        ({"names": NAMES}, "malformed"),
        ({"points": chunk()["points"]}, "malformed"),
        (changed(points=[{"t": 0}]), "malformed"),
        (changed(points=[{"t": 0, "positions": ["0.1"] * 6}]), "malformed"),
        (changed(points=[{"t": 0, "positions": [10**400] * 6}]), "malformed"),
        (changed(points=[{"t": 0, "positions": [True] * 6}]), "malformed"),
        (changed(points={"t": 0, "positions": READY}), "malformed"),
        (changed(names="shoulder_pan"), "malformed"),
        (None, "malformed"),
        (3, "malformed"),
    ],
)  # fmt: skip
def test_a_bad_command_is_refused_and_counted_and_what_runs_goes_on(command, word, gate):
    good = [{"t": t, "command": chunk(speed=0.1)} for t in (0.0, 0.4)]
    rows, summary = gate([good[0], {"t": 0.2, "command": command}, good[1]])
    alone, _ = gate(good)
    assert summary["refusals"] == {word: 1}
    assert rows == alone


def test_degrees_stop_the_arm(gate):
    degrees = chunk([0.0, -30.0, 6.0, 85.0, 0.0, 50.0])
    rows, summary = gate([{"t": 0, "command": chunk()}, {"t": 0.2, "command": degrees}])
    assert rows[-1]["state"] == "stopped"
    assert rows[-1]["reason"].startswith("units: ")
    assert summary["final_state"] == "stopped"
    assert "degrees" in summary["stop_reason"]


def test_a_stop_latches_until_reset_and_enable_and_a_new_command(gate):
    rows, summary = gate(
        [
            {"t": 0.0, "command": chunk()},
            {"t": 0.5, "stop": False},  # any message stops
            {"t": 0.8, "command": chunk()},
            {"t": 1.0, "reset": True},
            {"t": 1.1, "command": chunk()},
            {"t": 1.2, "enable": True},
            {"t": 1.3, "command": chunk(speed=0.0)},
            {"t": 1.6, "output": {"state": "holding"}},
        ],
    )  # fmt: skip
    assert rows[0]["positions"] is None, "with an enabling line nothing is enabled before it"
    at = {round(r["t"], 3): r for r in rows}
    assert at[0.4]["state"] == "disabled"
    assert at[0.9]["state"] == "stopped" and at[0.9]["reason"] == "stop: stop line"
    assert at[1.1]["state"] == "disabled"
    assert at[1.25]["state"] == "holding"
    assert at[1.35]["state"] == "following"
    assert summary["refusals"]["not_enabled"] == 3


def test_without_an_enabling_line_it_is_enabled_once(gate):
    rows, _ = gate(
        [
            {"t": 0.0, "command": chunk()},
            {"t": 0.5, "stop": True},
            {"t": 1.0, "reset": True},
            {"t": 1.5, "output": None},
        ]
    )
    assert rows[10]["state"] == "following"
    assert rows[-1]["state"] == "disabled"
    assert rows[-1]["positions"] is None


def test_a_disabling_line_brakes_and_lets_go(gate):
    rows, _ = gate(
        [{"t": 0, "enable": True}, {"t": 0, "command": chunk()}, {"t": 0.5, "enable": False}]
    )
    states = [r["state"] for r in rows]
    assert states[45] == "following"
    assert "braking" in states
    assert states[-1] == "disabled"


def test_joint_states_are_the_arm_and_their_end_stops_it(gate):
    lines = [{"t": 0.0, "command": chunk()}, {"t": 0.0, "joint_state": measured()}]
    lines += [
        {"t": 0.02 * k, "joint_state": measured([0.006 * k, *READY[1:]])} for k in range(1, 20)
    ]
    rows, summary = gate(lines)
    assert rows[0]["state"] == "following", "of one instant the joint state comes first"
    assert summary["start"] == "joint states"
    assert rows[-1]["state"] == "stopped"
    assert rows[-1]["reason"].startswith("joint_state_age")


def test_nothing_is_enabled_before_every_joint_is_measured(gate):
    half = {"names": NAMES[:3], "positions": READY[:3]}
    rest = {"names": [*NAMES[:2:-1], "other"], "positions": [*READY[:2:-1], 7.0]}
    rows, summary = gate(
        [{"t": 0, "joint_state": half}, {"t": 0.1, "joint_state": rest}, {"t": 0.15, "stop": 1}]
    )
    states = [r["state"] for r in rows]
    assert states[:10] == ["waiting"] * 10
    assert states[10] == "holding"
    assert rows[12]["positions"] == READY
    assert summary["refusals"] == {}


@pytest.mark.parametrize(
    "state", [None, 5, {"names": NAMES}, {"names": NAMES, "positions": ["1"] * 6}]
)
def test_a_joint_state_that_cannot_be_read_is_refused(state, gate):
    rows, summary = gate([{"t": 0, "joint_state": state}, {"t": 0.1, "joint_state": measured()}])
    assert rows[5]["state"] == "waiting"
    assert rows[-1]["state"] != "waiting"
    assert summary["refusals"] == {"malformed": 1}


def test_an_obstacle_bars_the_way_and_a_bad_one_is_refused(gate):
    wall = {"id": "wall", "shape": "box", "size": [0.3, 0.02, 0.4], "position": [0.25, -0.12, 0.2]}
    lines = [{"t": 0.3 * k, "command": chunk(speed=0.6)} for k in range(4)]
    free, _ = gate(lines)
    seen = [{"t": 0.3 * k, "obstacles": [wall]} for k in range(5)]
    both = sorted([*seen, *lines], key=lambda line: line["t"])
    barred, summary = gate(both)
    assert barred[-1]["positions"][0] < free[-1]["positions"][0] - 0.1
    assert summary["checks"]["obstacle"] > 0
    assert summary["min_clearance_m"] >= 0.009
    _, summary = gate([{"t": 0, "obstacles": [wall | {"size": [math.nan] * 3}, 3]}, {"t": 0}])
    assert summary["refusals"] == {"obstacle": 1}


def test_what_hindered_brakes_until_it_is_gone(gate):
    lines = [{"t": 0.2 * k, "command": chunk(rows=30) | {"stamp": 0.2 * k}} for k in range(2)]
    gone = {"t": 0.5, "hinder": {"check": "planning_scene", "detail": "no word of it"}}
    back = {"t": 1.5, "hinder": {"check": "planning_scene", "detail": ""}}
    rows, summary = gate([*lines, gone, back, {"t": 2.0, "stop": True}])
    braked = [r for r in rows if r["reason"] == "planning_scene: no word of it"]
    assert braked and not np.any(braked[-1]["velocities"])
    assert summary["checks"]["planning_scene"] > 50
    _, summary = gate(
        [gone | {"t": 0}, {"t": 0.1, "joint_state": measured()}, {"t": 0.2, "hinder": 3}]
    )
    assert "no word of it" in summary["not_enabled"]


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("rest", [0.0, -1.72, 1.48, 1.1, 0.0, 0.0]),
        ("shoulder_pan=0.2, gripper=0.1", [0.2, -0.5, 0.1, 1.5, 0.0, 0.1]),
        ("0.1 -0.5 0.1 1.5 0 0.5", [0.1, -0.5, 0.1, 1.5, 0.0, 0.5]),
    ],
)
def test_the_arm_starts_where_it_is_told_to(start, first, gate):
    rows, _ = gate([{"t": 0}], "--start", start)
    assert rows[0]["positions"] == first


@pytest.mark.parametrize("start", ["nowhere", "0 0", "wing=1", "shoulder_pan=x", "nan 0 0 0 0 0"])
def test_a_start_that_is_none_names_what_there_is(start, tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_text('{"t": 0}')
    text = refused(path, "--cell", str(TABLETOP), "--start", start, capsys=capsys)
    assert "--start" in text and "shoulder_pan" in text


def test_any_arm_by_its_urdf_with_zones_of_a_file(gate, tmp_path):
    zone = {"kind": "keep_out", "shape": "box", "size": [0.3, 0.02, 0.4]}
    zones = tmp_path / "zones.yaml"
    zones.write_text(json.dumps({"zones": {"wall": zone | {"position": [0.25, -0.12, 0.2]}}}))
    arguments = (*SO101, "--acceleration", "15", "--velocity", "1.5")
    lines = [{"t": 0.3 * k, "command": chunk(speed=0.6)} for k in range(4)]
    free, _ = gate(lines, cell=arguments)
    barred, summary = gate(lines, cell=(*arguments, "--zones", str(zones)))
    assert free[1]["t"] == 0.004
    assert barred[-1]["positions"][0] < free[-1]["positions"][0] - 0.1
    assert summary["checks"]["keep_out"] > 0
    assert summary["min_clearance_m"] >= 0.009


def test_a_mesh_of_a_zones_file_lies_beside_it(gate, tmp_path):
    corners = np.array([(x, y, z) for x in (0.1, 0.4) for y in (-0.13, -0.11) for z in (0, 0.4)])
    write_mesh(tmp_path / "zones" / "wall.stl", corners, ConvexHull(corners).simplices)
    zones = tmp_path / "zones" / "zones.yaml"
    zones.write_text(json.dumps({"w": {"kind": "keep_out", "shape": "mesh", "mesh": "wall.stl"}}))
    arguments = (*SO101, "--acceleration", "15", "--velocity", "1.5", "--zones", str(zones))
    _, summary = gate(
        [{"t": 0.3 * k, "command": chunk(speed=0.6)} for k in range(4)], cell=arguments
    )
    assert summary["checks"]["keep_out"] > 0


def test_one_long_trajectory_runs_as_long_as_its_timeout_lets_it(gate):
    arguments = (*SO101, "--acceleration", "15", "--velocity", "1.5")
    ends = [[READY[0] + turn, *READY[1:]] for turn in (0.0, 0.1)]
    points = [{"t": 3.0 * k, "positions": q} for k, q in enumerate(ends)]
    lines = [{"t": 0, "command": {"names": NAMES, "points": points}}, {"t": 4}]
    short, _ = gate(lines, cell=arguments)
    whole, _ = gate(lines, cell=(*arguments, "--command-timeout", "5"))
    assert short[-1]["positions"][0] < READY[0] + 0.05
    assert whole[-1]["positions"][0] == pytest.approx(READY[0] + 0.1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --cell FILE, or --urdf"),
        (["--cell", str(TABLETOP), "--acceleration", "3"], "--cell: goes alone"),
        (SO101, "acceleration"),
        ([*SO101[:2], "--acceleration", "3"], "srdf"),
        ([*SO101, "--acceleration", "-3"], "acceleration"),
        ([*SO101, "--acceleration", "3", "--zones", "nowhere.yaml"], "--zones"),
        (["--cell", str(TABLETOP), "--after", "-1"], "--after"),
        (["--cell", str(TABLETOP), "--json", "--out", "-"], "--out FILE"),
    ],
)
def test_arguments_that_do_not_fit_end_with_2(arguments, said, tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_text('{"t": 0}')
    assert main(["gate", "--in", str(path), *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_standard_input_and_output(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"t": 0, "enable": true}\n'))
    assert main(["gate", "--cell", str(TABLETOP), "--in", "-"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["state"] == "holding"


def test_rows_that_nobody_reads_on_are_no_error(tmp_path):
    given = tmp_path / "in.jsonl"
    given.write_text("\n".join(json.dumps({"t": k, "command": chunk()}) for k in range(30)))
    words = [sys.executable, "-m", "smolvla_ros.cli.main", "gate", "--cell", str(TABLETOP)]
    run = subprocess.Popen(
        [*words, "--in", str(given)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout.readline().startswith('{"t": 0.0')
    run.stdout.close()
    said = run.stderr.read()
    assert run.wait(60) == 0
    assert "Traceback" not in said and "Exception" not in said


def test_a_gate_that_could_not_be_enabled_says_why(gate, tmp_path):
    cell = tmp_path / "cell.yaml"
    text = TABLETOP.read_text().replace("../urdf", str(TABLETOP.parents[1] / "urdf"))
    cell.write_text(text.replace("rate: 100.0", "rate: 100.0\n    stop_heartbeat: 0.5", 1))
    lines = [{"t": 0.1 * k, "command": chunk()} for k in range(5)]
    rows, summary = gate(lines, cell=("--cell", str(cell)))
    assert {r["state"] for r in rows} == {"disabled"}
    assert "heartbeat" in summary["not_enabled"]
    assert summary["refusals"] == {"not_enabled": 5}
    beats = [{"t": 0.1 * k, "heartbeat": True} | line for k, line in enumerate(lines)]
    rows, summary = gate(beats, cell=("--cell", str(cell)))
    assert any(r["state"] == "following" for r in rows)
    assert rows[-1]["state"] == "stopped", "the file's end is silence"


def test_what_a_monitor_kept_of_a_stop_runs_again(gate):
    """The ring's own lines, its dropped beginning made good by what it says stood before."""
    ring = Ring(1.0)
    arm = fresh()
    ring.add(7.0, "joint_state", {"names": NAMES, "positions": READY})
    ring.add(7.0, "enable", True)
    q = READY
    lines = [json.dumps({"t": 7.0, "enable": True})]
    for k in range(6):
        command = chunk(speed=0.3, start=q)
        times = [p["t"] for p in command["points"]]
        positions = [p["positions"] for p in command["points"]]
        ring.add(7.0 + 0.3 * k, "command", command_line("policy", None, NAMES, times, positions))
        q = [q[0] + 0.09, *q[1:]]
        for j in range(30):
            state = {"names": NAMES, "positions": [READY[0] + 0.09 * (k + j / 30), *READY[1:]]}
            ring.add(7.0 + 0.3 * k + 0.01 * j, "joint_state", state)
    ring.add(8.8, "stop", True)
    lines = [json.dumps(line) for line in ring.lines()]
    assert read_lines(lines, "ring")[0].t > 7.5
    rows = [row(t, output) for t, output in Replay(arm, read_lines(lines, "ring"))]
    states = [r["state"] for r in rows]
    assert "following" in states
    assert states[-1] == "stopped"


ARM = functools.cache(tabletop)


def fresh():
    cell, robot = ARM()
    return load_gate(cell.safety_monitor, robot, cell.path)


numbers = st.one_of(st.floats(), st.integers(-(10**6), 10**6), st.just(10**400))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5), st.sampled_from(NAMES)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["source", "stamp", "names", "points", "t", "positions", "id"]),
            inner, max_size=4,
        ),
    ),
    max_leaves=12,
)  # fmt: skip
nearly = st.fixed_dictionaries(
    {"names": st.one_of(st.just(NAMES), anything)},
    optional={
        "points": st.one_of(st.just(chunk(rows=3)["points"]), anything),
        "stamp": anything,
        "source": st.one_of(st.just("policy"), anything),
        "positions": st.one_of(st.just(READY), anything),
    },
)
wild = st.sampled_from(["command", "joint_state", "obstacles", "heartbeat", "output"])


@settings(
    max_examples=120, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.lists(st.tuples(wild, st.one_of(anything, nearly)), min_size=1, max_size=12))
def test_no_content_whatever_ends_the_run(bodies):
    lines = ['{"t": 0, "enable": true}']
    lines += [json.dumps({"t": 0.02 * k, name: body}) for k, (name, body) in enumerate(bodies)]
    for t, output in Replay(fresh(), read_lines(lines, "wild"), np.array(READY)):
        json.dumps(row(t, output), allow_nan=False)
        if output.positions is not None:
            assert np.isfinite(output.positions).all()
