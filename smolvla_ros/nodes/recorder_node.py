"""The recorder: what a cell's policy would see and what its arm is sent, into a dataset."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial

from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cell import load_cell
from smolvla_ros.learn.episodes import Refused, State
from smolvla_ros.ros import qos
from smolvla_ros.ros.diagnostics import ERROR, OK, WARN, Diagnostics, Status
from smolvla_ros.ros.observing import Observing
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.policy_status import Told, stream_values
from smolvla_ros.ros.run import Fatal, run
from smolvla_ros.schema import ConfigError

_LOOK = 0.01  # s between two looks at a clock that may be simulated
_TYPES = {"JointTrajectory": JointTrajectory, "Float64MultiArray": Float64MultiArray}


class RecorderNode(Node):
    """Records episodes: ``~/start``, ``~/end``, ``~/keep``, ``~/discard``.

    Callbacks only fill mailboxes; a worker thread takes a frame at every period of the data,
    decodes and packs it.
    """

    def __init__(self) -> None:
        super().__init__("recorder", automatically_declare_parameters_from_overrides=True)
        self.failure: BaseException | None = None
        config, path = declare(self, "recorder")
        if path is None:
            raise ConfigError("recorder: pass the cell's file: --ros-args --params-file CELL.yaml")
        cell = load_cell(path)
        # Imported here: lerobot takes seconds, and a wrong key should not.
        try:
            from smolvla_ros.learn.recording import Recording
        except ImportError as error:
            raise ConfigError(
                f"recording needs lerobot's datasets ({error}); pip install 'smolvla_ros[train]'"
            ) from error
        recording = Recording(cell, config)
        self._episodes, self._streams = recording.episodes, recording.streams
        self._out, self._dt = config.out, recording.dt
        self._lock = threading.Lock()  # of the episodes
        self._told, self._lost = Told(), ""
        self._closing = threading.Event()
        self._observing = Observing(self, cell.vla, recording.streams, lambda text: None)
        self._observing.look()
        self.create_subscription(
            _TYPES[recording.sent_type],
            recording.sent_topic,
            lambda message: recording.sent.put(self._now(), message),
            qos.EVERY_ONE_IN,
        )
        actions = {"start": self.start, "end": self.end, "keep": self.keep, "discard": self.discard}
        for name, action in actions.items():
            self.create_service(Trigger, f"~/{name}", partial(self._serve, action))
        self._diagnostics = Diagnostics(self, "recorder", self._status)
        self._worker = threading.Thread(target=self._work, name="frames", daemon=True)
        self._worker.start()
        self.get_logger().info(f"ready, {recording.dt:g} s a frame, into {config.out}")

    def close(self) -> None:
        """End the worker; the running episode is thrown away, the dataset is whole."""
        self._closing.set()
        self._worker.join(timeout=5.0)
        self._observing.close()
        with self._lock:
            lost, kept = self._episodes.frames, self._episodes.kept
            self._episodes.close()
        if lost:
            self.get_logger().warning(f"ending; the running episode of {lost} frames is discarded")
        self.get_logger().info(f"kept {kept} episode(s) in {self._out}")

    # -- what people do -----------------------------------------------------------------

    def start(self) -> str:
        """Begin an episode with the next whole frame."""
        self._episodes.start()
        self._lost = ""
        return "recording from the next whole frame on"

    def end(self) -> str:
        """Take no more frames; keep or discard follows."""
        self._episodes.end()
        return f"ended after {self._episodes.frames} frames"

    def keep(self) -> str:
        """Save the episode, ended or not."""
        gaps, reason = self._episodes.gaps, self._episodes.reason
        try:
            frames = self._episodes.keep()
        except OSError as error:
            self._lose(error)
            raise Refused(self._lost) from error
        words = f"kept {frames} frames, episode {self._episodes.kept} of this recording"
        words += f"; {gaps} frames were missing in it" if gaps else ""
        words += f"; it had ended: {reason}" if reason else ""
        return words

    def discard(self) -> str:
        """Throw the episode away."""
        return f"discarded {self._episodes.discard()} frames"

    @property
    def has_episode(self) -> bool:
        """Whether there is one to keep or to discard."""
        return self._episodes.state is not State.IDLE

    def act(self, action: Callable[[], str]) -> tuple[bool, str]:
        """Do one of the above, from any thread; whether it was done, and what to say of it."""
        try:
            with self._lock:
                done, words = True, action()
        except Refused as refusal:
            done, words = False, str(refusal)
        except ConfigError as error:
            self.failure, done, words = error, False, str(error)
        if done:
            self.get_logger().info(words)
        else:
            self.get_logger().warning(f"refused: {words}")
        return done, words

    def progress(self) -> str:
        """One line: what is being recorded, and how much is kept."""
        with self._lock:
            e = self._episodes
            words = e.state.value
            if e.state is not State.IDLE:
                words += f" {e.frames} frames, {e.frames * self._dt:.1f} s"
                words += f", {e.gaps} missing" if e.gaps else ""
                words += f" [{e.task}]" if e.task else ""
                why = e.reason or "; ".join(e.lacking)
                words += f" ({why})" if why else ""
            return f"{words} | kept {e.kept} episodes, {e.kept_frames} frames"

    def _serve(self, action, _request, response):
        response.success, response.message = self.act(action)
        return response

    # -- worker -------------------------------------------------------------------------

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _work(self) -> None:
        due = 0.0
        try:
            while not self._closing.wait(min(max(due - self._now(), 0.0), _LOOK)):
                now = self._now()
                if now >= due or now < due - 2 * self._dt:  # or the clock was set back
                    with self._lock:
                        self._tick(now)
                    due = self._episodes.due(now)
        except ConfigError as error:
            self.failure = error
        except Exception as error:
            self.failure = Fatal(f"the recording's thread died: {error!r}")

    def _tick(self, now: float) -> None:
        before = self._episodes.state
        try:
            self._episodes.tick(now)
        except OSError as error:
            self._lose(error)
        lacking = self._episodes.lacking if before is not State.IDLE else ()
        for reason in self._told.news(lacking):
            self.get_logger().info(f"no frame: {reason}")
        if self._episodes.state is State.ENDED is not before:
            self.get_logger().warning(
                f"the episode ended after {self._episodes.frames} frames: {self._episodes.reason}; "
                "keep or discard it"
            )

    def _lose(self, error: OSError) -> None:
        self._lost = f"the episode is lost: {error}; what was kept before is whole"
        self.get_logger().error(self._lost)

    # -- what people see ----------------------------------------------------------------

    def _status(self) -> Status:
        with self._lock:
            state, lacking = self._episodes.state, self._episodes.lacking
            ended = f": {self._episodes.reason}" if state is State.ENDED else ""
        if self._lost:
            return Status(ERROR, self._lost, self._values)
        if lacking and state in (State.WAITING, State.RECORDING):
            return Status(WARN, f"{state.value}: no frame: {'; '.join(lacking)}", self._values)
        return Status(OK, state.value + ended, self._values)

    def _values(self) -> dict[str, object]:
        with self._lock:
            e = self._episodes
            values: dict[str, object] = {
                "state": e.state.value,
                "frames": e.frames,
                "missing_frames": e.gaps,
                "kept_episodes": e.kept,
                "kept_frames": e.kept_frames,
                "task": e.task,
                "instruction": self._streams.instruction,
                "out": self._out,
            }
        return values | stream_values(self._streams.status(self._now()))


def main() -> int:
    """Entry point of ``recorder_node``."""
    return run(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
