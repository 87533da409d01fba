"""Where gollama keeps what it can get again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """GOLLAMA_HOME, or the user's cache directory."""
    import platformdirs

    return Path(os.environ.get("GOLLAMA_HOME") or platformdirs.user_cache_dir("gollama", appauthor=False))
