"""The command `gollama`.

Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from gollama.errors import GollamaError


def main() -> None:
    """Entry point."""
    from gollama.cli.commands import app

    try:
        app()
    except GollamaError as error:
        print(f"gollama: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        # the reader of our output has gone, which is its right; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
