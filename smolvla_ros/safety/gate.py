"""The gate: proposed motion in, motion that can always stop out.

It hears commands from named sources, the arm's joint states, stops and moving obstacles,
and gives one set-point a tick. How a set-point moves is :mod:`.motion`'s; here is who may
move it, from when on, and what ends it.

The gate has no clock of its own: every call is told the time, and the same calls give the
same output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from smolvla_ros.safety.clearance import Clearance
from smolvla_ros.safety.command import CONTENT, Command, Refused, read_command
from smolvla_ros.safety.feedback import Feedback
from smolvla_ros.safety.limits import Limits
from smolvla_ros.safety.motion import Motion
from smolvla_ros.safety.obstacles import Obstacle, check_obstacles
from smolvla_ros.safety.pairs import ObstacleRows
from smolvla_ros.safety.reference import Reference, Stream
from smolvla_ros.safety.sources import Arbiter, Source
from smolvla_ros.safety.verdict import Kind, State, Verdict

_MOVING = (State.HOLDING, State.FOLLOWING, State.SLOWED, State.BRAKING)
_GEOMETRY = ("self_collision", "keep_out", "keep_in", "obstacle")
_REFUSALS_IN_A_ROW = 3
_REFUSALS_FOR = 1.0  # s
_JUMPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # rad, bins of the chunk jumps


@dataclass(frozen=True)
class GateSettings:
    """Timing and margins of the gate that are not limits, zones or sources.

    Attributes (seconds, radians):
        dt: tick period. joint_state_timeout: older feedback stops the arm.
        tracking_error, tracking_time: set-point and measurement may differ by the one for
            the other, then the arm brakes. tracking_error_hard: by this much it stops.
        future_tolerance: a command stamped further ahead is refused.
        blend: a new command takes over during at least this long.
        settle: the end of a command that still moves is run out over this long.
        braking_ratio: share of the acceleration limit that stops are planned with.
        recovery_ratio: share of the joint speeds while the way out of a violation is open.
        stop_heartbeat: silence on the stop input longer than this stops; None: no heartbeat.
        measured_margin: the measured arm may come this near to what is guarded (m); nearer
            stops.
        joint_state_jump: rad that one joint state may lie beyond what the velocity limit
            explains. units_factor: three joints this many times beyond their limits in one
            command stop the arm: those are other units.
        clock_tolerance: ROS time may leave the steady clock by this before the arm brakes.
        late_ticks: as many late ticks in a row halve the joint speeds, four times as many
            brake. stall: so long without a tick brakes at once.
        blocked_timeout: pushing against a zone for so long stops; None: never.
        obstacle_timeout: silence of the obstacles brakes; None: no obstacles are awaited.
        obstacle_speed: m/s by which obstacles are grown since they were last heard of.
    """

    dt: float
    joint_state_timeout: float
    tracking_error: float
    tracking_error_hard: float
    tracking_time: float = 0.5
    future_tolerance: float = 0.05
    blend: float = 0.2
    settle: float = 0.15
    braking_ratio: float = 0.7
    recovery_ratio: float = 0.1
    stop_heartbeat: float | None = None
    measured_margin: float = 0.0
    joint_state_jump: float = 0.3
    units_factor: float = 2.0
    clock_tolerance: float = 0.1
    late_ticks: int = 3
    stall: float = 0.25
    blocked_timeout: float | None = None
    obstacle_timeout: float | None = None
    obstacle_speed: float = 0.0


@dataclass(frozen=True)
class Output:
    """What leaves the gate in one tick; ``positions`` is None while nothing is commanded.

    ``positions``, ``velocities``: ``[D]`` rad, rad/s. ``wanted``: ``[D]`` the set-point
    before the gate, or None. ``clearance``: metres to the nearest guarded pair. ``source``:
    who has the arm, empty for nobody.
    """

    positions: np.ndarray | None
    velocities: np.ndarray | None
    wanted: np.ndarray | None
    state: State
    verdict: Verdict
    clearance: float
    pair: str
    source: str


class Gate:
    """One arm's gate. Not thread-safe: the caller holds one lock around every call.

    Args:
        limits: effective limits in the robot's joint order.
        clearance: the arm against itself and its zones.
        settings: timing and margins.
        sources: who may command.
    """

    def __init__(
        self,
        limits: Limits,
        clearance: Clearance,
        settings: GateSettings,
        sources: Iterable[Source] = (Source("policy"),),
    ):
        self.settings = settings
        self.names = clearance.robot.names
        self.state = State.WAITING
        self.verdicts: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.chunk_jumps: Counter[str] = Counter()
        self.late_ticks = 0
        self.min_clearance = np.inf
        self.output: Output | None = None  # of the last tick
        self.motion = Motion(limits, clearance, settings.dt, settings.braking_ratio)
        self.feedback = Feedback(self.names, limits.velocity, settings.joint_state_jump)
        self._measured = clearance.of_measured
        self._arbiter = Arbiter(sources)
        self._now = -np.inf
        self._ticked_at: float | None = None
        self._late_run = 0.0
        self._reference: Reference | Stream | None = None
        self._pending: Command | None = None
        self._streams: dict[str, Stream] = {}
        self._enabled_at = np.inf
        self._fresh_after = -np.inf  # what was observed before is not executed
        self._held = ("no_command", "")  # why nothing is followed
        self._stop = ("", "")  # check and detail; not empty: latched
        self._faults: dict[str, str] = {}
        self._hindrances: dict[str, str] = {}
        self._disable_at_rest = False
        self._off_track_since: float | None = None
        self._off_track = ""
        self._blocked_since: float | None = None
        self._refused_since: float | None = None
        self._refused_in_a_row = 0
        self._stop_heard_at: float | None = None
        self._clock_offset: float | None = None
        self._lost_arm = False  # joint states have gone missing while stopped
        self._obstacles: tuple[Obstacle, ...] = ()
        self._obstacles_at = -np.inf

    @property
    def limits(self) -> Limits:
        """The effective joint limits."""
        return self.motion.limits

    @property
    def clearance(self) -> Clearance:
        """The arm against itself and its zones."""
        return self.motion.clearance

    # -- commands -----------------------------------------------------------------------

    def offer(
        self,
        now: float,
        source: str,
        stamp: float | None,
        names: Sequence[str],
        times: Sequence[float],
        positions: Sequence[Sequence[float]],
        publisher: str = "",
    ) -> Refused | None:
        """Offer a command as it came in; whatever it holds, this does not raise.

        Args:
            source: a declared source. stamp: steady-clock seconds that the times count
                from; None for a message without one: from its arrival.
            names, times, positions: ``[M]``, ``[N]`` s, ``[N, M]`` rad (m). A set-point of
                a stream is one row at time 0.
            publisher: who sent it; a second one on a source is refused.

        Returns:
            Why it was refused (what is executed goes on unchanged), or None.
        """
        try:
            settings = self._may_speak(now, source, publisher)
            if stamp is None and settings.require_stamp:
                raise Refused("no_stamp", f"{source}: no stamp; it is required of this source")
            command = read_command(
                now if stamp is None else stamp,
                names,
                times,
                positions,
                self.names,
                hold=self.motion.q if settings.missing_joints == "hold" else None,
                ignore=settings.ignore_joints,
            )
            self._check_units(command)
            self._accept(now, command, settings)
        except Refused as refusal:
            self.refuse(now, refusal, source)
            return refusal
        return None

    def propose(self, now: float, command: Command, source: str = "policy") -> None:
        """Offer a command that has been read; the newest one is taken over at the next tick.

        Raises:
            Refused: what is executed goes on unchanged.
        """
        self._accept(now, command, self._may_speak(now, source, ""))

    def refuse(self, now: float, refusal: Refused, source: str = "") -> None:
        """Count a message that was not taken. A source that has the arm and sends nothing
        but what cannot be executed loses it."""
        self.refusals[refusal.check] += 1
        if refusal.check not in CONTENT or source != self._arbiter.active:
            return
        if self._arbiter.source(source).whole:
            return  # a goal that cannot be read says nothing of the one that is carried out
        if self._refused_since is None:
            self._refused_since = now
        self._refused_in_a_row += 1
        count, since = self._refused_in_a_row, now - self._refused_since
        if count >= _REFUSALS_IN_A_ROW or since > _REFUSALS_FOR:
            self.brake("refused_in_a_row", f"{count} of {source}, last: {refusal}")

    def _may_speak(self, now: float, name: str, publisher: str) -> Source:
        source = self._arbiter.source(name)
        self._arbiter.check_publisher(now, source, publisher)
        if self.state not in _MOVING or self._stopping():
            raise Refused("not_enabled", f"the gate is {self.state.value}")
        self._arbiter.check_turn(now, source)
        return source

    def _check_units(self, command: Command) -> None:
        """Values that no joint of this arm has, in many joints at once: degrees, percent."""
        lower, upper = self.limits.lower, self.limits.upper
        # A continuous joint has no limits; ten turns are no command either.
        least = np.where(np.isfinite(lower), np.abs(lower), 10 * np.pi)
        most = np.maximum(np.where(np.isfinite(upper), np.abs(upper), 10 * np.pi), least)
        beyond = (np.abs(command.positions) > self.settings.units_factor * most).any(axis=0)
        if beyond.sum() >= min(3, len(beyond)):
            names = ", ".join(n for n, b in zip(self.names, beyond, strict=True) if b)
            worst = np.abs(command.positions).max()
            text = f"up to {worst:.4g} for {names}: degrees or percent instead of radians?"
            self.stop(text, "units")
            raise Refused("units", text)

    def _accept(self, now: float, command: Command, source: Source) -> None:
        s = self.settings
        age = now - command.stamp
        if command.stamp < self._enabled_at:
            raise Refused("before_enable", "observed before the gate was enabled")
        if age > source.max_age:
            raise Refused("too_old", f"stamp is {age:.3f} s old; at most {source.max_age} s")
        if age < -s.future_tolerance:
            raise Refused("future", f"stamp is {-age:.3f} s ahead of the clock")
        if len(command.times) > 1 and now > command.end:
            raise Refused("too_old", f"its last row was meant for {now - command.end:.3f} s ago")
        if command.stamp < self._fresh_after:
            raise Refused("braking", f"observed before the arm braked: {self._held[0]}")
        cause = self._braking_cause(now)
        if cause[0]:
            raise Refused("braking", f"{cause[0]}: {cause[1]}")
        due = float(command.times[0]) - age  # s until its first row
        if due < s.blend and (source.whole or not self._arbiter.has(now, source)):
            self._check_start(command, age, source)
        single = len(command.times) == 1 and due < s.blend and not source.whole
        if single:
            stream = self._streams.get(source.name)
            if stream is None or stream.silent_for(now) > source.timeout:
                stream = self._streams[source.name] = Stream(s.dt, self.limits)
            stream.add(now, command.positions[0])
        else:
            self._streams.pop(source.name, None)
        self._arbiter.take(now, source)
        self._refused_in_a_row, self._refused_since = 0, None
        self._pending = command

    def _check_start(self, command: Command, age: float, source: Source) -> None:
        """A command that takes the arm over begins where the arm is."""
        columns = command.positions.T
        first = np.array([np.interp(age, command.times, column) for column in columns])
        off = np.abs(first - self.motion.q)
        worst = int(np.argmax(off))
        if off[worst] > source.start_tolerance:
            raise Refused(
                "start_pose",
                f"{self.names[worst]} would begin {off[worst]:.3f} rad from the arm; at most "
                f"{source.start_tolerance}",
            )

    # -- what the gate hears ------------------------------------------------------------

    def hear_joint_state(
        self, now: float, names: Sequence[str], positions: Sequence[float]
    ) -> Refused | None:
        """A joint state, whole or in part, by name (rad, m); joints of others are ignored.

        Returns:
            Why it, or a joint of it, was not taken; or None.
        """
        refusal = None
        try:
            self.feedback.hear(now, names, positions)
        except (TypeError, ValueError, OverflowError) as error:
            refusal = error if isinstance(error, Refused) else Refused("malformed", str(error))
            self.refusals[refusal.check] += 1
        if self.state is State.WAITING and self.feedback.whole:
            self.state = State.DISABLED
        return refusal

    def measure(self, now: float, q: np.ndarray) -> Refused | None:
        """A joint state of every joint, ``[D]`` in the gate's order."""
        return self.hear_joint_state(now, self.names, q)

    def hear_stop_channel(self, now: float) -> None:
        """The heartbeat's source is alive (its silence stops, where one is configured)."""
        self._stop_heard_at = now

    def hear_clock(self, now: float, ros_now: float) -> None:
        """Compare ROS time with the steady clock; a jump brakes. Call it often (10 Hz):
        slow drift is followed."""
        offset = ros_now - now
        if self._clock_offset is None:
            self._clock_offset = offset
        drift = offset - self._clock_offset
        if abs(drift) > self.settings.clock_tolerance:
            self._clock_offset = offset
            self.brake("clock_jump", f"ROS time jumped by {drift:+.3f} s")
        else:
            self._clock_offset += 0.02 * drift

    def make_obstacles(self, obstacles: Sequence[Obstacle]) -> list[ObstacleRows | None]:
        """What :meth:`set_obstacles` takes longest for; the one call that needs no lock, if
        the zones are not exchanged meanwhile.

        Raises:
            ValueError: more than the clearance has room for, or two of one name.
        """
        check_obstacles(obstacles)
        return [
            None if world.has_shapes_of(obstacles) else world.make_obstacles(obstacles)
            for world in (self.clearance, self._measured)
        ]

    def set_obstacles(
        self,
        now: float,
        obstacles: Iterable[Obstacle],
        made: Iterable[ObstacleRows | None] = (None, None),
    ) -> None:
        """The obstacles beside the zones, all of them; ``made`` of the same ones, if it was.

        Raises:
            ValueError: more than the clearance has room for; the ones before stay.
        """
        obstacles = tuple(obstacles)
        for world, rows in zip((self.clearance, self._measured), made, strict=True):
            world.set_obstacles(obstacles, made=rows)
        self._obstacles, self._obstacles_at = obstacles, now

    # -- stop, brake, enable, reset -----------------------------------------------------

    def stop(self, detail: str, check: str = "stop") -> None:
        """Brake and latch, now and whatever the state; never refused.

        ``check`` is the counter's word, ``detail`` a sentence for people.
        """
        if not self._stop[0]:
            self._stop = (check, detail)
        self._drop_commands()
        if self.state in (State.WAITING, State.DISABLED):
            self.state = State.STOPPED  # nothing is commanded, and nothing will be
        elif self.state is not State.STOPPED:
            self.state = State.BRAKING

    def fault(self, check: str, detail: str) -> None:
        """A cause for a stop that the caller watches: stops, and keeps reset and enable
        refused until it is called again with an empty ``detail``."""
        if not detail:
            self._faults.pop(check, None)
            return
        self._faults[check] = detail
        if not self._stop[0] and self.state in _MOVING:
            self.stop(detail, check)

    def hinder(self, check: str, detail: str) -> None:
        """A cause for braking that the caller watches: nothing latches, but commands and
        enabling are refused until it is called again with an empty ``detail``."""
        if detail:
            self._hindrances[check] = detail
        else:
            self._hindrances.pop(check, None)

    def brake(self, check: str, detail: str) -> None:
        """Brake and hold; only what is observed later is executed. Nothing latches."""
        self._fresh_after = self._now
        self._held = (check, detail)
        self._drop_commands()
        if self.state in _MOVING and not self.motion.at_rest:
            self.state = State.BRAKING

    def cancel(self, source: str, detail: str) -> None:
        """Brake what ``source`` has asked for, where it has the arm; it keeps the arm for its
        timeout, and may go on at once."""
        if self._arbiter.active != source:
            return
        self._pending = self._reference = None
        self._streams.pop(source, None)
        self._held = ("cancelled", detail)
        if self.state in _MOVING and not self.motion.at_rest:
            self.state = State.BRAKING

    def keep(self, now: float, source: str) -> None:
        """``source`` keeps the arm, where it has it: what it asked for is not done yet."""
        if self._arbiter.active == source:
            self._arbiter.carry_on(now)

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
        self.feedback.settle()
        self._off_track_since, self._off_track = None, ""
        for check, detail in (self._standing_cause(now), self._braking_cause(now)):
            if check:
                raise Refused("enable", f"{check}: {detail}")
        lost = self.clearance.robot.out_of_reach(self.feedback.positions)
        if lost:
            raise Refused("enable", f"{', '.join(lost)}: far outside its limits; move it back")
        self.motion.seed(self.feedback.positions)
        self._measured.anchor(self.feedback.positions)
        self._drop_commands()
        self._enabled_at = now
        self._held = ("no_command", "")
        self._blocked_since = None
        self._disable_at_rest = False
        self.min_clearance = np.inf
        self.state = State.HOLDING

    def disable(self) -> None:
        """Let go of the arm: brake first if it moves. Commands are dropped."""
        self._drop_commands()
        if self.state in _MOVING:
            self._held = ("disable", "")
            self._disable_at_rest = True

    def reset(self, now: float) -> None:
        """Leave ``stopped`` for ``disabled``.

        Raises:
            Refused: not stopped, still braking, or the cause stands.
        """
        if self.state is not State.STOPPED:
            raise Refused("reset", f"the gate is {self.state.value}; it resets from stopped")
        check, detail = self._standing_cause(now)
        if check:
            raise Refused("reset", f"cause stands: {check}: {detail}")
        self._stop = ("", "")
        self._drop_commands()
        self._off_track_since, self._off_track = None, ""
        self._disable_at_rest = False
        self._lost_arm = False
        self._enabled_at = np.inf
        self.feedback.settle()
        self.state = State.DISABLED

    def swap(self, limits: Limits, clearance: Clearance, sources: Iterable[Source] | None) -> None:
        """Go on under other limits, zones and sources, from this tick to the next.

        The caller has made sure that they are tighter, or that the gate is disabled.
        """
        self._measured = clearance.of_measured
        for world in (clearance, self._measured):
            world.set_obstacles(self._obstacles)
        self._measured.anchor(self.motion.q)
        self.motion.swap(limits, clearance)
        self.feedback.velocity = limits.velocity
        if sources is not None:
            self._drop_commands()
            self._arbiter = Arbiter(sources)

    # -- the tick -----------------------------------------------------------------------

    def tick(self, now: float) -> Output:
        """One period: what to command for ``now + dt``."""
        self._keep_time(now)
        self._watch(now)
        wanted = None
        if self.state in _MOVING:
            try:
                wanted, verdict = self._advance(now)
            except Exception as error:
                # The stop that is kept needs no thinking: what went wrong here must not keep
                # the arm from being led to rest.
                self.stop(f"the gate failed: {error!r}", "internal")
                verdict = self._run_out(Verdict(Kind.STOPPED, *self._stop))
        elif self.state is State.STOPPED:
            self._let_go_of_another(now)
            self._watch_tracking(now)
            verdict = Verdict(Kind.STOPPED, *self._stop)
        else:
            verdict = Verdict(Kind.HELD, self.state.value)
        commanding = (
            self.state not in (State.WAITING, State.DISABLED)
            and np.isfinite(self._enabled_at)
            and not self._undriven
        )
        clearance, pair = np.inf, None
        if commanding:
            self.verdicts[verdict.kind.value] += 1
            if verdict.check:
                self.checks[verdict.check] += 1
            clearance, pair = self.clearance.nearest()
            self.min_clearance = min(self.min_clearance, clearance)
        self.output = Output(
            positions=self.motion.q.copy() if commanding else None,
            velocities=self.motion.v.copy() if commanding else None,
            wanted=wanted,
            state=self.state,
            verdict=verdict,
            clearance=clearance,
            pair=pair.name if pair else "",
            source=self._arbiter.active,
        )
        return self.output

    @property
    def stop_check(self) -> str:
        """The counter's word for why the gate is stopped; empty while it is not."""
        return self._stop[0]

    @property
    def stop_reason(self) -> str:
        """Why the gate is stopped, for people; empty while it is not."""
        return self._stop[1] or self._stop[0]

    @property
    def active_source(self) -> str:
        """Who has the arm; empty for nobody."""
        return self._arbiter.active

    def follows(self, source: str) -> bool:
        """Whether a command of ``source`` is being carried out, or will be from the next tick."""
        return self._arbiter.active == source and (
            self._pending is not None or self._reference is not None
        )

    @property
    def held(self) -> tuple[str, str]:
        """Why nothing is followed, or why nothing was before this: check and detail."""
        return self._held

    @property
    def clock(self) -> float | None:
        """Seconds into what is followed; slower than time in slow zones. None for nothing."""
        return None if self._reference is None else self._reference.clock

    @property
    def blocked_for(self) -> float:
        """Seconds for which what is wanted has been pushing against something guarded."""
        return 0.0 if self._blocked_since is None else self._now - self._blocked_since

    @property
    def tracking_error(self) -> float:
        """Largest difference of set-point and measurement over the joints, rad."""
        if not self.feedback.whole or not np.isfinite(self._enabled_at):
            return 0.0
        return float(np.max(np.abs(self.feedback.positions - self.motion.q)))

    def _keep_time(self, now: float) -> None:
        """Ticks that come late slow the arm down, then brake it."""
        s = self.settings
        gap = s.dt if self._ticked_at is None else now - self._ticked_at
        self._now = self._ticked_at = now
        if gap <= 2.0 * s.dt:
            self._late_run = max(0.0, self._late_run - 0.1)
            return
        self.late_ticks += 1
        self._late_run += 1.0
        # What nobody could hear did not grow old meanwhile.
        self.feedback.excuse(now, gap - s.dt)
        if gap > s.stall:
            self.brake("overrun", f"no tick for {gap:.3f} s")
        elif self._late_run >= 4 * s.late_ticks:
            self.brake("overrun", f"{self._late_run:.0f} late ticks")
            self._late_run = float(s.late_ticks)

    def _watch(self, now: float) -> None:
        """Causes that stop or brake the arm without anybody asking."""
        if self.state not in _MOVING:
            return
        check, detail = self._standing_cause(now)
        if check and not self._stop[0]:
            self.stop(detail, check)
        self._watch_tracking(now)
        self._watch_measured()
        check, detail = self._braking_cause(now)
        following = self._reference is not None or self._pending is not None
        if check and (following or self._held[0] != check):
            self.brake(check, detail)
        if self.settings.obstacle_speed and self._obstacles:
            age = now - self._obstacles_at
            self.clearance.grow_obstacles(self.settings.obstacle_speed * age)

    def _watch_tracking(self, now: float) -> None:
        s, error = self.settings, self.tracking_error
        if error <= s.tracking_error:
            self._off_track_since, self._off_track = None, ""
            return
        if self._off_track_since is None:
            self._off_track_since = now
        elapsed = now - self._off_track_since
        if elapsed > s.tracking_time and not self._off_track:
            frozen = self.feedback.still_for(now) >= elapsed
            self._off_track = "frozen" if frozen else "tracking_error"

    @property
    def _undriven(self) -> bool:
        """The gate rests, and the arm stands elsewhere: its controller is off, or it is blocked.
        Whoever takes it up again, or frees it, would send it at once to what was sent last;
        nothing is sent until the arm is back, or is enabled anew where it stands."""
        return bool(self._off_track) and self._reference is None and self.motion.at_rest

    def _let_go_of_another(self, now: float) -> None:
        """An arm that was away while the gate is stopped, and comes back elsewhere, was started
        again or moved by hand: it must not be sent to the old stop position."""
        s = self.settings
        if self.feedback.age(now)[0] > s.joint_state_timeout:
            self._lost_arm = True
        elif self._lost_arm and self.tracking_error > s.tracking_error:
            self._enabled_at = np.inf

    def _watch_measured(self) -> None:
        """The margin is kept by set-points; the arm itself may lag or sag past it. What it is
        on its way out of is not held against it."""
        self._measured.move(self.feedback.positions)
        if self._stop[0] or self.motion.recovering:
            return
        clearance, pair = self._measured.nearest()
        if clearance < self.settings.measured_margin:
            text = f"measured: {pair.name} {clearance * 1e3:.1f} mm"
            self.stop(
                f"{text}, at least {self.settings.measured_margin * 1e3:.1f} mm",
                "measured_clearance",
            )

    def _standing_cause(self, now: float) -> tuple[str, str]:
        """What latches: check and detail, empty where nothing does."""
        s = self.settings
        for check, detail in self._faults.items():
            return check, detail
        if not self.feedback.whole:
            missing = ", ".join(self.feedback.missing)
            return "joint_state_age", f"no joint state yet of {missing}"
        age, name = self.feedback.age(now)
        if age > s.joint_state_timeout:
            return (
                "joint_state_age",
                f"joint_states: {name} is {age:.2f} s old; at most {s.joint_state_timeout} s",
            )
        if s.stop_heartbeat is not None:
            if self._stop_heard_at is None:
                return "heartbeat", "no heartbeat on the stop topic yet"
            if now - self._stop_heard_at > s.stop_heartbeat:
                return "heartbeat", f"stop topic silent for {now - self._stop_heard_at:.2f} s"
        if self.state not in _MOVING:
            return "", ""
        if self.feedback.jumped:
            return "joint_state_jump", self.feedback.jumped
        if self.tracking_error > s.tracking_error_hard:
            return "tracking_error_hard", f"tracking error {self.tracking_error:.3f} rad"
        if s.blocked_timeout is not None and self.blocked_for > s.blocked_timeout:
            return "blocked", f"pushing against what is guarded for {self.blocked_for:.1f} s"
        return "", ""

    def _braking_cause(self, now: float) -> tuple[str, str]:
        """What brakes for as long as it stands: check and detail."""
        s = self.settings
        if self.feedback.not_finite:
            return "joint_state_not_finite", f"no number: {self.feedback.not_finite}"
        if self._off_track:
            error = self.tracking_error
            return self._off_track, f"tracking error {error:.3f} rad; at most {s.tracking_error}"
        if s.obstacle_timeout is not None and now - self._obstacles_at > s.obstacle_timeout:
            age = now - self._obstacles_at
            since = f"{age:.2f} s old" if np.isfinite(age) else "never heard"
            return "obstacles_stale", f"obstacles are {since}; at most {s.obstacle_timeout} s"
        for cause in self._hindrances.items():
            return cause
        return "", ""

    def _stopping(self) -> bool:
        return bool(self._stop[0]) or self._disable_at_rest

    def _drop_commands(self) -> None:
        self._pending = None
        self._reference = None
        self._streams.clear()
        self._arbiter.release()
        self._refused_in_a_row, self._refused_since = 0, None

    # -- following ----------------------------------------------------------------------

    def _advance(self, now: float) -> tuple[np.ndarray | None, Verdict]:
        if self._pending is not None:
            self._take_over(now)
        if self._reference is not None:
            self._arbiter.carry_on(now)
        if self._stop[0]:
            return None, self._run_out(Verdict(Kind.STOPPED, *self._stop))
        silent = self._arbiter.silent_for(now)
        if self._arbiter.active and silent > self._arbiter.timed_out_after:
            if self._reference is not None:
                text = f"{self._arbiter.active}: no command for {silent:.2f} s"
                self._held = ("command_timeout", text)
            self._drop_commands()
        if self._reference is None:
            return None, self._run_out(Verdict(Kind.HELD, *self._held))
        ratio, check, why = self._speed_ratio()
        wanted, rate, zone = self._next_setpoint(ratio)
        verdict, by_speed = self.motion.follow(wanted, rate, ratio)
        self._count_blocked(verdict)
        if verdict.kind is not Kind.HELD and (zone[0] or (by_speed and ratio < 1.0)):
            verdict = Verdict(Kind.SLOWED, *(zone if zone[0] else (check, why)))
        if self._reference.finished and self.motion.at_rest:
            self._reference = None
            self._held = ("no_command", "")
            self.state = State.HOLDING
        else:
            self.state = State.SLOWED if verdict.kind is Kind.SLOWED else State.FOLLOWING
        return wanted, verdict

    def _take_over(self, now: float) -> None:
        s, m = self.settings, self.motion
        command, self._pending = self._pending, None
        stream = self._streams.get(self._arbiter.active)
        # A lone set-point that is not the next step of a stream is a goal.
        if stream and (stream.alone is None or m.legal(stream.alone)):
            stream.take(now, m.q, m.v, m.a)
            self._reference = stream
            return
        self._reference = Reference(
            command, now, m.q, m.v, m.a, self.limits, s.dt, s.blend, s.settle
        )
        jump = self._reference.jump
        fits = next((f"<={b:g}" for b in _JUMPS if jump <= b), f">{_JUMPS[-1]:g}")
        self.chunk_jumps[fits] += 1

    def _next_setpoint(self, ratio: float) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
        """Let the reference run one tick on: its set-point, the set-point's velocity, and
        what made its clock run slower. A motion that keeps the speed rules keeps its time."""
        dt, reference = self.settings.dt, self._reference
        velocity = self.limits.velocity
        before = reference.at()
        reference.advance(dt)
        wanted = reference.at()
        rate = (wanted - before) / dt
        factor, *zone = self.clearance.speed_factor(rate, velocity)
        share = float(np.max(np.abs(rate) / velocity))
        if ratio < 1.0 and share * factor > ratio:
            factor, zone = ratio / share, self._speed_ratio()[1:]
        if factor >= 1.0:
            return wanted, rate, ("", "")
        reference.advance(dt * factor - dt)
        wanted = reference.at()
        return wanted, (wanted - before) / dt, tuple(zone)

    def _speed_ratio(self) -> tuple[float, str, str]:
        """Share of the joint speeds that may be used at all: check and text where not 1."""
        out_of = self.motion.recovering
        if out_of:
            return self.settings.recovery_ratio, "recovery", f"recovering: {out_of}"
        if self._late_run >= self.settings.late_ticks:
            return 0.5, "overrun", f"{self.late_ticks} late ticks"
        return 1.0, "", ""

    def _count_blocked(self, verdict: Verdict) -> None:
        if verdict.check not in _GEOMETRY:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = self._now

    def _run_out(self, verdict: Verdict) -> Verdict:
        """Follow the kept stop to rest, then stand."""
        self._blocked_since = None
        moved = bool(self.motion.v.any())
        self.motion.run_out()
        # What leaves last is at rest: the row that ends a motion is still sent.
        if not self.motion.at_rest or (moved and self._disable_at_rest):
            self.state = State.BRAKING
        elif self._stop[0]:
            self.state = State.STOPPED
        elif self._disable_at_rest:
            self._disable_at_rest = False
            self._enabled_at = np.inf
            self.state = State.DISABLED
        else:
            self.state = State.HOLDING
        return verdict
