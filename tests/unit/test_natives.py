"""Fetching natives, with the real npm client and a registry on this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import registry
from tools import natives
from tools.pins import Package

GOOD = {"package/package.json": b'{"name": "parts", "version": "1.0.0"}', "package/LICENSE": b"MIT", "package/bins/libx.so": b"x" * 1000}


def package(content: bytes) -> Package:
    return Package("parts", "parts", "1.0.0", registry.sha512(content), 0.001, "bins")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package is to appear; npm's own cache and the cache directory lie beside it."""
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.delenv("GOLLAMA_NATIVE_DIR", raising=False)
    return tmp_path / "natives" / "parts"


def nothing_left(folder: Path) -> bool:
    return not folder.parent.exists() or not list(folder.parent.iterdir())


def obtain(content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch, pinned: Package | None = None) -> None:
    with registry.serving("parts", "1.0.0", content) as address:
        monkeypatch.setenv("npm_config_registry", address)
        natives.obtain(pinned or package(content), folder)


def test_a_package_is_unpacked_with_its_licence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obtain(registry.archive(GOOD), folder, monkeypatch)
    assert sorted(file.name for file in folder.iterdir()) == [natives.STAMP, "LICENSE", "libx.so"]
    assert [entry.name for entry in folder.parent.iterdir()] == ["parts"]


def test_a_digest_that_is_not_the_pinned_one_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = package(b"something else")
    with pytest.raises(natives.NativesError, match="do not use this download.*npm cache clean"):
        obtain(registry.archive(GOOD), folder, monkeypatch, pinned)
    assert nothing_left(folder)


@pytest.mark.parametrize("name", ["package/../../evil", "/etc/evil", "package/..\\evil", "package/C:/evil", "evil"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "bad.tgz"
    file.write_bytes(registry.archive({name: b"evil"}))
    with pytest.raises(natives.NativesError, match="may not be unpacked"):
        natives.unpack(file, tmp_path / "out" / "inner")
    assert not [found for found in tmp_path.rglob("*evil*") if found.is_file()]


def test_a_link_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.tgz"
    file.write_bytes(registry.archive({}, links={"package/bins": "/etc"}))
    with pytest.raises(natives.NativesError, match="may not be unpacked"):
        natives.unpack(file, tmp_path / "out")


def test_without_npm_the_sentence_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(natives.NativesError, match=r"npm is needed .* install Node\.js, or set GOLLAMA_NATIVE_DIR"):
        natives.obtain(package(b""), folder)
    assert nothing_left(folder)


def test_without_a_network_the_sentence_says_what_to_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    with pytest.raises(natives.NativesError, match=r"npm could not fetch parts@1\.0\.0 \(.*\): check the network"):
        natives.obtain(package(b""), folder)
    assert nothing_left(folder)


def test_a_version_that_is_not_there_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = registry.archive(GOOD)
    pinned = Package("parts", "parts", "2.0.0", registry.sha512(content), 0.001, "bins")
    with pytest.raises(natives.NativesError, match=r"npm could not fetch parts@2\.0\.0"):
        obtain(content, folder, monkeypatch, pinned)
    assert nothing_left(folder)


def test_a_full_disk_is_told_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(natives, "unpack", full)
    with pytest.raises(natives.NativesError, match="no space left in .* GOLLAMA_HOME"):
        obtain(registry.archive(GOOD), folder, monkeypatch)
    assert nothing_left(folder)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_build_within_a_git_hook_leaves_the_hooks_repository_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(folder: str, *arguments: str) -> str:
        command = ["git", "-C", str(tmp_path / folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    for name in ("upstream", "outer"):
        (tmp_path / name).mkdir()
        git(name, "init", "--quiet")
        (tmp_path / name / "LICENSE").write_text(name)
        git(name, "add", ".")
        git(name, "commit", "--quiet", "-m", name)
    git("upstream", "bundle", "create", str(tmp_path / "llama.bundle"), "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "outer" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "outer" / ".git" / "index"))
    tree = natives._check_out(tmp_path / "llama.bundle", tmp_path / "tree", "HEAD")
    assert (tree / "LICENSE").read_text() == "upstream"
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert (tree / natives.COMMIT).read_text() == git("upstream", "rev-parse", "HEAD") and not git("outer", "status", "--porcelain")


def test_a_folder_of_unpacked_natives_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "linux-x64").mkdir()
    monkeypatch.setenv("GOLLAMA_NATIVE_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert natives.library_folder("linux-x64") == tmp_path / "linux-x64"
    with pytest.raises(natives.NativesError, match="has no folder 'source'"):
        natives.source_tree()
    (tmp_path / "linux-x64" / natives.STAMP).write_text("of another version")
    with pytest.raises(natives.NativesError, match="'linux-x64' is not @node-llama-cpp/linux-x64@3"):
        natives.library_folder("linux-x64")


def test_the_content_identifies_a_folder_that_nobody_stamped(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("int a;")
    first = natives.digest(tmp_path)
    (tmp_path / "a.h").write_text("int b;")
    assert natives.digest(tmp_path) != first
    (tmp_path / natives.STAMP).write_text("stamped")
    assert natives.digest(tmp_path) == "stamped"
