"""Ways to rest from a set-point, each as places along it.

A stop counts as there if one of these stays inside the limits and clear. Velocities are
backward differences of set-points, so the deceleration begins with the next one.
"""

from __future__ import annotations

import numpy as np

SAMPLES = 10
PLANNED = 2  # of the families, these keep braking authority in reserve


def _together(q, v, a, bounds, ratio, dt):
    """All joints at once, on a straight line."""
    ticks = np.ceil(np.abs(v / (ratio * bounds.acceleration * dt)).max(axis=1) - 1e-9)
    way = v * (np.maximum(ticks - 1, 0) * dt / 2)[:, None]
    share = np.arange(1, SAMPLES + 1) / SAMPLES
    return q[:, None] + share[None, :, None] * way[:, None]


def _each(q, v, a, bounds, ratio, dt):
    """Every joint as soon as it can."""
    n = np.maximum(np.ceil(np.abs(v) / (ratio * bounds.acceleration * dt) - 1e-9), 1.0)
    at = np.ceil(np.arange(1, SAMPLES + 1)[None, :] / SAMPLES * n.max(axis=1)[:, None])
    k = np.minimum(at[:, :, None], n[:, None])
    return q[:, None] + (k - k * (k + 1) / (2 * n[:, None])) * v[:, None] * dt


def _jerk_limited(q, v, a, most, jerk, dt):
    """Every joint along the fastest profile with a trapezium of acceleration, ``most`` high,
    its velocity sampled at each tick."""
    side = np.where(v + a * np.abs(a) / (2 * jerk) >= 0, 1.0, -1.0)
    v, a = v * side, a * side
    peak = np.sqrt(np.maximum(jerk * v + a * a / 2, 0.0))
    cap = np.maximum(most, -a)
    hold = np.where(peak > cap, (jerk * v + a * a / 2 - cap * cap) / (jerk * cap), 0.0)
    peak = np.minimum(peak, cap)
    times = [np.maximum((a + peak) / jerk, 0.0), np.maximum(hold, 0.0), peak / jerk]
    whole = sum(times).max(axis=1)
    t = (np.arange(1, SAMPLES + 1)[None, :] / SAMPLES * whole[:, None])[:, :, None]
    place = np.zeros((*t.shape[:2], v.shape[1]))
    begun, gone = np.zeros_like(v), np.zeros_like(place)
    speed, force = v.copy(), a.copy()
    for span, push in zip(times, (-jerk, 0.0 * jerk, jerk), strict=True):
        into = np.clip(t - begun[:, None], 0.0, span[:, None])
        place += speed[:, None] * into + force[:, None] * into**2 / 2 + push * into**3 / 6
        gone -= force[:, None] * into + push * into**2 / 2
        speed = speed + force * span + push * span**2 / 2
        force = force + push * span
        begun = begun + span
    # Set-points go on by the velocity that each tick ends with, not by the mean over it.
    return q[:, None] + side[:, None] * (place - gone * dt / 2)


def families(bounds, ratio: float, dt: float) -> list:
    """Functions of ``q``, ``v``, ``a`` (each ``[N, D]``) -> ``[N, S, D]`` places to rest."""
    if np.isfinite(bounds.jerk).any():
        jerk = np.where(np.isfinite(bounds.jerk), bounds.jerk, 1e9)

        def alone(share):
            return lambda q, v, a: _jerk_limited(q, v, a, share * bounds.acceleration, jerk, dt)

        def alike(share):
            def stop(q, v, a):
                need = np.abs(v / bounds.acceleration)
                part = need / np.maximum(need.max(axis=1, keepdims=True), 1e-12)
                most = share * bounds.acceleration * np.maximum(part, 0.02)
                return _jerk_limited(q, v, a, most, jerk, dt)

            return stop

        return [make(share) for share in (ratio, 1.0) for make in (alike, alone)]
    return [
        lambda q, v, a, make=make, share=share: make(q, v, a, bounds, share, dt)
        for share in (ratio, 1.0)
        for make in (_together, _each)
    ]
