"""The Hugging Face Hub, or a mirror of it: huggingface_hub says what there is and keeps the cache, ModelDownloader fetches the bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from gollama.errors import DownloadError, ModelNotFoundError
from gollama.models import choosing
from gollama.models.downloading import ModelDownloader
from gollama.models.downloading.limits import Retries
from gollama.models.downloading.transport import may_pass, seconds
from gollama.models.files import LocalModel, Offer, Progress, RemoteFile
from gollama.models.names import HubSource, is_sha256
from gollama.models.sources import hub_cache

Result = TypeVar("Result")

TIMEOUT = 20.0


def offer(source: HubSource, memory: int | None, downloader: ModelDownloader) -> Offer:
    """The files that the source means, with sizes and digests, at the commit that its revision is now. One request."""
    _require_online(source)
    from huggingface_hub import HfApi, get_token

    endpoint, token = hub_cache.endpoint(), get_token()
    api = HfApi(endpoint=endpoint, token=token, library_name="gollama")
    info = _asked(source, downloader,
                  lambda: api.model_info(source.repository, revision=source.revision, files_metadata=True, timeout=TIMEOUT))
    if not hub_cache.is_commit(info.sha or ""):
        raise DownloadError(f"{endpoint} tells no commit of {source.repository}: it is no Hub")
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    def remote(name: str) -> RemoteFile:
        lfs = siblings[name].lfs
        if lfs and not is_sha256(lfs.sha256):  # it becomes a file's name
            raise DownloadError(f"{endpoint} lists {name} with the digest {lfs.sha256[:80]!r}, which is none")
        return RemoteFile(name, f"{endpoint}/{source.repository}/resolve/{info.sha}/{quote(name)}", size=siblings[name].size,
                          sha256=lfs.sha256 if lfs else None, headers=headers)

    there = choosing.models(siblings)
    sizes = {name: [siblings[file].size for file in files] for name, files in there.items()}
    totals = {name: None if None in known else sum(size or 0 for size in known) for name, known in sizes.items()}
    return Offer(source, tuple(map(remote, _chosen(source, siblings, there, totals, memory))), info.sha, totals)


def _chosen(source: HubSource, names: Collection[str], there: dict[str, list[str]], sizes: dict[str, int | None],
            memory: int | None) -> list[str]:
    """The names of the model's files: among all `names`, or those of the models that are `there`, with the bytes of each."""
    if source.file is not None:
        files = choosing.parts(source.file) or [source.file]
        missing = [file for file in files if file not in names]
        if missing:
            raise ModelNotFoundError(f"{source.repository} has no {missing[0]}; it has: {_listed(there)}")
        return files
    if source.quantization is not None:
        wanted = choosing.named(there, source.quantization)
        if not wanted:
            raise ModelNotFoundError(f"{source.repository} has no {source.quantization}; it has: {_listed(there)}")
        return there[wanted[0]]
    if not there:
        raise ModelNotFoundError(f"{source.repository} has no GGUF file: look for a repository whose name ends in -GGUF")
    return there[choosing.choose(sizes, memory)]


def _listed(there: dict[str, list[str]]) -> str:
    names = sorted({choosing.quantization(name) or name for name in there})
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "") if names else "no GGUF file"


def fetch(source: HubSource, sha256: str | None, memory: int | None, downloader: ModelDownloader,
          on_progress: Progress | None) -> LocalModel:
    """Into the shared cache: bytes under their digest in `blobs`, where huggingface_hub finds them and makes links and refs."""
    offered = offer(source, memory, downloader)
    if sha256 is not None and offered.files[0].sha256 != sha256:
        raise DownloadError(f"{source} has the sha256 {str(offered.files[0].sha256)[:16]}… at {hub_cache.endpoint()} and {sha256[:16]}… is "
                            "expected: it was refused")
    blobs = hub_cache.folder(source.repository) / "blobs"
    known = [(file, blobs / file.sha256) for file in offered.files if file.sha256 is not None]
    snapshot = hub_cache.folder(source.repository) / "snapshots" / str(offered.revision)
    missing = [(file, blob) for file, blob in known if not (snapshot / file.name).is_file()]
    downloader.download(missing, on_progress=on_progress, lock=lambda blob: hub_cache.lock(source.repository, blob.name))
    paths = [_linked(source, offered, file, blobs, downloader) for file in offered.files]
    return LocalModel(source, tuple(paths), offered.revision)


def _linked(source: HubSource, offered: Offer, file: RemoteFile, blobs: Path, downloader: ModelDownloader) -> Path:
    """The file's place in the cache, made by huggingface_hub; small files that are not kept by digest it fetches itself."""
    from huggingface_hub import get_token, hf_hub_download

    def ask() -> str:
        return str(hf_hub_download(source.repository, file.name, revision=source.revision or "main", cache_dir=hub_cache.cache(),
                                   endpoint=hub_cache.endpoint(), token=get_token(), library_name="gollama"))

    path = Path(_asked(source, downloader, ask))
    if path.parts[-1 - file.name.count("/") - 1] != offered.revision:
        raise DownloadError(f"{source.repository} changed while it was fetched: try again")
    if file.sha256 is None:
        return path
    blob = blobs / file.sha256
    if path.is_symlink() and path.resolve() != blob.resolve():
        stranger = path.resolve()
        path.unlink()
        stranger.unlink(missing_ok=True)
        raise DownloadError(f"{hub_cache.endpoint()} gives another file than {file.name} with the sha256 {file.sha256[:16]}… that it "
                            "lists: it was thrown away")
    if not path.is_symlink() and blob.is_file():  # a system without links, where huggingface_hub made a copy
        blob.replace(path)
    return path


def _require_online(source: HubSource) -> None:
    if hub_cache.is_offline():
        raise DownloadError(f"{source} is not in the cache {hub_cache.cache()}, and HF_HUB_OFFLINE is set: unset it to fetch it")


def _asked(source: HubSource, downloader: ModelDownloader, ask: Callable[[], Result]) -> Result:
    """The answer of huggingface_hub, tried again where that may help, its exceptions as gollama's."""
    retries = Retries(downloader.retries, downloader.first_pause)
    while True:
        try:
            return ask()
        except Exception as error:  # of the HTTP library that huggingface_hub uses, which is not the same in all of its versions
            told = _told(source, error)
            pause = retries.failed(_retry_after(error)) if _may_pass(error) else None
            if pause is None:
                raise told from error
        time.sleep(pause)


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _retry_after(error: Exception) -> float | None:
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    return seconds(headers.get("Retry-After"))


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return may_pass(status)
    return any(word in type(error).__name__ for word in ("Timeout", "ReadError", "RemoteProtocolError", "ConnectError"))


def _told(source: HubSource, error: Exception) -> Exception:
    from huggingface_hub import errors

    host = hub_cache.endpoint()
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(f"{source.repository} is gated: accept its licence at {host}/{source.repository}, and set HF_TOKEN or "
                             "`hf auth login`")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(f"{source.repository} has no revision {source.revision}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFoundError(f"{host} has no repository {source.repository}, or it is private: then set HF_TOKEN, or `hf auth login`")
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return ModelNotFoundError(f"{source.repository} has no such file: {str(error)[:200]}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return DownloadError(f"{source} is not here and huggingface_hub is offline: unset HF_HUB_OFFLINE to fetch it")
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return DownloadError(f"{source} cannot be stored in {hub_cache.cache()} ({error.strerror}): set HF_HOME to a folder that can be "
                             "written")
    status = _status(error)
    what = f"answers {status}" if status else f"cannot be reached ({type(error).__name__}: {str(error)[:200]})"
    return DownloadError(f"{host} {what}: check the network, HF_ENDPOINT and HF_TOKEN")

