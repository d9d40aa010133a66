"""An emulated SO-101 in a process of its own: servos on a pseudo-terminal, MuJoCo behind them.

Commands come on standard input, one JSON object a line, each answered by one line:
``{"faults": {"corrupt": 0.01, "dead": [3]}}``, ``{"unplug": 2.0}`` (s from now on, then plugged in
again), ``{"alarm": ["gripper", 32]}``, ``{"hot": ["gripper", 75]}`` (degrees Celsius), ``{"id":
["gripper", 5]}``, ``{"lose_power": 0.2}`` (s that the servos take to start), ``{"save":
"goals.npz"}``, ``{"look": true}``. It ends with its standard input.

With ``--pictures`` it is the simulator's node as well, whose cameras see the arm that the servos
move.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from feetech_bus import FeetechBus, Simulated, so101_servos, write_calibration

from smolvla_ros.cell import beside, load_cell, load_robot
from smolvla_ros.ros.scheduling import go_second
from smolvla_ros.share import share

READY = "ready"  # the first line that it says


def obey(bus: FeetechBus, words: dict[str, Any]) -> dict[str, Any]:
    """Carry out one command."""
    for name, value in words.get("faults", {}).items():
        setattr(bus.faults, name, set(value) if name == "dead" else value)
    if "unplug" in words:
        bus.unplug()
        again = threading.Timer(words["unplug"], bus.plug)
        again.daemon = True
        again.start()
    if "alarm" in words:
        bus.raise_alarm(words["alarm"][0], bits=words["alarm"][1])
    if "hot" in words:
        bus.raise_alarm(words["hot"][0], temperature=words["hot"][1])
    if "id" in words:
        bus.servo(words["id"][0]).id = words["id"][1]
    if "lose_power" in words:
        bus.lose_power(words["lose_power"])
    if "save" in words:
        rows = list(bus.goals)
        ids = [s.id for s in bus.servos]
        ticks = np.array([[row.get(i, -1) for i in ids] for _, row in rows], dtype=int)
        np.savez(
            words["save"],
            times=np.array([t for t, _ in rows]),
            ticks=ticks.reshape(len(rows), len(ids)),
            zeros=np.array([s.zero for s in bus.servos]),
        )
    return {
        "goals": len(bus.goals),
        "torque": all(bus.torque().values()),
        "q": bus.plant.read()[0].tolist(),
        "counts": dict(bus.counts),
    }


def listen(bus: FeetechBus) -> None:
    """Until standard input ends."""
    print(READY, flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(bus, json.loads(line))), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True, help="folder for mine.json")
    parser.add_argument("--pictures", action="store_true")
    arguments, rest = parser.parse_known_args()
    cell = load_cell(share("config", "so101_tabletop.yaml"))
    robot = load_robot(cell.sim.robot, cell.path)
    servos, calibration = so101_servos(robot)
    write_calibration(arguments.calibration, "mine", calibration)
    if arguments.pictures:
        return _with_pictures(arguments.port, servos, rest)
    from smolvla_ros.sim.scene import load_scene
    from smolvla_ros.sim.world import World

    scene = load_scene(beside(cell.path, cell.sim.scene))
    plant = Simulated(World(robot, scene, 0, robot.pose("ready")))
    closing = threading.Event()
    physics = threading.Thread(target=plant.run, args=(closing,), daemon=True)
    physics.start()
    with FeetechBus(arguments.port, plant, servos) as bus:
        # Servos answer in their own time, whatever this machine is doing.
        sys.setswitchinterval(0.0001)
        go_second()
        listen(bus)
        closing.set()
        physics.join()
    return 0


def _with_pictures(port: Path, servos, rest: list[str]) -> int:
    from smolvla_ros.nodes.sim_node import SimNode
    from smolvla_ros.ros.run import run

    class BusSim(SimNode):
        def __init__(self) -> None:
            super().__init__()
            self._bus = FeetechBus(port, Simulated(self._world, self._lock), servos)
            self._bus.__enter__()
            threading.Thread(target=self._listen, daemon=True).start()

        def _listen(self) -> None:
            listen(self._bus)
            os.kill(os.getpid(), 2)

        def close(self) -> None:
            self._bus.__exit__()
            super().close()

    # What the simulated arm would say and hear is the servos' business here.
    remaps = ["-r", "joint_states:=sim/joint_states", "-r", "arm/joint_trajectory:=sim/unused"]
    path = share("config", "so101_tabletop.yaml")
    sys.argv = [sys.argv[0], "--ros-args", "--params-file", str(path), *remaps, *rest]
    return run(BusSim, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
