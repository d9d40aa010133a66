"""A loop that does nothing but wake up in time, with the scheduling of the gate's thread.

    python -m smolvla_ros.cli.benchmark.sleeper 0.004

What it misses, the machine misses. Prints a JSON object when it is terminated.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time

from smolvla_ros.cli.benchmark.drive import milliseconds
from smolvla_ros.ros.scheduling import go_first


def main() -> None:
    """Entry point; the argument is the period in seconds."""
    dt = float(sys.argv[1])
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    gc.freeze()
    gc.disable()
    scheduling = go_first()
    late: list[float] = []
    print("up", flush=True)
    due = time.monotonic()
    while not ending:
        due += dt
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
        if late[-1] > dt:
            due = time.monotonic()
    missed = sum(x > dt for x in late)
    print(json.dumps({"missed": missed, "late_ms": milliseconds(late), "scheduling": scheduling}))


if __name__ == "__main__":
    main()
