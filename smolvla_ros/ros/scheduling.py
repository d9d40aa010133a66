"""Who goes first where nodes share cores. Nothing here is needed, all of it helps."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FIFO_PRIORITY = 10  # above everything ordinary, below the kernel's own threads


def go_first() -> str:
    """Give the calling thread real-time scheduling where the user may (root, CAP_SYS_NICE, or
    an rtprio limit, as ros2_control asks for). Returns what the thread runs under."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_FIFO_PRIORITY))
    except OSError:
        return "ordinary"
    return f"SCHED_FIFO {_FIFO_PRIORITY}"


def go_last() -> None:
    """Let every other node of the cell go before this process."""
    os.nice(5)
    # Linux weighs whole sessions against one another before it looks at nice.
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text("5")
