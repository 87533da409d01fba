"""macOS: Apple's processors bring their GPU, and Metal with it."""

from __future__ import annotations

from gollama.machine.facts import Gpu, Machine
from gollama.machine.sources import Source


def read(source: Source) -> Machine:
    name = (source.run(("sysctl", "-n", "machdep.cpu.brand_string")) or "").strip()
    gpus = (Gpu("Apple", "", name, "metal"),) if source.machine == "arm64" else ()
    return Machine("macos", source.machine, version=source.version, gpus=gpus)
