"""Addresses, headers and framing that mean harm, on raw sockets."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.answers import wait_until
from tests.support.raw import CHAT, Lend, exchanged, get, statuses
from tests.support.server import Running

pytestmark = pytest.mark.usefixtures("unharmed")
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"


# ---- addresses ----


@pytest.mark.parametrize("path", [
    b"/%2e%2e/%2e%2e/%2e%2e/etc/passwd", b"/../../../etc/passwd", b"//etc/passwd", b"/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    b"/v1/models/%2e%2e", b"/v1/models/smollm2%00", b"/v1/models/%00", b"/v1/models/%ff", b"/v1/responses/..%2f..%2fmodels", b"/v1//models",
    b"/v1/models/..;/..;/etc", b"/..%5c..%5cwindows", b"/%252e%252e/etc/passwd", b"/v1/models/" + b"a" * 20_000, b"/\xff\xfe", b"*", b"/%",
    b"/v1/models/%0d%0aSet-Cookie:%20a=b", b"/nowhere?%0d%0aSet-Cookie:%20a=b"])
def test_paths_lead_nowhere(server: Running, path: bytes) -> None:
    found = exchanged(server.port, get(path))
    assert statuses(found) and statuses(found)[0] in (400, 404)
    assert b"root:" not in found and b"\nset-cookie" not in found.lower()


def test_an_absolute_address_changes_nothing(server: Running) -> None:
    assert statuses(exchanged(server.port, get(b"http://127.0.0.1:1/health"))) == [200]
    assert statuses(exchanged(server.port, get(b"http://localhost/health", host=b"evil.example"))) == [421]


# ---- headers ----


@pytest.mark.parametrize("value", [b"a\r\n Set-Cookie: a=b", b"a\rSet-Cookie: a=b", b"a\nSet-Cookie: a=b", b"a%0d%0aSet-Cookie:%20a=b",
                                   b"a\x00b", b"\xff\xfe", "é".encode(), b"a" * 300])
@pytest.mark.parametrize("name", [b"X-Request-Id", b"Origin", b"Traceparent", b"X-Forwarded-For", b"Access-Control-Request-Headers"])
def test_no_value_becomes_a_header(server: Running, name: bytes, value: bytes) -> None:
    found = exchanged(server.port, get(b"/health", name + b": " + value))
    assert len(statuses(found)) == 1 and statuses(found)[0] in (200, 400, 403)
    assert b"\nset-cookie" not in found.lower() and value not in found


@pytest.mark.parametrize("host", [b"", b"evil.example", b"localhost.evil.example", b"evil.example:localhost", b"127.0.0.1.evil.example",
                                  b"localhost@evil.example", b"[::1", b"\xff", b"localhost, evil.example"])
def test_hosts_that_only_look_like_ours(server: Running, host: bytes) -> None:
    found = exchanged(server.port, get(b"/v1/models", host=host))
    assert statuses(found) in ([400], [421]) or host == b"[::1"


def test_two_hosts_are_one_too_many(server: Running) -> None:
    for one, other in ((b"localhost", b"evil.example"), (b"evil.example", b"localhost"), (b"localhost", b"localhost")):
        assert statuses(exchanged(server.port, get(b"/v1/models", b"Host: " + other, host=one))) == [400]


def test_forwarded_addresses_are_not_believed(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "gollama.access"):
        exchanged(server.port, get(b"/health", b"X-Forwarded-For: 203.0.113.9", b"Forwarded: for=203.0.113.9"))
        wait_until(lambda: "/health" in caplog.text)
    assert "203.0.113.9" not in caplog.text


@pytest.mark.parametrize("origin", ["https://app.example.evil", "https://evil-app.example", "http://app.example", "https://APP.example",
                                    "https://app.example:444", "null", "https://app.example/", "file://", "https://app.example\tx"])
def test_origins_that_only_look_allowed(lent: Lend, origin: str) -> None:
    with lent(cors_origins=["https://app.example"]) as server:
        headers = {"Origin": origin}
        assert httpx2.get(f"{server.url}/v1/models", headers=headers).status_code == 403
        probe = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}
        for reply in (httpx2.get(f"{server.url}/v1/models", headers=headers), httpx2.options(f"{server.url}{CHAT}", headers=probe)):
            assert "access-control-allow-origin" not in reply.headers and "access-control-allow-private-network" not in reply.headers


# ---- framing ----


def post(*headers: bytes, body: bytes) -> bytes:
    return b"\r\n".join([b"POST /v1/models HTTP/1.1", b"Host: localhost", *headers, b"", b""]) + body


@pytest.mark.parametrize("data", [
    post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"2c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    post(b"Content-Length: 0", b"Content-Length: 44", body=SMUGGLED),
    post(b"Content-Length: 0, 44", body=SMUGGLED),
    post(b"Content-Length: +0", body=SMUGGLED),
    post(b"Content-Length: -1", body=SMUGGLED),
    post(b"Content-Length: 0x0", body=SMUGGLED),
    post(b"Content-Length: 99999999999999999999999", body=SMUGGLED),
    post(b"Content-Length : 0", body=SMUGGLED),
    post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"-1\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"0x0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"FFFFFFFFFFFFFFFFF\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"zz\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"1\r\nab\r\n0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"0\n\n" + SMUGGLED),
    b"GET /health HTTP/1.1\nHost: localhost\nX: a\n\n" + SMUGGLED,
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n X: folded\r\n\r\n" + SMUGGLED,
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nA\x00B: c\r\n\r\n" + SMUGGLED,
    b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n" + SMUGGLED,
    b"GET /health HTTP/0.9\r\n\r\n" + SMUGGLED,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n" + SMUGGLED])
def test_nothing_is_smuggled_behind_an_unclear_end(lent: Lend, data: bytes) -> None:
    """One answer at most, and no answer to what stands behind; or none at all until the time is up."""
    with lent(read_timeout=0.5) as server:
        found = exchanged(server.port, data, seconds=2)
    assert len(statuses(found)) == 1 and statuses(found)[0] in (400, 405, 408, 413, 421), found[:200]
    assert b'"smollm2"' not in found


def test_requests_in_a_row_are_answered_in_order(server: Running) -> None:
    data = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" + get(b"/v1/models")
    assert statuses(exchanged(server.port, data)) == [200, 404, 200]


def test_an_upgrade_is_not_made(server: Running) -> None:
    for upgrade in (b"Upgrade: websocket", b"Upgrade: h2c"):
        headers = (upgrade, b"Connection: Upgrade", b"Sec-WebSocket-Key: eA==", b"Sec-WebSocket-Version: 13")
        found = exchanged(server.port, get(b"/health", *headers), seconds=2)
        assert statuses(found) in ([200], [400])
