"""Downloading files over HTTP: in parallel, resumed, verified, whole or not at all."""

from __future__ import annotations

from gollama.models.downloading.downloader import DownloadEvent, ModelDownloader
from gollama.models.downloading.transport import read_all, read_range

__all__ = ["DownloadEvent", "ModelDownloader", "read_all", "read_range"]
