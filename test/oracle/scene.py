"""One arm among its zones: which clearances must be kept, and what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull

from oracle.description import (
    Description,
    Shape,
    allowed_contacts,
    hull,
    pose_of,
    read_points,
)
from oracle.geometry import Kinematics, Meter, box_around, box_gap, extreme_points


@dataclass(frozen=True)
class Rule:
    """One clearance to keep: ``kind`` pair, wall, inside or slow; ``margin`` in metres."""

    name: str
    kind: str
    check: str
    margin: float
    zone: str = ""


class Scene:
    """Clearances of an arm for many configurations ``[N, D]`` at once.

    Args:
        description, srdf: the arm. zones: name -> mapping as in a cell file. margin: metres.
        base: folder that zones name meshes from. attached: (link, shape, pose ``[4, 4]``,
        links it may touch) fixed to the arm beside what the URDF has.
    """

    def __init__(self, description: Description, srdf, zones, margin, base=None, attached=()):
        self.description, self.srdf, self.zones, self.margin = description, srdf, zones, margin
        self.base = Path(base or ".")
        self.attached = tuple(attached)
        self.kinematics = Kinematics(description)
        self.names = self.kinematics.names
        parts = [(b.link, b.shape, b.pose, (), False) for b in description.bodies]
        parts += [(*a, True) for a in attached]
        self.rules: list[Rule] = []
        self._bodies = parts
        self._extra: list[tuple[Shape, np.ndarray]] = []
        self._pairs: list[tuple[int, int, int]] = []  # rule, a, b
        self._walls: list[tuple[int, int, np.ndarray, float]] = []
        self._inside: list[tuple[int, int, Shape, np.ndarray]] = []
        self._slow: list[tuple[str, list[tuple[int, int]], float]] = []
        self._against_itself()
        for name, zone in zones.items():
            self._against(name, zone)
        shapes = [p[1] for p in parts] + [shape for shape, _ in self._extra]
        self._meter = Meter(shapes) if shapes else None
        boxes = [box_around(s) for s in shapes]
        self._centre = np.array([b[0] for b in boxes])
        self._half = np.array([b[1] for b in boxes])
        self._radius = np.array(
            [
                s.size[0] if s.kind == "sphere"
                else np.linalg.norm(s.points - c, axis=1).max() if s.kind == "hull"
                else np.linalg.norm(h)
                for s, (c, h) in zip(shapes, boxes, strict=True)
            ]
        )  # fmt: skip
        self._shapes = shapes
        self._of = np.array(self._pairs, dtype=int).reshape(-1, 3)

    # -- building -----------------------------------------------------------------------

    def _against_itself(self) -> None:
        may = allowed_contacts(self.srdf, self.description.links, self.description.joints)
        moved = self.kinematics.moved_by
        for i, (link_a, _, _, touch_a, extra_a) in enumerate(self._bodies):
            for j in range(i + 1, len(self._bodies)):
                link_b, _, _, touch_b, extra_b = self._bodies[j]
                if link_a == link_b or moved[link_a] == moved[link_b]:
                    continue
                if link_b in touch_a or link_a in touch_b:
                    continue
                if not (extra_a or extra_b) and may(link_a, link_b):
                    continue
                self._pair(f"{link_a} ~ {link_b}", "self_collision", self.margin, i, j)

    def _pair(self, name, check, margin, a, b, zone="") -> None:
        self._pairs.append((len(self.rules), a, b))
        self.rules.append(Rule(name, "pair", check, margin, zone))

    def _against(self, name: str, zone: dict) -> None:
        frame = zone.get("frame") or self.kinematics.root
        assert not self.kinematics.moved_by[frame], f"{name}: {frame} moves"
        turn, place = self.kinematics.links(np.zeros((1, len(self.names))))[frame]
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn[0], place[0]
        pose = pose @ pose_of(zone.get("position", (0, 0, 0)), zone.get("rpy", (0, 0, 0)))
        selected = [
            i
            for i, (link, *_) in enumerate(self._bodies)
            if self.kinematics.moved_by[link]
            and (link in zone["links"] if zone.get("links") else link not in
                 zone.get("except_links", ()))
        ]  # fmt: skip
        margin = self.margin if zone.get("margin") is None else zone["margin"]
        kind, shape = zone["kind"], self._zone_shape(zone)
        if kind == "approach":
            return
        if shape is None:  # a half-space: below z = 0
            normal = pose[:3, 2] * (-1.0 if kind == "keep_in" else 1.0)
            walls = [(normal, float(normal @ pose[:3, 3]))]
        elif kind == "keep_in" and shape.kind == "box":
            walls = []
            for axis in range(3):
                for sign in (1.0, -1.0):
                    normal = -sign * pose[:3, axis]
                    walls.append((normal, float(normal @ pose[:3, 3]) - shape.size[axis]))
        else:
            walls = None
        if kind == "slow":
            assert walls is None, "a slow zone is a bounded shape here"
            index = len(self._bodies) + len(self._extra)
            self._extra.append((shape, pose))
            pairs = []
            for i in selected:
                pairs.append((i, index))
            self._slow.append((name, pairs, zone.get("margin") or 0.0))
            return
        for i in selected:
            label = f"{self._bodies[i][0]} ~ {name}"
            if walls is not None:
                for normal, offset in walls:
                    self._walls.append((len(self.rules), i, normal, offset))
                    self.rules.append(Rule(label, "wall", kind, margin, name))
            elif kind == "keep_in":
                self._inside.append((len(self.rules), i, shape, pose))
                self.rules.append(Rule(label, "inside", kind, margin, name))
            else:
                self._pair(label, kind, margin, i, len(self._bodies) + len(self._extra), name)
        if walls is None and kind == "keep_out":
            self._extra.append((shape, pose))

    def _zone_shape(self, zone) -> Shape | None:
        size = zone.get("size", [])
        match zone["shape"]:
            case "box":
                return Shape("box", tuple(x / 2 for x in size))
            case "sphere":
                return Shape("sphere", (size[0],))
            case "cylinder" | "capsule":
                return Shape(zone["shape"], (size[0], size[1] / 2))
            case "mesh":
                scale = zone.get("scale", 1.0)
                return hull(read_points(self.base / zone["mesh"]) * np.array(scale))
            case "half_space":
                return None
        raise ValueError(f"unknown shape {zone['shape']}")

    def changed(self, zones=None, margin=None) -> Scene:
        """The same arm among other zones."""
        return Scene(
            self.description,
            self.srdf,
            self.zones if zones is None else zones,
            self.margin if margin is None else margin,
            self.base,
            self.attached,
        )

    # -- measuring ----------------------------------------------------------------------

    def _poses(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotations ``[N, G, 3, 3]`` and origins ``[N, G, 3]`` of every shape."""
        links = self.kinematics.links(q)
        turns, places = [], []
        for link, _, pose, *_ in self._bodies:
            turn, place = links[link]
            turns.append(turn @ pose[:3, :3])
            places.append(place + turn @ pose[:3, 3])
        for _, pose in self._extra:
            turns.append(np.broadcast_to(pose[:3, :3], (len(q), 3, 3)))
            places.append(np.broadcast_to(pose[:3, 3], (len(q), 3)))
        return np.stack(turns, axis=1), np.stack(places, axis=1)

    def below(self, q: np.ndarray, floor: np.ndarray | float, rules=None):
        """Clearances under a floor: rows ``[K]``, rules ``[K]``, metres ``[K]``.

        Args:
            q: ``[N, D]`` rad. floor: a clearance for every rule, or one for all.
            rules: only these; None: all.
        """
        floor = np.broadcast_to(np.asarray(floor, dtype=float), (len(self.rules),))
        chosen = np.ones(len(self.rules), dtype=bool)
        if rules is not None:
            chosen[:] = False
            chosen[rules] = True
        found = [
            tuple(x + (i if k == 0 else 0) for k, x in enumerate(part))
            for i in range(0, len(q), 1500)
            for part in self._below(q[i : i + 1500], floor, chosen)
        ]
        if not found:
            return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
        return tuple(np.concatenate(c) for c in zip(*found, strict=True))

    def _below(self, q, floor, chosen):
        turns, places = self._poses(q)
        middle = places + np.einsum("ngij,gj->ngi", turns, self._centre)
        of = self._of[chosen[self._of[:, 0]]]
        if len(of):
            rows, pairs, d = self._pair_distances(turns, places, middle, of, floor[of[:, 0]])
            low = d < floor[of[pairs, 0]]
            yield rows[low], of[pairs[low], 0], d[low]
        for rule, i, normal, offset in self._walls:
            if not chosen[rule]:
                continue
            high = middle[:, i] @ normal - offset
            near = np.flatnonzero(high - self._radius[i] < floor[rule])
            if near.size:
                points, radius = extreme_points(self._shapes[i])
                toward = np.einsum("kji,j->ki", turns[near, i], normal)
                d = places[near, i] @ normal - offset + (points @ toward.T).min(axis=0) - radius
                low = d < floor[rule]
                yield near[low], np.full(low.sum(), rule), d[low]
        for rule, i, shape, pose in self._inside:
            if not chosen[rule]:
                continue
            points, radius = extreme_points(self._shapes[i])
            world = np.einsum("nij,vj->nvi", turns[:, i], points) + places[:, i, None]
            d = room_inside(shape, (world - pose[:3, 3]) @ pose[:3, :3]).min(axis=1) - radius
            low = d < floor[rule]
            yield np.flatnonzero(low), np.full(low.sum(), rule), d[low]

    def _pair_distances(self, turns, places, middle, of, floor):
        """Rows, pairs and distances that can be under ``floor`` ``[P]``."""
        a, b = of[:, 1], of[:, 2]
        radius, half = self._radius, self._half
        apart = np.linalg.norm(middle[:, a] - middle[:, b], axis=2)
        rows, pairs = np.nonzero(apart - radius[a] - radius[b] < floor)
        for small, large in ((a, b), (b, a)):
            s, g = small[pairs], large[pairs]
            local = np.einsum("kji,kj->ki", turns[rows, g], middle[rows, s] - middle[rows, g])
            over = np.maximum(np.abs(local) - half[g], 0.0)
            keep = np.linalg.norm(over, axis=1) - radius[s] < floor[pairs]
            rows, pairs = rows[keep], pairs[keep]
        for cross in (False, True):
            i, j = a[pairs], b[pairs]
            gap = box_gap(middle[rows, j] - middle[rows, i], turns[rows, i], half[i],
                          turns[rows, j], half[j], cross)  # fmt: skip
            keep = gap < floor[pairs]
            rows, pairs = rows[keep], pairs[keep]
        i, j = a[pairs], b[pairs]
        d = self._meter.distances(
            i,
            j,
            (turns[rows, i], turns[rows, j]),
            (places[rows, i], places[rows, j]),
            float(np.max(floor, initial=0.0)) + 0.02,
        )
        return rows, pairs, d

    def rooms(self, q: np.ndarray, cap: float = 0.3) -> np.ndarray:
        """``[N, R]`` metres beyond its margin of every rule at ``q`` ``[N, D]``, at most cap."""
        out = np.full((len(q), len(self.rules)), cap)
        margin = np.array([r.margin for r in self.rules])
        rows, rules, d = self.below(q, margin + cap)
        out[rows, rules] = d - margin[rules]
        return out

    def slow_touched(self, q: np.ndarray) -> dict[str, np.ndarray]:
        """Slow zone -> ``[N]`` True where a selected link is in it, or nearer than its margin."""
        out = {}
        for i in range(0, len(q), 1500):
            turns, places = self._poses(q[i : i + 1500])
            middle = places + np.einsum("ngij,gj->ngi", turns, self._centre)
            for name, pairs, margin in self._slow:
                of = np.array([(0, a, b) for a, b in pairs], dtype=int).reshape(-1, 3)
                floor = np.full(len(of), margin)
                rows, _, d = self._pair_distances(turns, places, middle, of, floor)
                touched = np.zeros(len(turns), dtype=bool)
                touched[rows[d < margin]] = True
                out.setdefault(name, []).append(touched)
        return {name: np.concatenate(parts) for name, parts in out.items()}


def room_inside(shape: Shape, points: np.ndarray) -> np.ndarray:
    """How deep points ``[..., 3]`` lie inside a shape, in its frame; negative outside."""
    if shape.kind == "sphere":
        return shape.size[0] - np.linalg.norm(points, axis=-1)
    if shape.kind == "hull":
        faces = np.unique(ConvexHull(shape.points).equations.round(12), axis=0)
        return -(points @ faces[:, :3].T + faces[:, 3]).max(axis=-1)
    radius, half = shape.size
    around, along = np.linalg.norm(points[..., :2], axis=-1), np.abs(points[..., 2])
    if shape.kind == "capsule":
        return radius - np.hypot(around, np.maximum(along - half, 0.0))
    over = np.stack([around - radius, along - half])
    outside = np.linalg.norm(np.maximum(over, 0.0), axis=0)
    return np.where(outside > 0, -outside, -over.max(axis=0))
