"""Tokens of an identity provider, by requests over loopback to a miniature model."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.access import LOADING, OWN, TEXT, Site, ask, bearer, refused, site
from tests.support.answers import wait_until
from tests.support.server import running


class Provider:
    """An issuer on loopback: its discovery document, its keys, and how often they were asked for."""

    def __init__(self) -> None:
        self.key, self.asked, self.down = rsa.generate_private_key(65537, 2048), 0, False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/jwks":
                    provider.asked += 1
                body = json.dumps(provider.document(self.path)).encode()
                self.send_response(503 if provider.down else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def document(self, path: str) -> Any:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"}
        return {"keys": [{**jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True), "kid": "one", "use": "sig"}]}

    def token(self, *, key: Any = None, algorithm: str = "RS256", kid: str = "one", **claims: Any) -> str:
        given = {"iss": self.issuer, "aud": "gollama", "sub": "ada", "exp": int(time.time()) + 300, "roles": ["users"], **claims}
        return jwt.encode({name: value for name, value in given.items() if value is not None}, key or self.key, algorithm, {"kid": kid})


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def trusting(provider: Provider, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tiny_model, tmp_path_factory.mktemp("oidc"), oidc_issuer=provider.issuer, oidc_audience="gollama", oidc_scope_claim="roles",
              oidc_scopes=["users=inference", "operators=admin"], oidc_model_claim="gollama.models", requests_per_minute=1000) as made:
        yield made


def test_a_token_lets_in_by_its_claims(provider: Provider, trusting: Site) -> None:
    user = provider.token(gollama={"models": ["tiny"]})
    assert trusting.post(user).status_code == 200 and refused(trusting.post(user, model="other")) == (404, "model_not_found")
    assert trusting.http.post("/models/load", headers=bearer(user), json={"model": "tiny"}).status_code == 403
    operator = provider.token(sub="grace", roles="operators", gollama={"models": ["tiny"]})
    assert trusting.http.post("/models/load", headers=bearer(operator), json={"model": "tiny"}).status_code == 200
    assert refused(trusting.post(operator)) == (403, "insufficient_scope")
    assert trusting.used("oidc:ada")["requests"] >= 1
    assert provider.asked == 1  # the keys are kept


def test_a_token_that_does_not_hold_is_refused(provider: Provider, trusting: Site) -> None:
    other = rsa.generate_private_key(65537, 2048)
    public = provider.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=").decode()

    claims = jwt.decode(provider.token(), options={"verify_signature": False})
    confused = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims)}"  # signed by the public key as a password
    confused += "." + part(hmac.new(public, confused.encode(), hashlib.sha256).digest())
    signed = provider.token().rpartition(".")
    wrong = {
        "other key": provider.token(key=other), "other issuer": provider.token(iss="https://evil.example"),
        "other audience": provider.token(aud="other"), "no audience": provider.token(aud=None), "no end": provider.token(exp=None),
        "no subject": provider.token(sub=None),
        "not yet": provider.token(nbf=int(time.time()) + 3600), "unknown key": provider.token(kid="two"),
        "none": f"{part({'alg': 'none', 'kid': 'one'})}.{part(claims)}.", "public key as password": confused,
        "other algorithm": provider.token(algorithm="RS512"), "cut": signed[0] + ".",
        "other claims": f"{signed[0].partition('.')[0]}.{part({**claims, 'sub': 'root'})}.{signed[2]}",
        "garbage": "a.b.c", "long subject": provider.token(sub="x" * 300),
        "subject that is no text": provider.token(sub="\ud800"),
    }
    asked = provider.asked
    for name, token in wrong.items():
        assert refused(trusting.post(token)) == (401, "invalid_token"), name
    assert refused(trusting.post(provider.token(exp=int(time.time()) - 60))) == (401, "token_expired")
    assert provider.asked <= asked + 1  # unknown keys do not have the provider asked each time


def test_a_provider_that_is_down_is_told(provider: Provider, tiny_model: str) -> None:
    provider.down = True
    try:
        with running(f"tiny={tiny_model}", loading=LOADING, oidc_issuer=provider.issuer, oidc_audience="gollama", preload=False) as server:
            with httpx2.Client(base_url=server.url) as http:
                reply = http.post(TEXT, headers=bearer(provider.token()), json=ask())
                assert refused(reply) == (503, "identity_provider_unavailable") and provider.issuer not in reply.text
    finally:
        provider.down = False


def test_a_provider_that_does_not_answer_holds_up_nobody_else(tiny_model: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        issuer = f"http://127.0.0.1:{silent.getsockname()[1]}"
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg": "RS256", "kid": "one"}', b"{}", b"x"))
        with running(f"tiny={tiny_model}", loading=LOADING, api_key=OWN, oidc_issuer=issuer, oidc_audience="gollama") as server:
            with contextlib.ExitStack() as held:
                for _ in range(40):  # more than there are threads
                    connection = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                    connection.sendall(f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
                wait_until(lambda: server.service.metrics.in_flight._value.get() == 40)
                assert httpx2.post(server.url + TEXT, headers=bearer(OWN), json=ask(), timeout=5).status_code == 200
