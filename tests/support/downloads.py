"""What the tests of downloading share."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

from gollama.models import RemoteFile
from gollama.models.downloading import ModelDownloader
from tests.support.hub_server import HubServer, Repository

SIZE = 3_000_017
CONTENT = random.Random(5).randbytes(SIZE)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "owner/tiny-GGUF"
COMMIT = "c" * 40
CHUNK = 1 << 18


def hub_of(content: bytes = CONTENT, **fields: Any) -> HubServer:
    return HubServer({NAME: Repository({"tiny-Q4_K_M.gguf": content})}, **fields)


def remote(hub: HubServer, **fields: Any) -> RemoteFile:
    """The file, where a redirect leads."""
    return RemoteFile("tiny-Q4_K_M.gguf", f"{hub.store}/store/{NAME}/{COMMIT}/tiny-Q4_K_M.gguf",
                      **{"size": SIZE, "sha256": DIGEST, **fields})


def linked(hub: HubServer, **fields: Any) -> RemoteFile:
    """The file, at the address that redirects."""
    return RemoteFile("tiny-Q4_K_M.gguf", f"{hub.endpoint}/{NAME}/resolve/{COMMIT}/tiny-Q4_K_M.gguf",
                      **{"size": SIZE, "sha256": DIGEST, **fields})


def downloader(**fields: Any) -> ModelDownloader:
    return ModelDownloader(**{"chunk_size": CHUNK, "first_pause": 0.01, "timeout": 5, **fields})


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".lock"))
