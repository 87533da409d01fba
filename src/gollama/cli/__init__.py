"""The command `gollama`.

Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from gollama.errors import GollamaError


def main() -> None:
    """Entry point."""
    import typer

    from gollama.cli import access, commands, gguf, hardware, models, registry, serve, store  # noqa: F401 (they add themselves)
    from gollama.cli.application import app

    try:
        code = app(standalone_mode=False)  # which leaves the words for usage errors to us
        raise SystemExit(code if isinstance(code, int) else 0)
    except GollamaError as error:
        raise _ended(str(error), 1) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    except BrokenPipeError:
        # the reader of our output has gone, which is its right; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        raise _ended(str(error), 1) from None
    except Exception as error:
        if not hasattr(error, "format_message"):  # what click's exceptions have, whichever click typer brings
            raise
        raise _ended(f"{error.format_message()} (try --help)", 2) from None


def _ended(message: str, code: int) -> SystemExit:
    from gollama.cli.output import visible

    print(f"gollama: {visible(' '.join(message.split()))}", file=sys.stderr)
    return SystemExit(code)
