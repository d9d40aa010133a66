"""Who goes first where nodes share cores. Nothing here is needed, all of it helps."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FIRST, _SECOND = 10, 5  # above everything ordinary, below the kernel's own threads


def go_first() -> str:
    """Give the calling thread real-time scheduling where the user may (root, CAP_SYS_NICE, or
    an rtprio limit, as ros2_control asks for). Returns what the thread runs under."""
    return _fifo(_FIRST)


def go_second() -> str:
    """The same, one step lower, for every thread that this process has by now, the middleware's
    too: the first one waits for them where they hold the interpreter or a lock, and a busy
    process must not keep them from letting go."""
    found = "ordinary"
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            found = _fifo(_SECOND, int(thread))
    return found


def _fifo(priority: int, thread: int = 0) -> str:
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return "ordinary"
    return f"SCHED_FIFO {priority}"


def go_last() -> None:
    """Let every other node of the cell go before this process."""
    os.nice(5)
    # Linux weighs whole sessions against one another before it looks at nice.
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text("5")
