"""Evaluation: what is tried, how it is counted, and whole runs in simulated time."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from cells import TABLETOP
from PIL import Image

from smolvla_ros.cell import load_cell
from smolvla_ros.cli.main import main
from smolvla_ros.learn import tasks
from smolvla_ros.learn.evaluate import FastEpisodes, Setup, run_fast
from smolvla_ros.learn.sheet import choose
from smolvla_ros.learn.statistics import rate
from smolvla_ros.learn.trials import NONE, OTHER, SAME, Outcome, Trial, plan, summarise, table
from smolvla_ros.sim.judge import KINDS

SEED = 60000
BLOCKS = ("red", "green", "blue")


# -- statistics -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Wilson's score interval, z = 1.96, worked out by hand from its formula.
    [(8, 10, 0.4902, 0.9433), (0, 20, 0.0, 0.1611), (97, 100, 0.9155, 0.9897), (1, 1, 0.2065, 1.0)],
)
def test_the_interval_is_wilsons(successes, n, low, high) -> None:
    assert rate(successes, n) == {"n": n, "success": successes / n, "ci95": [low, high]}


def test_nothing_tried_says_nothing() -> None:
    assert rate(0, 0) == {"n": 0, "success": None, "ci95": [0.0, 1.0]}


# -- what is tried ----------------------------------------------------------------------


def test_the_judge_knows_every_task() -> None:
    assert set(KINDS) == set(tasks.TASKS)


def test_tasks_and_colours_come_in_turn_in_words_that_no_training_used() -> None:
    trials = plan(range(SEED, SEED + 60), BLOCKS)
    same = [t for t in trials if t.check == SAME]
    assert [t.seed for t in same] == list(range(SEED, SEED + 60))
    count = {(k, b): 0 for k in tasks.TASKS for b in BLOCKS}
    for trial in same:
        count[trial.task.kind, trial.task.block] += 1
        assert tasks.parse_task(trial.instruction) == trial.task
    assert set(count.values()) == {10}
    assert not {t.instruction for t in trials} & set(tasks.training_texts())
    assert len({t.instruction for t in same}) > 20


def test_a_scenes_trial_does_not_depend_on_the_others() -> None:
    one = plan([SEED + 7], BLOCKS)
    assert one == [t for t in plan(range(SEED, SEED + 10), BLOCKS) if t.seed == SEED + 7]


def test_the_language_check_uses_the_same_scenes() -> None:
    trials = plan(range(SEED, SEED + 30), BLOCKS, language=20)
    by_check = {c: {t.seed: t for t in trials if t.check == c} for c in (SAME, OTHER, NONE)}
    assert len(trials) == 70
    for seed, other in by_check[OTHER].items():
        named = by_check[SAME][seed].task
        assert other.task.kind == named.kind and other.task.block != named.block
        assert tasks.parse_task(by_check[NONE][seed].instruction) is None
    assert plan(range(SEED, SEED + 3), BLOCKS, ("pick",), language=0) == [
        t for t in plan(range(SEED, SEED + 3), BLOCKS, ("pick",)) if t.check == SAME
    ]


# -- figures ----------------------------------------------------------------------------


def made(task: str, success: bool, check: str = SAME, **values) -> Outcome:
    kind_block = task.split()
    trial = Trial(SEED, tasks.Task(*kind_block) if kind_block else None, "words", 10.0, check)
    return Outcome(trial, success, 2.0 if success else None, 3.0, **values)


def test_the_summary_counts_what_happened() -> None:
    outcomes = [
        made("touch red", True, touched=("red",), min_clearance=0.02),
        made("touch red", False, touched=("blue",)),
        made("touch blue", True, checks={"slow": 5, "no_command": 3},
             verdicts={"slowed": 5, "held": 4}),
        made("pick green", False, touched=("red", "green"), lifted=("green",)),
        made("pick green", False, lifted=("red",), contacts={"table": 2}, stopped="blocked",
             limit_violations=3, clearance_breaches=1, min_clearance=0.004),
        made("touch green", True, OTHER),
        made("", False, NONE, touched=("red",)),
        made("", False, NONE, contacts={"table": 1}),
    ]  # fmt: skip
    found = summarise(outcomes, tasks.TASKS, BLOCKS)
    touch, pick = found["tasks"]["touch"], found["tasks"]["pick"]
    assert (touch["n"], touch["success"], touch["wrong_colour"]) == (3, 0.6667, 0.3333)
    assert touch["colours"]["red"]["success"] == 0.5 and touch["colours"]["green"]["n"] == 0
    assert touch["seconds_p50"] == 2.0 and pick["seconds_p50"] is None
    # Touching another block on the way does not make a pick the wrong one; lifting it does.
    assert (pick["n"], pick["success"], pick["wrong_colour"]) == (2, 0.0, 0.5)
    assert found["language"]["other_colour"]["touch"]["success"] == 1.0
    assert found["language"]["no_block"]["touched_any"] == 0.5
    assert found["limit_violations"] == 3 and found["clearance_breaches"] == 1
    assert found["min_clearance_m"] == 0.004
    assert found["contacts"]["table"] == {"count": 3, "episodes": 2}
    # Holding because nothing was asked is no intervention.
    assert found["interventions"]["checks"] == {"slow": 5}
    assert found["interventions"]["ticks"] == {"held": 1, "slowed": 5}
    assert found["interventions"]["stops"] == {"blocked": 1}
    json.dumps(found, allow_nan=False)
    assert "66.7%" in table(found) and "no block named" in table(found)


def test_the_sheet_shows_failures_first_and_some_successes() -> None:
    good = [True] * 30 + [False] * 5
    assert choose(good, 8) == [30, 31, 32, 33, 0, 1, 2, 3]
    assert choose([False] * 30 + [True] * 5, 8) == [0, 1, 2, 3, 30, 31, 32, 33]
    assert choose([True, False], 8) == [1, 0]


# -- episodes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cell():
    return load_cell(TABLETOP)


def two(language: int = 0) -> list[Trial]:
    return plan([SEED, SEED + 1], BLOCKS, language=language)


def test_the_expert_does_both_tasks_through_the_gate(cell) -> None:
    touch, pick = [o for o, _ in run_fast(Setup(cell, source="expert"), two())]
    assert touch.success and pick.success
    assert pick.lifted == (pick.trial.task.block,) and not pick.wrong
    for outcome in (touch, pick):
        assert outcome.limit_violations == outcome.clearance_breaches == 0
        assert outcome.min_clearance >= cell.safety_monitor.margin - cell.safety_monitor.slack
        assert 0.5 < outcome.seconds <= outcome.lasted + 1e-6 < outcome.trial.limit
        assert sum(outcome.verdicts.values()) == round(outcome.lasted * cell.safety_monitor.rate)


def test_an_instruction_without_a_block_leaves_the_blocks_alone(cell) -> None:
    trial = next(t for t in two(language=2) if t.check == NONE)
    (outcome, _) = FastEpisodes(Setup(cell, source="expert")).run(trial)
    assert outcome.touched == () and outcome.good and not outcome.success
    assert outcome.lasted == pytest.approx(trial.limit)


def test_two_workers_find_what_one_finds(cell) -> None:
    setup = Setup(cell, source="expert")
    alone = [o for o, _ in run_fast(setup, two())]
    together = sorted((o for o, _ in run_fast(setup, two(), workers=2)), key=lambda o: o.trial.seed)
    assert together == alone


def test_without_the_gate_the_figures_are_of_what_happened(cell) -> None:
    """A chunk that the gate would shape reaches the servos as it is, and is counted."""
    trial = Trial(SEED, tasks.Task("touch", "red"), "touch the red block", 1.0)
    for gate in ("off", "shadow"):
        episodes = FastEpisodes(Setup(cell, gate, "expert"))
        outcome, _ = episodes.run(trial)
        assert outcome.limit_violations > 0  # the expert leaves acceleration to the gate
        assert bool(outcome.verdicts) == (gate == "shadow")


def test_a_policy_takes_the_same_course_each_time(cell) -> None:
    trial = Trial(SEED, tasks.Task("touch", "red"), "touch the red block", 1.5)
    episodes = FastEpisodes(Setup(cell))
    first, _ = episodes.run(trial)
    again, _ = episodes.run(trial)
    assert first == again
    assert first.limit_violations == first.clearance_breaches == 0
    assert first.verdicts["passed"] > 20


# -- the command ------------------------------------------------------------------------


def test_a_run_writes_figures_films_and_a_sheet(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smolvla_ros.cli.main", "evaluate", "--fast", "--source", "expert",
         "--episodes", "2", "--seed", str(SEED), "--language", "1", "--limit", "6",
         "--json", tmp_path / "out.json", "--video", tmp_path / "films"],
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert {
        "tasks", "language", "limit_violations", "clearance_breaches", "interventions", "seconds",
        "min_clearance_m", "contacts", "mode", "gate", "seed",
    } <= set(found)  # fmt: skip
    for kind in ("touch", "pick"):
        assert {"n", "success", "ci95", "wrong_colour", "colours"} <= set(found["tasks"][kind])
        assert found["tasks"][kind]["n"] == 1 and found["tasks"][kind]["success"] == 1.0
    assert found["limit_violations"] == found["clearance_breaches"] == 0
    assert len(found["per_episode"]) == 4
    films = sorted(p.name for p in (tmp_path / "films").glob("*.mp4"))
    assert len(films) == 4 and f"{SEED}_touch_{BLOCKS[SEED // 2 % 3]}_success.mp4" in films
    with Image.open(tmp_path / "films" / "sheet.png") as sheet:
        assert sheet.size[0] == 1024
        assert np.asarray(sheet).std() > 20.0  # there is something to be seen
    assert "may be in the data of a training" in done.stdout
    assert "touch" in done.stdout and "100.0%" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "push"], "--task: is 'push'; write one of touch, pick"),
        (["--gate", "of"], "--gate: is 'of'; write one of on, off, shadow"),
        (["--episodes", "0"], "--episodes: is 0; write 1 or above"),
        (["--seed", "-1"], "--seed: is -1; write 0 or above"),
        (["--limit", "0"], "--limit: is 0.0; write seconds above 0"),
        (["--limit", "nan"], "--limit: is nan; write seconds above 0"),
        (["--workers", "2"], "--workers: is 2; the nodes run as they are: add --fast"),
        (["--source", "expert"], "--source: is expert; the nodes run as they are: add --fast"),
        (["--cell", "none.yaml"], "none.yaml: no such file"),
        (["--checkpoint", "no_such_folder", "--fast"], "'no_such_folder' is no folder"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(capsys, words, said) -> None:
    assert main(["evaluate", "--episodes", "1", "--language", "0", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_cell_without_a_simulator_is_refused(tmp_path, capsys) -> None:
    document = yaml.safe_load(TABLETOP.read_text())
    del document["/**/sim"]
    document["/**"]["ros__parameters"]["robot"] = {
        "urdf": str(TABLETOP.parent.parent / "urdf" / "so101.urdf"),
        "srdf": str(TABLETOP.parent.parent / "urdf" / "so101.srdf"),
    }
    path = tmp_path / "cell.yaml"
    path.write_text(yaml.safe_dump(document))
    assert main(["evaluate", "--fast", "--cell", str(path)]) == 2
    assert f"{path}: no section /**/sim: a simulated cell needs it" in capsys.readouterr().err
