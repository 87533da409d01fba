"""Facts about the machine, from wherever its system keeps them."""

from __future__ import annotations

from gollama.machine import linux, macos, windows
from gollama.machine.facts import Machine
from gollama.machine.sources import Source, System

READERS = {"linux": linux.read, "windows": windows.read, "macos": macos.read}


def inspect(source: Source | None = None) -> Machine:
    """This machine, or the one that the source tells of. Reads small files; runs a vendor's tool where they do not tell."""
    source = source or System()
    reader = READERS.get(source.system)
    if reader is None:
        return Machine(source.system, source.machine, source.libc, source.version)
    return reader(source)
