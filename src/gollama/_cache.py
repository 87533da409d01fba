"""Where gollama keeps what it can get again, and what the user told it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """GOLLAMA_HOME, or the user's cache directory."""
    named = os.environ.get("GOLLAMA_HOME")
    if named:
        return Path(named)
    import platformdirs  # takes milliseconds

    return Path(platformdirs.user_cache_dir("gollama", appauthor=False))


def config_directory() -> Path:
    """GOLLAMA_CONFIG_HOME, or the user's directory for settings."""
    named = os.environ.get("GOLLAMA_CONFIG_HOME")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_config_dir("gollama", appauthor=False))
