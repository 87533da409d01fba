"""Whether a server may start with these settings, and who it asks for keys."""

from __future__ import annotations

import ssl
from pathlib import Path

from gollama.errors import OptionError
from gollama.models.names import is_loopback
from gollama.server.access.database import opened
from gollama.server.access.keys import all_keys
from gollama.server.access.oidc import oidc_options
from gollama.server.config import ServerConfig

LEAST_KEY = 8


def is_local(config: ServerConfig) -> bool:
    """Whether only this machine reaches it."""
    return config.uds is not None or is_loopback(config.host)


def check_access(config: ServerConfig) -> None:
    """OptionError for settings that exclude each other, and for a server that anybody could use without anybody having said so."""
    _check_tls(config)
    options = oidc_options(config)
    key = config.api_key
    if key is not None and (len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key):
        raise OptionError(f"api_key must have at least {LEAST_KEY} printable ASCII characters and no space")
    if not config.auth or is_local(config) or key is not None or options is not None or _has_keys(config.access_file):
        return
    raise OptionError(f"{config.host} may be reached by others, and there are no keys: make one with `gollama keys create`, give one in "
                      "GOLLAMA_API_KEY, or let anybody in with --no-auth")


def _has_keys(file: str | None) -> bool:
    if file is None or not Path(file).exists():
        return False
    with opened(file, create=False) as connection:
        return bool(all_keys(connection))


def _check_tls(config: ServerConfig) -> None:
    if config.tls_key is not None and config.tls_cert is None:
        raise OptionError("tls_key needs tls_cert")
    if config.tls_cert is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config.tls_cert, config.tls_key, password=_no_password)
    except (OSError, ValueError) as error:
        raise OptionError(f"tls_cert and tls_key cannot be used: {error}") from None


def _no_password() -> str:
    """In place of OpenSSL's question on the terminal."""
    raise ValueError("the key has a password; only one without can be used")
