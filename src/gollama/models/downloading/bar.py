"""The progress bar of a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gollama.models.files import Progress


@contextmanager
def bar(name: str) -> Iterator[Progress | None]:
    """A progress callback that draws a bar on stderr; None where that is no terminal, without importing what draws."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("fetching {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as drawn:
        task = drawn.add_task(escape(name), total=None)
        yield lambda done, total: drawn.update(task, completed=done, total=total)
