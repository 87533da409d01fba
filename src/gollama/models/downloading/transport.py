"""HTTP with the rules that a download needs: no redirect out of https, to a private address, or with a token to another host.

Of the standard library: `readinto` a buffer that is there already costs a fifth of what httpx costs for the same bytes
(docs/benchmarks.md), and nothing has to be imported where all files are here.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import socket
import ssl
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from urllib.parse import unquote, urlsplit

from gollama.errors import DownloadError
from gollama.models.downloading.guard import Guard, addresses, literal, origin
from gollama.models.files import RemoteFile
from gollama.models.names import check_url

MOST_REDIRECTS = 10
TIMEOUT = 30.0


class StatusError(DownloadError):
    """The server answered with an error."""

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def may_pass(status: int) -> bool:
    """Whether a server that answers with this error may answer otherwise in a while."""
    return status in (408, 425, 429) or status >= 500


class Connection:
    """A connection to one origin that is kept between requests; one thread at a time. `abort` from any thread."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout
        self._open: tuple[tuple[str, str, int], http.client.HTTPConnection] | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def abort(self) -> None:
        """Wake a thread that waits for bytes; what it does fails."""
        held = self._open
        found = held[1].sock if held is not None else None
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def get(self, url: str, headers: Mapping[str, str], guard: Guard) -> tuple[http.client.HTTPResponse, str]:
        """(the answer, the address that gave it). `headers` other than Range go to the first origin only.

        StatusError for an answer of 400 and more; OSError and http.client.HTTPException for what a network does.
        """
        first = origin(url)
        for _ in range(MOST_REDIRECTS):
            own = headers if origin(url) == first else {key: value for key, value in headers.items() if key in ("Range", "If-Range")}
            response = self._request(url, own, guard)
            if response.status < 300:
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise DownloadError(f"{origin(url)[1]} sends the file encoded ({response.headers['Content-Encoding'][:40]!r}) unasked")
                return response, url
            location, status = response.headers.get("Location"), response.status
            if status >= 400:
                raise _status_error(url, response)
            self.close()
            url = guard.redirected(url, location)
        raise DownloadError(f"{first[1]} redirects more than {MOST_REDIRECTS} times")

    def _request(self, url: str, headers: Mapping[str, str], guard: Guard) -> http.client.HTTPResponse:
        address = urlsplit(url)
        path = (address.path or "/") + (f"?{address.query}" if address.query else "")
        for fresh in (False, True):
            kept = self._open is not None and self._open[0] == origin(url) and not fresh
            connection = self._connection(url, guard, kept)
            target = url if isinstance(connection, _PlainProxied) else path
            try:
                connection.request("GET", target, headers={"User-Agent": "gollama", "Accept-Encoding": "identity", **headers})
                return connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine):
                self.close()
                if not kept:  # a kept connection may have been closed meanwhile
                    raise
            except BaseException:
                self.close()
                raise
        raise AssertionError

    def _connection(self, url: str, guard: Guard, kept: bool) -> http.client.HTTPConnection:
        if kept and self._open is not None:
            return self._open[1]
        self.close()
        scheme, host, port = origin(url)
        proxy = _proxy(scheme, host)
        if proxy is None:
            connection = _direct(scheme, host, port, self.timeout, guard)
        else:
            connection = _proxied(scheme, host, port, self.timeout, proxy)
        self._open = (origin(url), connection)
        return connection


def guard_of(url: str) -> Guard:
    """The guard of a request that begins here. Behind a proxy names are the proxy's to resolve. OSError for an unknown host."""
    scheme, host, _ = origin(url)
    return Guard.of(url) if _proxy(scheme, host) is None else Guard.of(url, literal)


class _Direct(http.client.HTTPConnection):
    guard: Guard

    def connect(self) -> None:
        self.sock = _connected(self.host, self.port, self.timeout, self.guard)


class _DirectTLS(http.client.HTTPSConnection):
    guard: Guard

    def connect(self) -> None:
        self.sock = _context().wrap_socket(_connected(self.host, self.port, self.timeout, self.guard), server_hostname=self.host)


class _PlainProxied(http.client.HTTPConnection):
    """A proxy for http: the request line has the whole address."""


def _connected(host: str, port: int, timeout: float | None, guard: Guard) -> socket.socket:
    """A socket to the first address of the host that answers. The address that was checked is the one that is connected to."""
    failure: OSError = OSError(f"{host} has no address")
    for address in addresses(host, port):
        try:
            guard.check(address, host)
            made = socket.create_connection((address, port), timeout)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except OSError as error:
            failure = error
    raise failure


def _direct(scheme: str, host: str, port: int, timeout: float, guard: Guard) -> http.client.HTTPConnection:
    made = _DirectTLS(host, port, timeout=timeout, context=_context()) if scheme == "https" else _Direct(host, port, timeout=timeout)
    made.guard = guard
    return made


def _proxied(scheme: str, host: str, port: int, timeout: float, proxy: str) -> http.client.HTTPConnection:
    """Through the proxy that the user's environment names; which addresses may be reached is its affair then."""
    address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    headers = {}
    if address.username is not None:
        secret = f"{unquote(address.username)}:{unquote(address.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
    at = (address.hostname or "", address.port or 8080)
    if scheme == "https":
        tunnelled = http.client.HTTPSConnection(*at, timeout=timeout, context=_context())
        tunnelled.set_tunnel(host, port, headers)
        return tunnelled
    return _PlainProxied(*at, timeout=timeout)


def _proxy(scheme: str, host: str) -> str | None:
    proxies = urllib.request.getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    return found if found and not found.startswith("socks") and not urllib.request.proxy_bypass(host) else None


@functools.cache
def _context() -> ssl.SSLContext:
    """Certificates as the system trusts them, or as SSL_CERT_FILE says."""
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


_STATUSES = {
    401: "wants a token that may read it (for a Hub: HF_TOKEN, or `hf auth login`)",
    403: "does not give it to this token, or to anybody",
    404: "has no such file",
    410: "has no such file any more",
    429: "has had too many requests",
}


def _status_error(url: str, response: http.client.HTTPResponse) -> StatusError:
    host = origin(url)[1]
    reason = _STATUSES.get(response.status, f"answers {response.status} {response.reason[:80]!r}")
    after = response.headers.get("Retry-After")
    response.close()
    return StatusError(f"{host} {reason} ({urlsplit(url).path[:200]})", response.status, seconds(after))


def seconds(retry_after: str | None) -> float | None:
    """A Retry-After, which is a number of seconds or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        from datetime import datetime, timezone

        when = parsedate_to_datetime(retry_after)
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds()) if when.tzinfo else None
    except (ValueError, TypeError):
        return None


def why(error: BaseException) -> str:
    """A network's failure in words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    return str(error) or type(error).__name__


def read_all(url: str, limit: int, *, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT) -> bytes:
    """The whole of a small resource (a registry, a manifest), at most `limit` bytes. DownloadError for everything that goes wrong,
    ModelNameError for an address that gollama does not fetch from."""
    check_url(url)
    try:
        with Connection(timeout) as connection:
            response, _ = connection.get(url, headers or {}, guard_of(url))
            content = response.read(limit + 1)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"{url[:200]} cannot be read ({why(error)})") from error
    if len(content) > limit:
        raise DownloadError(f"{url[:200]} has more than {limit} bytes")
    return content


def read_range(file: RemoteFile, start: int, count: int, *, timeout: float = TIMEOUT) -> tuple[bytes, int]:
    """(at most `count` bytes of the file from `start`, the file's size), without downloading the rest.

    For headers of remote GGUF files. The answer has fewer bytes only where the file ends. DownloadError, also where the server
    has no ranges.
    """
    try:
        with Connection(timeout) as connection:
            wanted = {**file.headers, "Range": f"bytes={start}-{start + count - 1}"}
            response, _ = connection.get(file.url, wanted, guard_of(file.url))
            span = content_range(response)
            if span is None or span[0] != start:
                raise DownloadError(f"{origin(file.url)[1]} cannot send a part of {file.name}: download it whole")
            due = min(count, span[2] - start)
            content = response.read(due)
            if len(content) != due:
                raise DownloadError(f"{origin(file.url)[1]} sent {len(content)} of {due} bytes of {file.name}")
            return content, span[2]
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"{file.name} cannot be read ({why(error)})") from error


def content_range(response: http.client.HTTPResponse) -> tuple[int, int, int] | None:
    """(start, end, size) of a partial answer, end exclusive; None if it is whole. DownloadError for one that makes no sense."""
    if response.status != 206:
        return None
    told = response.headers.get("Content-Range", "")
    try:
        span, _, size = told.removeprefix("bytes ").partition("/")
        start, _, last = span.partition("-")
        found = int(start), int(last) + 1, int(size)
    except ValueError:
        raise DownloadError(f"the server answers with the range {told[:80]!r}") from None
    if not 0 <= found[0] < found[1] <= found[2]:
        raise DownloadError(f"the server answers with the range {told[:80]!r}")
    return found
