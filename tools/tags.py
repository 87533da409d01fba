"""The platform tag that a wheel's libraries deserve: what they need of the C and C++ library, and no promise beyond it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tools.natives import NativesError
from tools.pins import Wheel

# the newest version of each symbol set that a manylinux policy allows, as auditwheel states the policies
LIBSTDCXX = {24: 28, 28: 31, 29: 34, 30: 35, 33: 39}  # GLIBCXX_3.4.x to the x of manylinux_2_x


def manylinux(files: Iterable[Path]) -> int:
    """The x of the lowest manylinux_2_x that serves all the libraries.

    A library names the versions that it needs as plain strings: ours define none of these themselves.
    """
    lowest = 17
    for file in files:
        content = file.read_bytes()
        lowest = max([lowest, *(int(number) for number in re.findall(rb"\0GLIBC_2\.(\d+)(?:\.\d+)?(?=\0)", content))])
        for needed in map(int, re.findall(rb"\0GLIBCXX_3\.4\.(\d+)(?=\0)", content)):
            enough = [glibc for newest, glibc in LIBSTDCXX.items() if newest >= needed]
            if not enough:
                raise NativesError(f"{file.name} needs GLIBCXX_3.4.{needed}, which no manylinux policy allows: compile with an older "
                                   "compiler, or build from source with GOLLAMA_NATIVE=source")
            lowest = max(lowest, min(enough))
    return lowest


def platform_tag(wheel: Wheel, provider: str, files: Iterable[Path]) -> str:
    """The tag for a wheel of that row with these libraries.

    The row's own tag is what the row's own provider must reach; it is an error where it does not.
    """
    if wheel.system != "linux" or wheel.libc == "musl":
        return wheel.tag
    found = manylinux(files)
    promised = int(wheel.tag.split("_")[2])
    if provider == wheel.provider:
        if found > promised:
            raise NativesError(f"the libraries need glibc 2.{found}, and the tag {wheel.tag} promises that 2.{promised} is enough")
        return wheel.tag
    return f"manylinux_2_{found}_{wheel.machine}"
