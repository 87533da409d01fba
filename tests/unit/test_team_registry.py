"""A team's registry: got over the web, kept, hostile until it was checked."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gollama import DownloadError, ModelNotFoundError
from gollama.errors import RegistryError
from gollama.models import ModelRegistry
from tests.support.model_homes import TINY, empty_machine, refuse_sockets, registry_text


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_machine(tmp_path, monkeypatch)


class Web:
    """A server on this machine; `pages` are (status, headers, body) by path, `asked` the paths that were asked for."""

    def __init__(self, host: str) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                status, headers, body = web.pages.get(self.path, (404, {}, b""))
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer((host, 0), Handler)
        self.address = f"http://{host}:{self.server.server_address[1]}"

    def serve(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        self.pages[path] = (status, headers, body)
        return self.address + path


@contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[Web]:
    web = Web(host)
    thread = threading.Thread(target=web.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.server.shutdown()
        web.server.server_close()
        thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        yield found


def test_a_teams_registry_is_used_without_a_network_afterwards(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    url = web.serve("/team.json", registry_text(team__1=TINY).encode())
    assert ModelRegistry().add_registry(url) == 1
    refuse_sockets(monkeypatch)
    assert ModelRegistry().find("team:1").origin == url


def test_a_name_is_looked_up_in_a_teams_registry_without_what_takes_long_to_import(web: Web) -> None:
    address = "https://models.example.com/tiny-Q8_0.gguf#sha256=" + 64 * "0"
    ModelRegistry().add_registry(web.serve("/team.json", registry_text(team__1={"variants": {"Q8_0": [address]}}).encode()))
    code = ("import sys; from gollama.models import ModelRegistry; assert ModelRegistry().locate('team:1') is None; "
            "assert not {'http.client', 'platformdirs', 'ssl'} & {*sys.modules}, sorted(sys.modules)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_pinned_registry_that_changed_is_refused_and_the_old_one_stays(web: Web) -> None:
    text = registry_text(team__1=TINY).encode()
    url = web.serve("/team.json", text)
    ModelRegistry().add_registry(url, hashlib.sha256(text).hexdigest())
    web.serve("/team.json", registry_text(team__2=TINY).encode())
    with pytest.raises(RegistryError, match="is pinned: it was refused"):
        ModelRegistry().upgrade()
    assert ModelRegistry().find("team").name == "team:1"


def test_an_upgrade_gets_the_registry_anew(web: Web) -> None:
    url = web.serve("/team.json", registry_text(team__1=TINY).encode())
    ModelRegistry().add_registry(url)
    web.serve("/team.json", registry_text(team__1=TINY, team__2=TINY).encode())
    done = ModelRegistry().upgrade()
    assert [step.name for step in done] == [url] and done[0].before != done[0].after
    assert ModelRegistry().find("team:2")


def test_a_registry_that_is_removed_takes_its_names_along(machine: Path) -> None:
    (machine / "team.json").write_text(registry_text(team__1=TINY))
    registry = ModelRegistry()
    registry.add_registry(str(machine / "team.json"))
    registry.remove_registry(str(machine / "team.json"))
    with pytest.raises(ModelNotFoundError):
        registry.find("team:1")
    assert not list((machine / "home" / "registries").glob("*"))


def test_a_lost_copy_costs_its_names_and_no_others(machine: Path, caplog: pytest.LogCaptureFixture) -> None:
    (machine / "team.json").write_text(registry_text(team__1=TINY))
    ModelRegistry().add_registry(str(machine / "team.json"))
    for copy in (machine / "home" / "registries").iterdir():
        copy.unlink()
    assert ModelRegistry().find("smollm2") and "`gollama registry upgrade` gets it" in caplog.text


@pytest.mark.parametrize("location", ["file:///etc/passwd", "/etc/passwd", "FILE:///etc/passwd"])
def test_a_redirect_to_a_file_is_refused(web: Web, location: str) -> None:
    url = web.serve("/team.json", status=302, Location=location)
    with pytest.raises(DownloadError):
        ModelRegistry().add_registry(url)
    assert web.asked == ["/team.json"] if "://" in location else ["/team.json", location]
    assert ModelRegistry().registries == ()


def test_a_redirect_to_a_private_address_is_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from gollama.models.downloading import guard

    monkeypatch.setattr(guard, "is_private", lambda address: address.startswith("127.0.0.2"))  # this server's own counts as public
    with serving("127.0.0.2") as private:
        url = web.serve("/team.json", status=302, Location=private.serve("/x.json", registry_text(team__1=TINY).encode()))
        with pytest.raises(DownloadError, match="private network.*it was refused"):
            ModelRegistry().add_registry(url)
        assert private.asked == [] and ModelRegistry().registries == ()


def test_an_oversized_registry_is_refused(web: Web, machine: Path) -> None:
    url = web.serve("/team.json", b" " * (5 << 20))
    with pytest.raises(DownloadError):
        ModelRegistry().add_registry(url)
    assert not list((machine / "home").rglob("*.json"))


@pytest.mark.parametrize(("source", "told"), [
    ("file:/etc/passwd", "a file of this machine"), ("/etc/passwd", "a file of this machine"),
    ("https://10.0.0.1/m.gguf", "a private address"), ("https://[::1]/m.gguf", "a private address"),
    ("https://[::ffff:8.8.8.8]/m.gguf", "a private address"),
    ("https://x.local/m.gguf", "a private address"),
    ("http://127.0.0.1/m.gguf", "a private address"),
])
def test_a_distant_registry_may_not_name_what_is_this_machines(web: Web, source: str, told: str) -> None:
    url = web.serve("/team.json", registry_text(team__1={"variants": {"Q8_0": [source]}}).encode())
    with pytest.raises(RegistryError, match=told):
        ModelRegistry().add_registry(url)
    assert ModelRegistry().registries == ()


@pytest.mark.parametrize("location", ["http://example.com/team.json", "ftp://example.com/x", "file:///etc/passwd", "https://u:p@example.com/x"])
def test_only_https_and_paths_can_be_registries(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_sockets(monkeypatch)
    with pytest.raises(RegistryError, match="a registry's address"):
        ModelRegistry().add_registry(location)
