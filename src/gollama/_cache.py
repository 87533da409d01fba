"""Where gollama keeps what it can get again, and what the user told it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """GOLLAMA_HOME, or the user's cache directory."""
    import platformdirs

    return Path(os.environ.get("GOLLAMA_HOME") or platformdirs.user_cache_dir("gollama", appauthor=False))


def config_directory() -> Path:
    """GOLLAMA_CONFIG_HOME, or the user's directory for settings."""
    import platformdirs

    return Path(os.environ.get("GOLLAMA_CONFIG_HOME") or platformdirs.user_config_dir("gollama", appauthor=False))
