"""Where a download may go: what a redirect may lead to, and which addresses a connection may reach."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from gollama.errors import DownloadError
from gollama.models.names import is_loopback, is_private

Resolve = Callable[[str, int], Iterable[str]]


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port): what a token belongs to."""
    try:
        address = urlsplit(url)
        port = address.port or {"https": 443, "http": 80}.get(address.scheme, 0)
        return address.scheme, (address.hostname or "").lower(), port
    except ValueError as error:
        raise DownloadError(f"{url[:200]!r} is not an address ({error})") from None


def addresses(host: str, port: int) -> list[str]:
    """The addresses of a host. OSError as the system's resolver has it."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def literal(host: str, _port: int) -> list[str]:
    """The address that a host already is, none for a name."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        return ["127.0.0.1"] if is_loopback(host) else []


@dataclass(frozen=True)
class Guard:
    """What a request that begins at one address may reach: never private addresses, unless the first one is private itself.

    `plain`: http is allowed, because the first address has it: this machine's, or an endpoint that somebody set.
    """

    private: bool
    plain: bool

    @classmethod
    def of(cls, url: str, resolve: Resolve = addresses) -> Guard:
        """For the address that a user, a registry or an endpoint names. OSError if its host is unknown."""
        scheme, host, port = origin(url)
        if scheme not in ("https", "http") or not host:
            raise DownloadError(f"gollama downloads over https, not from {url[:200]!r}")
        found = list(resolve(host, port))
        return cls(private=bool(found) and all(map(is_private, found)), plain=scheme == "http")

    def redirected(self, url: str, location: str | None) -> str:
        """The address that a redirect from `url` leads to. DownloadError for one that it may not."""
        try:
            target = urljoin(url, location or "")
        except ValueError as error:
            raise DownloadError(f"{origin(url)[1]} redirects to {str(location)[:200]!r}, which is no address ({error})") from None
        scheme, host, _ = origin(target)
        allowed = scheme == "https" or (scheme == "http" and self.plain and urlsplit(url).scheme == "http")
        if not location or not allowed or not host or any(ord(character) < 33 for character in target):
            raise DownloadError(f"{origin(url)[1]} redirects to {target[:200]!r}, which gollama does not follow: only https to https")
        if not self.private and any(map(is_private, literal(host, 0))):
            raise self.refused(host)
        return target

    def check(self, address: str, host: str) -> None:
        """DownloadError if a connection to this address of a host may not be."""
        if not self.private and is_private(address):
            raise self.refused(host)

    def refused(self, host: str) -> DownloadError:
        return DownloadError(f"{host[:200]} is an address of a private network, and the download began at a public one: it was refused")
