"""Files at addresses, manifests, files of this machine; where a request may go."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import DownloadError, ModelNotFoundError, OptionError, models
from gollama.models import FileSource, Manifest, RemoteFile, UrlSource, WheelSource, sources
from gollama.models.downloading.guard import Guard, origin
from gollama.models.names import is_private
from tests.support.downloads import COMMIT, CONTENT, DIGEST, NAME, SIZE, downloader, hub_of, left, remote
from tests.support.hub_server import Fault, HubServer

OWNER_NAME_COMMIT = f"{NAME}/{COMMIT}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("GOLLAMA_HOME", str(tmp_path / "home"))
    with hub_of() as server:
        yield server


def publish(hub: HubServer, name: str, content: bytes) -> tuple[str, str]:
    """(its address, its sha256)"""
    hub.repositories[NAME].files[name] = content
    return f"{hub.store}/store/{OWNER_NAME_COMMIT}/{name}", hashlib.sha256(content).hexdigest()


def manifest_of(**changes: Any) -> bytes:
    rows = [{"name": "tiny-Q4_K_M.gguf", "size": SIZE, "sha256": DIGEST, **changes}]
    return json.dumps({"files": rows}).encode()


def test_an_address_with_its_digest_is_fetched_once(hub: HubServer, tmp_path: Path) -> None:
    text = f"{remote(hub).url}#sha256={DIGEST}"
    path = models.fetch(text)
    assert path.read_bytes() == CONTENT and path.name == "tiny-Q4_K_M.gguf" and tmp_path / "home" in path.parents
    hub.sent.clear()
    code = ("import sys; from gollama import models; print(models.resolve(sys.argv[1])); "
            "assert not {'http.client', 'rich', 'ssl'} & {*sys.modules}, sorted(sys.modules)")
    result = subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == (str(path), "") and hub.sent == []


def test_an_address_without_a_digest_is_refused_unless_a_registry_has_one(hub: HubServer, tmp_path: Path) -> None:
    source = UrlSource(remote(hub).url)
    with pytest.raises(DownloadError, match="has no digest: write"):
        sources.fetch(source)
    assert hub.sent == []
    assert sources.fetch(source, sha256=DIGEST, size=SIZE, into=tmp_path / "x.gguf").path == tmp_path / "x.gguf"


def test_an_address_and_a_registry_that_disagree_are_refused(hub: HubServer) -> None:
    with pytest.raises(DownloadError, match="another sha256"):
        sources.fetch(UrlSource(remote(hub).url, DIGEST), sha256="0" * 64)


def test_wrong_bytes_at_an_address_leave_nothing(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="it was thrown away"):
        sources.fetch(UrlSource(remote(hub).url, "0" * 64), into=tmp_path / "x" / "x.gguf")
    assert left(tmp_path / "x") == []


def test_one_part_of_several_asks_for_a_manifest(hub: HubServer) -> None:
    with pytest.raises(DownloadError, match="give the address of a manifest"):
        sources.fetch(UrlSource(f"{hub.store}/x-00001-of-00002.gguf", DIGEST))


def test_a_manifest_brings_all_its_files(hub: HubServer) -> None:
    first, second = b"a" * 1000, b"b" * 2000
    publish(hub, "m-00001-of-00002.gguf", first)
    _, other = publish(hub, "m-00002-of-00002.gguf", second)
    rows = [{"name": "m-00001-of-00002.gguf", "size": 1000, "sha256": hashlib.sha256(first).hexdigest()},
            {"name": "m-00002-of-00002.gguf", "size": 2000, "sha256": other, "url": "m-00002-of-00002.gguf"}]
    url, digest = publish(hub, "m.json", json.dumps({"files": rows}).encode())
    found = sources.fetch(UrlSource(url, digest))
    assert [file.read_bytes() for file in found.files] == [first, second]
    hub.sent.clear()
    assert sources.fetch(UrlSource(url, digest)) == found and hub.sent == []


def test_the_manifest_that_was_checked_is_the_one_that_is_kept(hub: HubServer, tmp_path: Path) -> None:
    publish(hub, "tiny-Q4_K_M.gguf", CONTENT)
    content = manifest_of()
    url, digest = publish(hub, "m.json", content)
    hub.faults.append(Fault(r"m\.json", after=1, wrong_bytes=True))
    sources.fetch(UrlSource(url, digest), into=tmp_path / "m" / "m.json")
    assert (tmp_path / "m" / "manifest.json").read_bytes() == content and len(hub.bodies(r"m\.json")) == 1


def test_a_manifest_of_another_digest_is_refused(hub: HubServer) -> None:
    url, _ = publish(hub, "m.json", manifest_of())
    with pytest.raises(DownloadError, match="is expected: it was refused"):
        sources.fetch(UrlSource(url, "0" * 64))


@pytest.mark.parametrize("changes", [{"name": "../x"}, {"name": "/etc/x"}, {"name": "a\0b"}, {"size": -1},
                                     {"size": True}, {"size": 1 << 60},
                                     {"sha256": "x"}, {"url": 1}, {"extra": 1}])
def test_a_manifest_with_a_bad_entry_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DownloadError, match="malformed"):
        Manifest.read(manifest_of(**changes))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"[" * 100_000, b'{"files": []}', b'{"files": 1}', b"\xff", b" " * (2 << 20),
                                  b'{"files": [' + manifest_of()[11:-2] + b"," + manifest_of()[11:-2] + b"]}"])
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(DownloadError):
        Manifest.read(text)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "http://example.org/x", "//user@example.org/x"])
def test_a_manifest_leads_only_to_the_web(hub: HubServer, url: str) -> None:
    address, digest = publish(hub, "m.json", manifest_of(url=url))
    with pytest.raises(DownloadError, match="it was refused"):
        sources.fetch(UrlSource(address, digest))


def test_a_manifest_verifies_a_folder(tmp_path: Path) -> None:
    manifest = Manifest.read(manifest_of())
    with pytest.raises(DownloadError, match="is not there"):
        manifest.verify(tmp_path)
    (tmp_path / "tiny-Q4_K_M.gguf").write_bytes(CONTENT)
    manifest.verify(tmp_path)
    (tmp_path / "tiny-Q4_K_M.gguf").write_bytes(bytes(SIZE))
    with pytest.raises(DownloadError, match="and the manifest says"):
        manifest.verify(tmp_path)


# ---- files of this machine ----


def test_a_file_is_taken_where_it_lies_with_all_its_parts(tmp_path: Path) -> None:
    names = [f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = sources.fetch(FileSource(str(tmp_path / names[1])))
    assert [file.name for file in found.files] == names
    (tmp_path / names[0]).unlink()
    with pytest.raises(ModelNotFoundError, match=names[0]):
        sources.fetch(FileSource(str(tmp_path / names[1])))


def test_a_source_without_an_address_offers_nothing() -> None:
    source = models.parse("pypi:one==1/x")
    assert isinstance(source, WheelSource)
    with pytest.raises(OptionError, match="hf: or https:"):
        sources.offer(source)


# ---- where a request may go ----


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fe80::1%eth0", "fd00::1",
    "::ffff:10.0.0.1", "224.0.0.1", "ff02::1"])
def test_addresses_that_the_world_cannot_reach_are_private(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_others_are_public(address: str) -> None:
    assert not is_private(address)


PUBLIC = Guard.of("https://example.org/x", lambda host, port: ["1.1.1.1"])


@pytest.mark.parametrize("location", ["https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x", "https://169.254.169.254/x",
                                      "http://example.org/x", "file:///etc/passwd"])
def test_a_public_address_redirects_to_no_private_one_and_not_out_of_https(location: str) -> None:
    with pytest.raises(DownloadError):
        PUBLIC.redirected("https://example.org/x", location)


def test_a_public_address_redirects_to_another() -> None:
    assert PUBLIC.redirected("https://example.org/x", "https://cdn.example.org/y?z=1") == "https://cdn.example.org/y?z=1"
    assert PUBLIC.redirected("https://example.org/a/x", "../y") == "https://example.org/y"


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_connected_to() -> None:
    PUBLIC.check("1.1.1.1", "example.org")
    with pytest.raises(DownloadError, match="private network"):
        PUBLIC.check("10.0.0.1", "example.org")


@pytest.mark.parametrize(("found", "private"), [(["10.0.0.1"], True), (["10.0.0.1", "1.1.1.1"], False), ([], False)])
def test_a_mirror_in_a_private_network_may_be_private_throughout(found: list[str], private: bool) -> None:
    assert Guard.of("https://mirror.example.org/x", lambda host, port: found).private is private


@given(st.text(max_size=40))
def test_any_redirect_is_followed_to_https_or_refused(location: str) -> None:
    try:
        target = PUBLIC.redirected("https://example.org/x", location)
    except DownloadError:
        return
    assert origin(target)[0] == "https" and origin(target)[1]


class Tunnels(socketserver.StreamRequestHandler):
    """A proxy's CONNECT."""

    asked: list[str] = []

    def handle(self) -> None:
        line = self.rfile.readline().decode()
        self.asked.append(line.split()[1])
        while self.rfile.readline().strip():
            pass
        host, _, port = line.split()[1].rpartition(":")
        with socket.create_connection((host, int(port))) as other:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=self.relay, args=(other, self.connection), daemon=True)
            back.start()
            self.relay(self.connection, other)
            back.join()

    @staticmethod
    def relay(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                target.sendall(block)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def test_a_proxy_is_asked_for_names_that_only_it_knows(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.store)
    monkeypatch.delenv("no_proxy", raising=False)
    file = remote(hub)
    away = RemoteFile(file.name, file.url.replace("127.0.0.1", "models.invalid"), file.size, file.sha256)
    assert downloader().download([(away, tmp_path / "x")])[0].read_bytes() == CONTENT


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_https_is_verified_and_does_not_lead_to_http(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gollama.models.downloading import transport

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key),
                    "-out", str(certificate), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with hub_of() as secure:
        server = secure._servers[1]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = remote(secure).url.replace("http://127.0.0.1", "https://localhost")
        monkeypatch.setenv("no_proxy", "localhost")
        transport._context.cache_clear()
        with pytest.raises(DownloadError, match=r"certificate|CERTIFICATE"):
            sources.fetch(UrlSource(url, DIGEST), downloader=downloader())
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        transport._context.cache_clear()
        assert sources.fetch(UrlSource(url, DIGEST), downloader=downloader()).path.read_bytes() == CONTENT
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnels) as proxy:
            proxy.daemon_threads = True
            threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
            monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{proxy.server_address[1]}")
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            path = sources.fetch(UrlSource(url, DIGEST), into=tmp_path / "proxied.gguf", downloader=downloader()).path
            assert path.read_bytes() == CONTENT and Tunnels.asked
            monkeypatch.delenv("https_proxy")
            proxy.shutdown()
        secure.faults.append(Fault("/store/", location=remote(hub).url))
        with pytest.raises(DownloadError, match="only https to https"):
            sources.fetch(UrlSource(url, "1" * 64), downloader=downloader())
    transport._context.cache_clear()
