"""The gate: proposed motion in, motion that can always stop out.

Each tick takes the set-point as it is where that is legal, or the nearest legal step;
plans the stop from there; and proves step and stop clear. If they are, the step is taken
and that stop is kept; if not, the arm follows the stop it kept. So from every set-point
that leaves there is a known way to rest inside the position limits and clear of every
keep-out zone and of the arm itself.

The gate has no clock of its own: every call is told the time, and the same calls give the
same output.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from smolvla_ros.safety.clearance import Blocked, Clearance
from smolvla_ros.safety.command import Command, Refused
from smolvla_ros.safety.limits import Limits
from smolvla_ros.safety.reference import Reference
from smolvla_ros.safety.stopping import each_joint_stop, stoppable_speed, synchronised_stop
from smolvla_ros.safety.verdict import Kind, State, Verdict

_EPS = 1e-9  # rounding, relative to limits


@dataclass(frozen=True)
class GateSettings:
    """Timing and margins of the gate that are not limits or zones.

    Attributes (seconds, radians):
        dt: tick period. command_timeout: motion goes on this long after the last
            accepted command. joint_state_timeout: older feedback stops the arm.
        max_command_age: a command whose stamp is older is refused.
        future_tolerance: a command stamped further ahead is refused.
        blend: a new command takes over during at least this long.
        settle: the end of a command is run out over this long.
        braking_ratio: share of the acceleration limit that stops are planned with.
        recovery_ratio: share of the joint speeds while the way out of a violation is open.
        tracking_error, tracking_time: set-point and measurement may differ by the one for
            the other. tracking_error_hard: by this much never.
        stop_heartbeat: silence on the stop input longer than this stops; None: no heartbeat.
    """

    dt: float
    command_timeout: float
    joint_state_timeout: float
    max_command_age: float
    tracking_error: float
    tracking_error_hard: float
    tracking_time: float = 0.5
    future_tolerance: float = 0.05
    blend: float = 0.2
    settle: float = 0.15
    braking_ratio: float = 0.7
    recovery_ratio: float = 0.1
    stop_heartbeat: float | None = None


@dataclass(frozen=True)
class Output:
    """What leaves the gate in one tick; ``positions`` is None while nothing is commanded.

    ``positions``, ``velocities``: ``[D]`` rad, rad/s. ``wanted``: ``[D]`` the set-point
    before the gate, or None. ``clearance``: metres to the nearest guarded pair.
    """

    positions: np.ndarray | None
    velocities: np.ndarray | None
    wanted: np.ndarray | None
    state: State
    verdict: Verdict
    clearance: float
    pair: str


class Gate:
    """One arm's gate. Not thread-safe: the caller holds one lock around every call.

    Args:
        limits: effective limits in the robot's joint order.
        clearance: the arm against itself and its zones.
        settings: timing and margins.
    """

    def __init__(self, limits: Limits, clearance: Clearance, settings: GateSettings):
        self.limits = limits
        self.clearance = clearance
        self.settings = settings
        self.names = clearance.robot.names
        self.state = State.WAITING
        self.verdicts: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._brake = settings.braking_ratio * limits.acceleration
        self._measured: np.ndarray | None = None
        self._measured_at = -np.inf
        self._q = np.zeros(len(self.names))
        self._v = np.zeros(len(self.names))
        self._stop_rows = np.zeros((0, len(self.names)))  # the stop that is kept
        self._on_track = True  # the last set-point was taken as it was
        self._reference: Reference | None = None
        self._pending: Command | None = None
        self._commanded_at = -np.inf
        self._enabled_at = np.inf
        self._stop_reason = ""  # not empty: latched
        self._disable_at_rest = False
        self._off_track_since: float | None = None
        self._stop_heard_at: float | None = None

    # -- inputs -------------------------------------------------------------------------

    def measure(self, now: float, q: np.ndarray) -> None:
        """The arm is at ``q`` ``[D]`` (rad), every joint measured, finite."""
        self._measured = q
        self._measured_at = now
        if self.state is State.WAITING:
            self.state = State.DISABLED

    def propose(self, now: float, command: Command) -> None:
        """Offer a command; the newest one is taken over at the next tick.

        Raises:
            Refused: what is executed goes on unchanged; :meth:`refuse` counts it.
        """
        self._check_command(now, command)
        self._pending = command
        self._commanded_at = now

    def refuse(self, refusal: Refused) -> None:
        """Count a message that was not taken."""
        self.refusals[refusal.check] += 1

    def _check_command(self, now: float, command: Command) -> None:
        s = self.settings
        if self.state in (State.WAITING, State.DISABLED, State.STOPPED) or self._stopping():
            raise Refused("not_enabled", f"the gate is {self.state.value}")
        if command.stamp < self._enabled_at:
            raise Refused("before_enable", "observed before the gate was enabled")
        age = now - command.stamp
        if age > s.max_command_age:
            raise Refused("too_old", f"stamp is {age:.3f} s old; at most {s.max_command_age} s")
        if age < -s.future_tolerance:
            raise Refused("future", f"stamp is {-age:.3f} s ahead of the clock")
        if len(command.times) > 1 and now > command.end:
            raise Refused("too_old", f"its last row was meant for {now - command.end:.3f} s ago")

    def stop(self, reason: str) -> None:
        """Brake and latch, now and whatever the state; never refused."""
        if not self._stop_reason:
            self._stop_reason = reason
        self._drop_commands()
        if self.state in (State.WAITING, State.DISABLED):
            self.state = State.STOPPED  # nothing is commanded, and nothing will be
        elif self.state is not State.STOPPED:
            self.state = State.BRAKING

    def hear_stop_channel(self, now: float) -> None:
        """The heartbeat's source is alive (its silence stops, where one is configured)."""
        self._stop_heard_at = now

    def enable(self, now: float) -> None:
        """Take the arm where it is measured to be; only commands observed later count.

        Raises:
            Refused: not disabled, or a cause for a stop stands.
        """
        enabled = self.state in (State.HOLDING, State.FOLLOWING, State.SLOWED)
        if enabled and not self._disable_at_rest:
            return
        if self.state not in (State.DISABLED, State.WAITING):
            raise Refused("enable", f"the gate is {self.state.value}; it enables from disabled")
        cause = self._standing_cause(now)
        if cause:
            raise Refused("enable", cause)
        self._q = np.array(self._measured)
        self._v = np.zeros_like(self._q)
        self._stop_rows = self._stop_rows[:0]
        self.clearance.anchor(self._q)
        self._drop_commands()
        self._enabled_at = now
        self._commanded_at = -np.inf
        self._off_track_since = None
        self._on_track = True
        self._disable_at_rest = False
        self.state = State.HOLDING

    def disable(self) -> None:
        """Let go of the arm: brake first if it moves. Commands are dropped."""
        self._drop_commands()
        if self.state in (State.FOLLOWING, State.SLOWED, State.BRAKING, State.HOLDING):
            self._disable_at_rest = True

    def reset(self, now: float) -> None:
        """Leave ``stopped`` for ``disabled``.

        Raises:
            Refused: not stopped, still braking, or the cause stands.
        """
        if self.state is not State.STOPPED:
            raise Refused("reset", f"the gate is {self.state.value}; it resets from stopped")
        cause = self._standing_cause(now)
        if cause:
            raise Refused("reset", f"cause stands: {cause}")
        self._stop_reason = ""
        self._drop_commands()
        self._off_track_since = None
        self._enabled_at = np.inf
        self.state = State.DISABLED

    # -- the tick -----------------------------------------------------------------------

    def tick(self, now: float) -> Output:
        """One period: what to command for ``now + dt``."""
        self._watch(now)
        moving_states = (State.HOLDING, State.FOLLOWING, State.SLOWED, State.BRAKING)
        wanted = None
        if self.state in moving_states:
            wanted, verdict = self._advance(now)
        elif self.state is State.STOPPED:
            verdict = Verdict(Kind.STOPPED, "stop", self._stop_reason)
        else:
            verdict = Verdict(Kind.HELD, self.state.value)
        commanding = self.state not in (State.WAITING, State.DISABLED) and np.isfinite(
            self._enabled_at
        )
        if commanding:
            self.verdicts[verdict.kind.value] += 1
            if verdict.check:
                self.checks[verdict.check] += 1
        clearance, pair = self.clearance.nearest() if commanding else (np.inf, None)
        return Output(
            positions=self._q.copy() if commanding else None,
            velocities=self._v.copy() if commanding else None,
            wanted=wanted,
            state=self.state,
            verdict=verdict,
            clearance=clearance,
            pair=pair.name if pair else "",
        )

    @property
    def stop_reason(self) -> str:
        """Why the gate is stopped; empty while it is not."""
        return self._stop_reason

    @property
    def tracking_error(self) -> float:
        """Largest difference of set-point and measurement over the joints, rad."""
        if self._measured is None or not np.isfinite(self._enabled_at):
            return 0.0
        return float(np.max(np.abs(self._measured - self._q)))

    def _watch(self, now: float) -> None:
        """Causes that stop the arm without anybody asking."""
        if self.state in (State.WAITING, State.DISABLED, State.STOPPED):
            return
        cause = self._standing_cause(now)
        if not cause and self.tracking_error > self.settings.tracking_error:
            if self._off_track_since is None:
                self._off_track_since = now
            if now - self._off_track_since > self.settings.tracking_time:
                cause = f"tracking error {self.tracking_error:.3f} rad for too long"
        elif not cause:
            self._off_track_since = None
        if cause and not self._stop_reason:
            self.stop(cause)

    def _standing_cause(self, now: float) -> str:
        s = self.settings
        age = now - self._measured_at
        if self._measured is None:
            return "no joint state yet"
        if age > s.joint_state_timeout:
            return f"joint_states are {age:.2f} s old; at most {s.joint_state_timeout} s"
        if s.stop_heartbeat is not None:
            if self._stop_heard_at is None:
                return "no heartbeat on the stop topic yet"
            if now - self._stop_heard_at > s.stop_heartbeat:
                return f"stop topic silent for {now - self._stop_heard_at:.2f} s"
        holding_on = self.state not in (State.WAITING, State.DISABLED, State.STOPPED)
        if holding_on and self.tracking_error > s.tracking_error_hard:
            return f"tracking error {self.tracking_error:.3f} rad"
        return ""

    def _stopping(self) -> bool:
        return bool(self._stop_reason) or self._disable_at_rest

    def _drop_commands(self) -> None:
        self._pending = None
        self._reference = None

    def _advance(self, now: float) -> tuple[np.ndarray | None, Verdict]:
        s = self.settings
        if self._pending is not None:
            self._reference = Reference(
                self._pending, now, self._q, self._v, self.limits.velocity,
                self.limits.acceleration, s.blend, s.settle,
            )  # fmt: skip
            self._pending = None
        if self._stopping():
            return None, self._run_out(Verdict(Kind.STOPPED, "stop", self._stop_reason))
        if self._reference is None:
            return None, self._run_out(Verdict(Kind.HELD, "no_command"))
        age = now - self._commanded_at
        if age > s.command_timeout:
            self._reference = None
            why = f"no command for {age:.2f} s"
            return None, self._run_out(Verdict(Kind.HELD, "command_timeout", why))
        ratio, why = self._speed_ratio()
        wanted, rate, slower = self._next_setpoint(ratio)
        verdict, capped = self._follow(wanted, rate, ratio)
        if verdict.kind is not Kind.HELD and (slower or (capped and ratio < 1.0)):
            verdict = Verdict(Kind.SLOWED, "speed_ratio", why)
        if self._reference.finished and not self._v.any():
            self._reference = None
            self.state = State.HOLDING
        else:
            self.state = State.SLOWED if verdict.kind is Kind.SLOWED else State.FOLLOWING
        return wanted, verdict

    def _next_setpoint(self, ratio: float) -> tuple[np.ndarray, np.ndarray, bool]:
        """Let the reference run one tick on: its set-point, the set-point's velocity, and
        whether its clock had to run slower for the ratio of joint speeds. A motion that
        keeps the ratio keeps its time."""
        dt, reference = self.settings.dt, self._reference
        before = reference.at()
        reference.advance(dt)
        wanted = reference.at()
        over = float(np.max(np.abs(wanted - before) / (self.limits.velocity * dt)) / ratio)
        if ratio == 1.0 or over <= 1.0:
            return wanted, (wanted - before) / dt, False
        reference.advance(dt / over - dt)
        wanted = reference.at()
        return wanted, (wanted - before) / dt, True

    def _speed_ratio(self) -> tuple[float, str]:
        ratio, zone = self.clearance.speed_ratio()
        why = f"slow zone {zone}" if zone else ""
        inside = (self._q >= self.limits.lower - _EPS) & (self._q <= self.limits.upper + _EPS)
        if self.settings.recovery_ratio < ratio:
            if not inside.all():
                return self.settings.recovery_ratio, "recovering from outside a position limit"
            violated = self.clearance.violated()
            if violated:
                return self.settings.recovery_ratio, f"recovering: {violated[0].name}"
        return ratio, why

    def _run_out(self, verdict: Verdict) -> Verdict:
        """Follow the kept stop to rest, then stand."""
        moved = bool(self._v.any())
        self._take_kept_stop()
        self._on_track = not self._v.any()
        # What leaves last is at rest: the row that ends a motion is still sent.
        if self._v.any() or len(self._stop_rows) or (moved and self._disable_at_rest):
            self.state = State.BRAKING
        elif self._stop_reason:
            self.state = State.STOPPED
        elif self._disable_at_rest:
            self._disable_at_rest = False
            self._enabled_at = np.inf
            self.state = State.DISABLED
        else:
            self.state = State.HOLDING
        return verdict

    def _follow(self, wanted: np.ndarray, rate: np.ndarray, ratio: float) -> tuple[Verdict, bool]:
        """Take the set-point, or the nearest legal step. Also says whether it was the
        joint speeds, times ``ratio``, that shaped it."""
        s, lim = self.settings, self.limits
        speed = lim.velocity * ratio
        exact = (wanted - self._q) / s.dt
        broken = self._illegal(exact, speed)
        # An arm that was on its set-points goes on with them as they are. One that catches
        # up lands only where it can then keep the set-point's own speed.
        step = lim.acceleration * s.dt * (1 + _EPS)
        if not broken and not (self._on_track or (np.abs(exact - rate) <= step).all()):
            broken = "acceleration"
        self._on_track = False
        if not broken:
            shaped = exact
            blocked = self._take(wanted, exact)
            self._on_track = blocked is None
        else:
            shaped = self._shape(wanted, rate, speed)
            blocked = self._take(self._q + shaped * s.dt, shaped)
        capped = broken == "velocity"
        if blocked is None:
            return Verdict(Kind.CLAMPED, broken) if broken else Verdict(Kind.PASSED), capped
        # Not clear. Moving: half-way to braking. At rest: straight at the set-point, in a
        # smaller step, since shaping joint by joint may have bent it into the obstacle.
        for smaller in self._smaller(wanted, shaped, speed):
            if self._take(self._q + smaller * s.dt, smaller) is None:
                return Verdict(Kind.CLAMPED, blocked.check, blocked.detail), False
        self._take_kept_stop()
        return Verdict(Kind.HELD, blocked.check, blocked.detail), False

    def _illegal(self, v: np.ndarray, speed: np.ndarray) -> str:
        """The first rule that a step at ``v`` breaks, or an empty text."""
        s, lim = self.settings, self.limits
        if (np.abs(v) > speed * (1 + _EPS)).any():
            return "velocity"
        if (np.abs(v - self._v) > lim.acceleration * s.dt * (1 + _EPS) + _EPS).any():
            return "acceleration"
        low, high = self._position_bound()
        if (v > high + _EPS).any() or (v < low - _EPS).any():
            return "position"
        return ""

    def _position_bound(self) -> tuple[np.ndarray, np.ndarray]:
        """Velocities from which every joint still stops inside its limits. Outside a
        limit: only the way back."""
        dt, lim = self.settings.dt, self.limits
        return (
            -stoppable_speed(self._q - lim.lower, dt, self._brake),
            stoppable_speed(lim.upper - self._q, dt, self._brake),
        )

    def _shape(self, wanted, rate, speed) -> np.ndarray:
        """The nearest legal velocity: catch up with the set-point and be able to stay on it.

        ``rate`` is the set-point's own velocity. The rest of the way is closed no faster
        than a stop allows; one factor over the vector keeps the direction for speed.
        """
        dt, lim = self.settings.dt, self.limits
        error = wanted - rate * dt - self._q
        catch_up = stoppable_speed(np.abs(error), dt, self._brake)
        need = np.abs(error) / dt
        factor = np.min(catch_up / np.maximum(need, 1e-12), initial=1.0, where=need > 1e-12)
        v = rate + error / dt * factor
        v = v * min(1.0, float(np.min(speed / np.maximum(np.abs(v), 1e-12))))
        step = lim.acceleration * dt
        low, high = self._position_bound()
        # What cannot be braked away in one tick stays: never ask for more than the limit.
        v = np.clip(v, np.minimum(low, self._v + step), np.maximum(high, self._v - step))
        return np.clip(v, self._v - step, self._v + step)

    def _smaller(self, wanted, shaped, speed) -> list[np.ndarray]:
        dt, lim = self.settings.dt, self.limits
        if self._v.any():
            rows = self._stop_rows
            braking = (rows[0] - self._q) / dt if len(rows) else np.zeros_like(self._v)
            return [(shaped + braking) / 2]
        way = wanted - self._q
        cap = np.minimum(lim.acceleration * dt, speed)
        longest = float(np.max(np.abs(way) / (cap * dt), initial=0.0))
        if longest < 1e-6:
            return []
        straight = way / dt / max(longest, 1.0)
        low, high = self._position_bound()
        return [np.clip(straight * f, low, high) for f in (1.0, 0.25)]

    def _take(self, q: np.ndarray, v: np.ndarray) -> Blocked | None:
        """Take the step to ``q`` if it and a stop from it are inside limits and clear."""
        dt = self.settings.dt
        blocked: Blocked | None = None
        for plan in (synchronised_stop, each_joint_stop):
            rows = plan(q, v, dt, self._brake)
            end = rows[-1] if len(rows) else q
            if not self._stays_inside(end):
                continue
            straight = plan is synchronised_stop and len(rows)
            blocked = self.clearance.blocked(
                np.array([q, end]) if straight else np.vstack([q[None], rows])
            )
            if blocked is None:
                self._move(q, v, rows)
                return None
        return blocked or Blocked("position", "no stop from here stays inside the limits")

    def _stays_inside(self, end: np.ndarray) -> bool:
        low = np.minimum(self.limits.lower, self._q)
        high = np.maximum(self.limits.upper, self._q)
        return bool((end >= low - _EPS).all() and (end <= high + _EPS).all())

    def _take_kept_stop(self) -> None:
        if not len(self._stop_rows):
            self._v = np.zeros_like(self._v)
            return
        q = self._stop_rows[0]
        self._move(q, (q - self._q) / self.settings.dt, self._stop_rows[1:])

    def _move(self, q: np.ndarray, v: np.ndarray, stop: np.ndarray) -> None:
        self.clearance.move(q)
        self._q, self._v, self._stop_rows = np.array(q), v, stop
