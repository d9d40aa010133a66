"""Judges a stream of set-points. Shares no code with the gate.

Own limits (URDF and cell read here), another geometry path (MuJoCo's distances), a denser
sweep, its own stops. It reads only what left the gate.
"""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ET
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
import yaml


class Oracle:
    """The promise of one cell file, checked from outside."""

    def __init__(self, cell: Path):
        document = yaml.safe_load(cell.read_text())
        shared = document["/**"]["ros__parameters"]
        monitor = document["/**/safety_monitor"]["ros__parameters"]
        urdf = cell.parent / shared["robot"]["urdf"]
        self.dt = 1.0 / monitor["rate"]
        self.margin = monitor["margin"]
        self.slack = monitor["slack"]
        self.braking_ratio = monitor.get("braking_ratio", 0.7)
        self.names: list[str] = []
        self._read_limits(urdf, monitor["limits"])
        self._build(urdf, cell.parent / shared["robot"]["srdf"], monitor["zones"])

    def _read_limits(self, urdf: Path, given: dict) -> None:
        rows = []
        for joint in ET.parse(urdf).getroot().iter("joint"):
            limit = joint.find("limit")
            if joint.get("type") not in ("revolute", "prismatic") or limit is None:
                continue
            sources = [
                given.get("every_joint", {}),
                given.get("joints", {}).get(joint.get("name"), {}),
            ]
            inward = given.get("position_margin", 0.0)
            rows.append(
                (
                    joint.get("name"),
                    float(limit.get("lower")) + inward,
                    float(limit.get("upper")) - inward,
                    min(
                        [float(limit.get("velocity"))]
                        + [s["velocity"] for s in sources if "velocity" in s]
                    ),
                    min(s["acceleration"] for s in sources if "acceleration" in s),
                )
            )
        self._limits = {row[0]: row[1:] for row in rows}

    def _build(self, urdf: Path, srdf: Path, zones: dict) -> None:
        spec = mujoco.MjSpec.from_file(str(urdf))
        spec.compiler.fusestatic = False
        links = [b.name for b in spec.bodies if b.name != "world"]
        allowed = {
            frozenset((e.get("link1"), e.get("link2")))
            for e in ET.parse(srdf).getroot().iter("disable_collisions")
        }
        self._inside: list[tuple[np.ndarray, np.ndarray, dict]] = []  # keep-in: centre, half
        walls: dict[str, dict] = {}
        for name, zone in zones.items():
            assert zone["shape"] == "box" and "rpy" not in zone, "this oracle knows upright boxes"
            centre, half = np.array(zone["position"]), np.array(zone["size"]) / 2
            if zone["kind"] == "keep_in":
                self._inside.append((centre, half, zone))
            elif zone["kind"] == "keep_out":
                spec.worldbody.add_geom(
                    name=f"zone_{name}", type=mujoco.mjtGeom.mjGEOM_BOX, size=half, pos=centre
                )
                walls[f"zone_{name}"] = zone
        model = self._model = spec.compile()
        self._data = mujoco.MjData(model)
        self.names = [model.joint(i).name for i in range(model.njnt)]
        table = np.array([self._limits[n] for n in self.names])
        self.lower, self.upper, self.velocity, self.acceleration = table.T
        body = {i: model.body(model.geom_bodyid[i]).name for i in range(model.ngeom)}
        moves = {i: body[i] not in ("world", "base_link") for i in range(model.ngeom)}
        self._pairs: list[tuple[int, int, float]] = []
        for a in range(model.ngeom):
            for b in range(a + 1, model.ngeom):
                if not (moves[a] or moves[b]) or body[a] == body[b]:
                    continue
                if body[a] in links and body[b] in links:
                    if frozenset((body[a], body[b])) not in allowed:
                        self._pairs.append((a, b, self.margin))
                else:
                    g, w = (b, a) if body[a] == "world" else (a, b)
                    zone = walls[model.geom(w).name]
                    if self._meant(zone, body[g]):
                        self._pairs.append((a, b, zone.get("margin", self.margin)))
        self._moving = [(i, body[i]) for i in range(model.ngeom) if moves[i]]

    @staticmethod
    def _meant(zone: dict, link: str) -> bool:
        return link in zone.get("links", [link]) and link not in zone.get("except_links", [])

    def room(self, q: np.ndarray) -> float:
        """Metres of clearance beyond the margin at ``q``; negative: too near."""
        m, d = self._model, self._data
        d.qpos[:] = q
        mujoco.mj_kinematics(m, d)
        worst = math.inf
        for a, b, margin in self._pairs:
            worst = min(worst, mujoco.mj_geomDistance(m, d, a, b, 0.3, None) - margin)
        for centre, half, zone in self._inside:
            for g, link in self._moving:
                if not self._meant(zone, link):
                    continue
                reach = np.abs(d.geom_xmat[g].reshape(3, 3)) @ m.geom_size[g]  # all are boxes
                worst = min(
                    worst,
                    float((half - reach - np.abs(d.geom_xpos[g] - centre)).min()) - self.margin,
                )
        return worst

    def findings(self, rows: np.ndarray, sweep: int = 4, stops_every: int = 10) -> list[str]:
        """Everything in a stream of set-points ``[N, D]`` that breaks the promise.

        The first row is a start at rest. ``sweep`` places are looked at between two rows;
        from every ``stops_every``-th row the stop is simulated.
        """
        found = []
        v = np.vstack([np.zeros(rows.shape[1]), np.diff(rows, axis=0) / self.dt])
        a = np.vstack([np.zeros(rows.shape[1]), np.diff(v, axis=0) / self.dt])
        if not np.isfinite(rows).all():
            found.append("not finite")
        for what, values, bound in (
            ("position", rows, None),
            ("velocity", np.abs(v), self.velocity),
            ("acceleration", np.abs(a), self.acceleration),
        ):
            if bound is None:
                bad = (values < self.lower - 1e-6) | (values > self.upper + 1e-6)
            else:
                bad = values > bound + 1e-6
            if bad.any():
                k, j = np.argwhere(bad)[0]
                found.append(f"{what} of {self.names[j]} at row {k}: {values[k, j]:.6f}")
        for k in range(1, len(rows)):
            if np.array_equal(rows[k], rows[k - 1]) and k > 1:
                continue
            for s in np.arange(1, sweep + 1) / sweep:
                room = self.room(rows[k - 1] + s * (rows[k] - rows[k - 1]))
                if room < -self.slack - 1e-6:
                    found.append(f"clearance at row {k}: {room * 1e3:.2f} mm beyond the margin")
                    break
            if found:
                return found
        for k in range(1, len(rows), stops_every):
            if np.any(v[k]) and not any(self._stops(rows[k], v[k], mode) for mode in (0, 1)):
                found.append(f"no stop from row {k}")
                break
        return found

    def _stops(self, q: np.ndarray, v: np.ndarray, each_joint: int) -> bool:
        """True if braking from (q, v), together or each joint for itself, stays inside."""
        brake = self.braking_ratio * self.acceleration * self.dt
        if not each_joint:  # one factor for all joints
            brake = np.abs(v) / max(1, math.ceil(np.max(np.abs(v) / brake) - 1e-9))
        else:
            brake = np.abs(v) / np.maximum(1, np.ceil(np.abs(v) / brake - 1e-9))
        q, v = q.copy(), v.copy()
        while np.any(np.abs(v) > 1e-12):
            v = np.sign(v) * np.maximum(0.0, np.abs(v) - brake)
            v[np.abs(v) < 1e-12] = 0.0
            q = q + v * self.dt
            if (q < self.lower - 1e-6).any() or (q > self.upper + 1e-6).any():
                return False
            if self.room(q) < -self.slack - 1e-6:
                return False
        return True
