"""Bearer tokens of an identity provider: JWTs, checked by PyJWT against the keys that the provider publishes."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gollama.errors import OptionError
from gollama.models.names import is_loopback
from gollama.server.access.credentials import unauthorized
from gollama.server.access.principals import SCOPES, Limits, Principal
from gollama.server.errors import unavailable

if TYPE_CHECKING:
    from gollama.server.config import ServerConfig

logger = logging.getLogger("gollama.server")

# signatures by a key pair only: with HS256 whoever knows the public key could sign, and "none" is no signature
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
TIMEOUT = 10.0
THREADS = 4
MOST_DOCUMENT = 2**20
MOST_SUBJECT = 200
LEEWAY = 30.0  # seconds that clocks may differ


@dataclass(frozen=True)
class OidcOptions:
    """Who vouches, for whom, and what the claims of its tokens mean here."""

    issuer: str
    audience: str
    jwks_url: str | None
    algorithms: tuple[str, ...]
    scope_claim: str
    model_claim: str | None
    scopes: Mapping[str, frozenset[str]]  # what each value of the scope claim gives


def oidc_options(config: ServerConfig) -> OidcOptions | None:
    """Of the server's settings; None without an issuer. OptionError."""
    if config.oidc_issuer is None:
        if config.oidc_audience is not None or config.oidc_jwks_url is not None:
            raise OptionError("oidc_audience and oidc_jwks_url need oidc_issuer")
        return None
    if not config.oidc_audience:
        raise OptionError("oidc_issuer needs oidc_audience: tokens that were made for other services must not work here")
    for name, url in (("oidc_issuer", config.oidc_issuer), ("oidc_jwks_url", config.oidc_jwks_url)):
        if url is not None:
            _check_url(name, url)
    for algorithm in config.oidc_algorithms:
        if algorithm not in ALGORITHMS:
            raise OptionError(f"oidc_algorithms must be some of {', '.join(ALGORITHMS)}, not {algorithm!r}")
    if not config.oidc_algorithms:
        raise OptionError("oidc_algorithms must name one at least")
    return OidcOptions(config.oidc_issuer, config.oidc_audience, config.oidc_jwks_url, tuple(config.oidc_algorithms),
                       config.oidc_scope_claim, config.oidc_model_claim, _given(config.oidc_scopes))


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        raise OptionError(f"{name} must be an https:// address (http:// only on this machine), not {url!r}")


def _given(pairs: Sequence[str]) -> dict[str, frozenset[str]]:
    if not pairs:
        return {scope: frozenset({scope}) for scope in SCOPES}
    found: dict[str, frozenset[str]] = {}
    for pair in pairs:
        value, _, scope = pair.rpartition("=")
        if not value or scope not in SCOPES:
            raise OptionError(f"oidc_scopes: {pair!r} must be VALUE=SCOPE, with a scope of {', '.join(SCOPES)}")
        found[value] = found.get(value, frozenset()) | {scope}
    return found


class Oidc:
    """Checks tokens, in threads of its own: while a provider that does not answer is waited for, others are served.

    The provider's keys are kept for five minutes.
    """

    def __init__(self, options: OidcOptions, limits: Limits) -> None:
        """`limits` are those of each subject. OptionError without the extra."""
        try:
            import jwt
        except ImportError:
            raise OptionError("oidc_issuer needs PyJWT: pip install 'gollama-cpu[oidc]'") from None
        self._options, self._limits, self._jwt = options, limits, jwt
        self._keys: Any = None
        self._threads = ThreadPoolExecutor(THREADS, "gollama-oidc")

    def close(self) -> None:
        """May be called again."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def principal(self, token: str) -> Principal:
        """Whom it vouches for. ApiError 401 for one that does not hold, 503 where the provider cannot be reached."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._checked, token)

    def _checked(self, token: str) -> Principal:
        jwt, options = self._jwt, self._options
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            if algorithm not in options.algorithms:
                raise unauthorized("the token is signed by an algorithm that is not allowed (oidc_algorithms)", "invalid_token")
            key = self._client().get_signing_key_from_jwt(token)
            claims = jwt.decode(token, key, algorithms=list(options.algorithms), audience=options.audience, issuer=options.issuer,
                                leeway=LEEWAY, options={"require": ["exp", "iss", "aud", "sub"]})
        except jwt.PyJWKClientConnectionError as error:
            logger.error("the identity provider's keys cannot be fetched: %s", error)
            raise unavailable("the identity provider cannot be reached: try again later", "identity_provider_unavailable") from None
        except jwt.ExpiredSignatureError:
            raise unauthorized("the token has expired", "token_expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise unauthorized(f"the token does not hold: {type(error).__name__}", "invalid_token") from None
        return self._vouched(claims)

    def _client(self) -> Any:
        if self._keys is None:
            self._keys = self._jwt.PyJWKClient(self._options.jwks_url or self._discovered(), timeout=TIMEOUT)
        return self._keys

    def _discovered(self) -> str:
        """Where the provider says that its keys are."""
        url = f"{self._options.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 (its scheme was checked)
                found = json.loads(response.read(MOST_DOCUMENT))
            if found["issuer"] != self._options.issuer:
                raise OptionError(f"it calls itself {found['issuer']!r}")
            _check_url("jwks_uri", str(found["jwks_uri"]))
            return str(found["jwks_uri"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.error("%s says nothing of its keys: %s", url, error)
            raise unavailable("the identity provider cannot be reached: try again later", "identity_provider_unavailable") from None

    def _vouched(self, claims: Mapping[str, Any]) -> Principal:
        options = self._options
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= MOST_SUBJECT or not subject.isprintable():
            raise unauthorized(f"the token's subject must have 1 to {MOST_SUBJECT} printable characters", "invalid_token")
        given = [options.scopes[value] for value in claim_values(claims, options.scope_claim) if value in options.scopes]
        models = None if options.model_claim is None else frozenset(claim_values(claims, options.model_claim))
        return Principal(f"oidc:{subject}", subject, frozenset().union(*given), models, self._limits)


def claim_values(claims: Mapping[str, Any], path: str) -> list[str]:
    """A claim's values: a list, or words with spaces between. `realm_access.roles` is a claim within another; a whole name goes first."""
    value: Any = claims
    if path in claims:
        value = claims[path]
    else:
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return value.split()
    return [one for one in value if isinstance(one, str)] if isinstance(value, (list, tuple)) else []
