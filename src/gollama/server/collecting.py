"""When Python's garbage collector goes through everything: at a quiet moment, as it stops everybody meanwhile.

For a process that is a server and nothing else. A request is some 300 objects while it runs: with 500 of them, a collection of all takes
50 to 100 ms, and Python would begin it just when they come.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

FEW = 64  # requests, beside which a collection takes some 10 ms
PERIOD = 10.0  # seconds
LONGEST = 300.0  # seconds without one, however many requests there are
NEVER = 2**31 - 1


class Collector:
    """A `with` block, in which `running` tells how many requests there are. The small collections go on as ever.

    What is here when it begins stays, and is never gone through again.
    """

    def __init__(self, running: Callable[[], int]) -> None:
        self._running = running
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gollama-collector", daemon=True)
        self._thresholds = gc.get_threshold()

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*self._thresholds[:2], NEVER)
        self._thread.start()

    def __exit__(self, *details: object) -> None:
        self._ended.set()
        self._thread.join()
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _work(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(PERIOD):
            if self._running() <= FEW or time.monotonic() - last >= LONGEST:
                gc.collect()
                last = time.monotonic()
