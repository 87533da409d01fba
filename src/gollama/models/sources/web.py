"""Files at an address: one file with its digest, or a manifest that lists a model's files with theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from gollama.errors import DownloadError, ModelNameError
from gollama.models import _documents, choosing
from gollama.models.files import MOST_MANIFEST, LocalModel, Manifest, Offer, Progress, RemoteFile
from gollama.models.names import UrlSource, check_url

if TYPE_CHECKING:
    from gollama.models.downloading import ModelDownloader

MANIFEST = "manifest.json"


def is_manifest(source: UrlSource) -> bool:
    return source.file.lower().endswith(".json")


def find(source: UrlSource, path: Path) -> LocalModel | None:
    if not is_manifest(source):
        return LocalModel(source, (path,)) if path.is_file() else None
    kept = path.parent / MANIFEST
    try:
        files = Manifest.read(kept.read_bytes(), source.sha256).files
    except OSError:  # none here, or one of another digest (DownloadError)
        return None
    paths = tuple(path.parent / file.name for file in files)
    there = all(each.is_file() and each.stat().st_size == file.size for each, file in zip(paths, files, strict=True))
    return LocalModel(source, paths) if there else None


def offer(source: UrlSource, sha256: str | None, size: int | None) -> Offer:
    """DownloadError without a digest: what comes over the web is not used unverified."""
    return _checked(source, sha256, size)[0]


def _checked(source: UrlSource, sha256: str | None, size: int | None) -> tuple[Offer, bytes | None]:
    """What the source offers, and the bytes of its manifest if it is one."""
    digest = source.sha256 or sha256
    if None not in (source.sha256, sha256) and source.sha256 != sha256:
        raise DownloadError(f"{source} has another sha256 than {sha256}, which is expected")
    if digest is None:
        raise DownloadError(f"{source} has no digest: write {source.url}#sha256=..., 64 hexadecimal digits as `sha256sum` tells them")
    if not is_manifest(source):
        if choosing.parts(source.file):
            raise DownloadError(f"{source.file} is one of several parts: give the address of a manifest that lists them")
        return Offer(source, (RemoteFile(source.file, source.url, size, digest),)), None
    from gollama.models.downloading import read_all

    manifest = read_all(source.url, MOST_MANIFEST)
    files = Manifest.read(manifest, digest).files
    remote = tuple(RemoteFile(file.name, _address(source, file.url or file.name), file.size, file.sha256) for file in files)
    return Offer(source, remote), manifest


def _address(source: UrlSource, url: str) -> str:
    """Of a manifest's file: https, or plain http where the manifest itself is this machine's."""
    address = urljoin(source.url, url)
    try:
        check_url(address)
    except ModelNameError as error:
        raise DownloadError(f"the manifest leads to {address[:200]!r} ({error}): it was refused") from None
    if address.startswith("http:") and not source.url.startswith("http:"):
        raise DownloadError(f"the manifest leads from https to {address[:200]!r}: it was refused")
    return address


def fetch(source: UrlSource, path: Path, sha256: str | None, size: int | None, downloader: ModelDownloader,
          on_progress: Progress | None) -> LocalModel:
    offered, manifest = _checked(source, sha256, size)
    if manifest is None:
        downloader.download([(offered.files[0], path)], on_progress=on_progress)
        return LocalModel(source, (path,))
    paths = downloader.download([(file, path.parent / file.name) for file in offered.files], on_progress=on_progress)
    _documents.write_bytes(path.parent / MANIFEST, manifest)
    return LocalModel(source, tuple(paths))
