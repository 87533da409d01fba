"""Keys, scopes, limits, quotas, tokens of an identity provider and TLS, by requests over loopback to a miniature model."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import jwt
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi.routing import APIRoute

from gollama.server.access import audit, usage
from gollama.server.access.database import opened
from gollama.server.access.keys import create, revoke
from gollama.server.access.principals import SCOPES, Limits
from gollama.server.access.routes import ROUTES, route_of
from tests.support import tiny
from tests.support.answers import wait_until
from tests.support.server import Running, running

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
LOADING = {"context_size": 2048, "max_sequences": 4, "threads": 1}
SECRET = "abracadabra"
OWN = "key-of-the-settings"


def ask(**fields: Any) -> dict[str, Any]:
    return {"prompt": SECRET, "ignore_eos": True, "max_tokens": 4, **fields}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.write(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048, template=TEMPLATE))


class Site:
    """A server with an access file."""

    def __init__(self, server: Running, file: str) -> None:
        self.server, self.file = server, file
        self.http = httpx2.Client(base_url=server.url, timeout=60)

    def key(self, name: str, *scopes: str, models: list[str] | None = None, expires: int | None = None, **limits: int) -> str:
        with opened(self.file) as connection:
            return create(connection, name, actor="test", scopes=scopes or ("inference",), models=models, limits=Limits(**limits),
                          expires=expires)

    def post(self, key: str, path: str = TEXT, **fields: Any) -> httpx2.Response:
        return self.http.post(path, headers=bearer(key), json=ask(**fields))

    def used(self, name: str) -> dict[str, Any]:
        """What is written of a key, once it is."""
        def row() -> dict[str, Any]:
            with opened(self.file) as connection:
                return next((one for one in usage.summed(connection, ["key"]) if one["key"] == name), {})
        wait_until(lambda: bool(row()))
        return row()


@contextlib.contextmanager
def site(model: str, folder: Path, **settings: Any) -> Iterator[Site]:
    file = str(folder / "access.db")
    with running(f"tiny={model}", f"other={model}", loading=LOADING, access_file=file, **settings) as server:
        made = Site(server, file)
        with made.http:
            yield made


@pytest.fixture(scope="module")
def guarded(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tiny_model, tmp_path_factory.mktemp("access"), api_key=OWN) as made:
        yield made


def said(caplog: pytest.LogCaptureFixture) -> str:
    """What the server logged; the client's own log is not ours."""
    return "\n".join(record.getMessage() for record in caplog.records if record.name.partition(".")[0] in ("gollama", "uvicorn", "asyncio"))


def refused(reply: httpx2.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


# ---- keys ----


def test_a_key_lets_in_by_either_header(guarded: Site) -> None:
    key = guarded.key("either")
    for headers in (bearer(key), {"x-api-key": key}, bearer(OWN)):
        assert guarded.http.post(TEXT, headers=headers, json=ask()).status_code == 200
    with openai.OpenAI(base_url=f"{guarded.server.url}/v1", api_key=key, max_retries=0) as client:
        assert client.completions.create(model="tiny", prompt="a", max_tokens=1).choices
        wrong = client.with_options(api_key=key + "x")
        with pytest.raises(openai.AuthenticationError, match="not known"):
            wrong.completions.create(model="tiny", prompt="a")


def test_no_key_wrong_revoked_and_expired_ones_are_told_apart(guarded: Site) -> None:
    key, short = guarded.key("to-revoke"), guarded.key("short", expires=int(time.time()) + 2)
    assert guarded.post(key).status_code == 200
    reply = guarded.http.post(TEXT, json=ask())
    assert refused(reply) == (401, "missing_api_key") and reply.headers["www-authenticate"] == "Bearer"
    assert refused(guarded.post(key[:-1] + "_")) == refused(guarded.post("a.b.c")) == (401, "invalid_api_key")
    with opened(guarded.file) as connection:
        revoke(connection, "to-revoke", actor="test")
    assert refused(guarded.post(key)) == (401, "key_revoked")  # at once
    wait_until(lambda: refused(guarded.post(short)) == (401, "key_expired") if guarded.post(short).status_code != 200 else False)


def test_a_key_in_the_query_is_refused_and_not_logged(guarded: Site, caplog: pytest.LogCaptureFixture) -> None:
    key = guarded.key("in-query")
    with caplog.at_level(logging.DEBUG):
        for query in (f"api_key={key}", f"key={key}", f"q={key}"):
            assert refused(guarded.http.post(f"{TEXT}?{query}", headers=bearer(key), json=ask())) == (400, "key_in_query")
        assert refused(guarded.http.get(f"/health?api_key={key}")) == (400, "key_in_query")
    assert key not in said(caplog)


def test_no_log_and_no_file_holds_a_key_or_a_prompt(guarded: Site, caplog: pytest.LogCaptureFixture) -> None:
    key = guarded.key("silent")
    with caplog.at_level(logging.DEBUG):
        answer = guarded.post(key).json()["choices"][0]["text"]
        guarded.post(key, temperature="hot")
        guarded.post(key + "x")
        assert guarded.used("silent")["completion_tokens"] == 4
    held = said(caplog).encode() + b"".join(path.read_bytes() for path in Path(guarded.file).parent.iterdir())
    assert f'key="{key.split("-")[1]}"'.encode() in held
    for text in (key, key[22:], SECRET, OWN, answer):
        assert text.encode() not in held


# ---- scopes and models ----


def leaves(routes: Any) -> Iterator[Any]:
    """All routes, those of included routers too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from leaves(included.routes)


def test_every_route_has_its_scopes_and_keeps_to_them(guarded: Site) -> None:
    """Whoever adds a route: gollama.server.access.routes says what a key needs for it."""
    by_scope = {scope: guarded.key(f"only-{scope}", scope) for scope in SCOPES}
    routes = list(leaves(guarded.server.server.config.app.routes))  # type: ignore[union-attr]
    assert sum(isinstance(route, APIRoute) for route in routes) > 20
    for route in routes:
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        assert route_of(path) == route.path, f"{route.path} has no scope"
        for method in route.methods - {"HEAD"}:
            assert (guarded.http.request(method, path).status_code == 401) == bool(ROUTES[route.path]), route.path
            for scope, key in by_scope.items():
                reply = guarded.http.request(method, path, headers=bearer(key), content=b"?" if method == "POST" else None)
                allowed = not ROUTES[route.path] or scope in ROUTES[route.path]
                assert (reply.status_code == 403) != allowed and reply.status_code != 401, (route.path, scope, reply.text)
                if not allowed and not route.path.startswith(("/v1/messages", "/api/")):  # which have errors of their own form
                    assert reply.json()["error"]["code"] == "insufficient_scope"


def test_a_route_without_a_scope_is_open_to_no_key(guarded: Site) -> None:
    assert refused(guarded.http.get("/secret", headers=bearer(OWN))) == (404, "not_found")
    assert refused(guarded.http.get("/secret")) == (401, "missing_api_key")
    for path in ("/metrics/", "/./metrics", "/%6detrics"):
        assert guarded.http.get(path).status_code == 401


def test_a_key_sees_only_its_models(guarded: Site) -> None:
    key = guarded.key("other-only", "inference", "admin", models=["other"])
    assert [one["id"] for one in guarded.http.get("/v1/models", headers=bearer(key)).json()["data"]] == ["other"]
    assert guarded.post(key).json()["model"] == "other"  # its first
    for path, fields in ((TEXT, {}), ("/v1/embeddings", {"input": "a"}), ("/models/load", {}), ("/models/unload", {})):
        body = ask(model="tiny") if path == TEXT else {"model": "tiny", **fields}
        assert refused(guarded.http.post(path, headers=bearer(key), json=body)) == (404, "model_not_found"), path
    assert guarded.http.get("/v1/models/tiny", headers=bearer(key)).status_code == 404
    assert guarded.post(OWN, model="tiny").status_code == 200


# ---- limits and quotas ----


def test_requests_are_limited(guarded: Site) -> None:
    key = guarded.key("few", requests_per_minute=2)
    replies = [guarded.post(key) for _ in range(3)]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
    assert refused(replies[2]) == (429, "rate_limit_exceeded") and 1 <= int(replies[2].headers["retry-after"]) <= 30
    assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
    assert re.fullmatch(r"1m0s|[0-9]+s", replies[2].headers["x-ratelimit-reset-requests"])
    assert guarded.http.get("/v1/models", headers=bearer(key)).status_code == 200  # which costs nothing
    with openai.OpenAI(base_url=f"{guarded.server.url}/v1", api_key=key, max_retries=0) as client, pytest.raises(openai.RateLimitError):
        client.completions.create(model="tiny", prompt="a")


def test_tokens_are_limited_also_those_of_embeddings(guarded: Site) -> None:
    for name, path in (("some-text", TEXT), ("some-chat", CHAT)):
        key = guarded.key(name, tokens_per_minute=10)
        fields = {"messages": [{"role": "user", "content": "hello there"}], "prompt": None} if path == CHAT else {}
        body = {name: value for name, value in ask(max_tokens=20, **fields).items() if value is not None}
        assert guarded.http.post(path, headers=bearer(key), json=body).status_code == 200
        reply = guarded.http.post(path, headers=bearer(key), json=body)
        assert refused(reply) == (429, "rate_limit_exceeded") and "tokens_per_minute" in reply.json()["error"]["message"]
        assert reply.headers["x-ratelimit-remaining-tokens"] == "0" and int(reply.headers["retry-after"]) > 60
    key = guarded.key("some-embeddings", tokens_per_minute=10)
    embed = {"input": "a longer text to embed"}
    first = guarded.http.post("/v1/embeddings", headers=bearer(key), json=embed)
    assert first.status_code == 200, first.text
    assert refused(guarded.http.post("/v1/embeddings", headers=bearer(key), json=embed)) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize("path", [TEXT, CHAT, "/v1/responses"])
def test_a_stream_ends_with_an_error_when_the_quota_does(path: str, guarded: Site) -> None:
    name = f"stream {path}"
    key = guarded.key(name, tokens_per_day=60)
    asked: dict[str, dict[str, Any]] = {TEXT: {"prompt": "a"}, CHAT: {"messages": [{"role": "user", "content": "a"}]},
                              "/v1/responses": {"input": "a"}}
    fields = asked[path]
    length = "max_output_tokens" if "responses" in path else "max_tokens"
    body = {**fields, length: 1900, "ignore_eos": True, "stream": True}
    with guarded.http.stream("POST", path, headers=bearer(key), json=body) as stream:
        assert stream.status_code == 200
        lines = [line for line in stream.iter_lines() if line.startswith("data: ")]
    last = json.loads(lines[-1][6:] if lines[-1] != "data: [DONE]" else lines[-2][6:])
    assert "insufficient_quota" in json.dumps(last) and "tokens_per_day" in json.dumps(last)
    wait_until(lambda: guarded.server.service.models()[0].llm.stats().running == 0)  # type: ignore[union-attr]
    reply = guarded.http.post(path, headers=bearer(key), json=fields)
    assert refused(reply) == (429, "insufficient_quota") and reply.headers["x-ratelimit-remaining-tokens-day"] == "0"
    used = guarded.used(name)
    assert 60 <= used["prompt_tokens"] + used["completion_tokens"] < 300 and used["errors"] >= 1


def test_an_answer_at_once_is_as_long_as_the_quota(guarded: Site) -> None:
    key = guarded.key("at-once", tokens_per_day=50)
    reply = guarded.post(key, prompt="a", max_tokens=None).json()
    assert reply["usage"]["total_tokens"] == 50 and reply["choices"][0]["finish_reason"] == "length"
    assert refused(guarded.post(key)) == (429, "insufficient_quota")


def test_who_leaves_pays_for_what_was_computed(guarded: Site) -> None:
    key = guarded.key("leaver", tokens_per_day=1000)
    with guarded.http.stream("POST", TEXT, headers=bearer(key), json=ask(max_tokens=1500, stream=True)) as stream:
        lines = stream.iter_lines()
        for _ in range(6):
            next(lines)
    used = guarded.used("leaver")
    assert used["completion_tokens"] >= 2 and used["prompt_tokens"] > 5


def test_a_quota_outlives_the_server(tiny_model: str, tmp_path: Path) -> None:
    with site(tiny_model, tmp_path) as first:
        key = first.key("daily", tokens_per_day=40)
        assert first.post(key, max_tokens=8).status_code == 200
        left = int(first.post(key, max_tokens=1).headers["x-ratelimit-remaining-tokens-day"])
    with site(tiny_model, tmp_path) as second:
        assert int(second.post(key, max_tokens=1).headers["x-ratelimit-remaining-tokens-day"]) < left
        second.post(key, max_tokens=None)
        assert refused(second.post(key)) == (429, "insufficient_quota")


def test_limits_of_the_settings_are_those_of_keys_without(tiny_model: str) -> None:
    with running(f"tiny={tiny_model}", loading=LOADING, api_key=OWN, requests_per_minute=1) as server:
        http = httpx2.Client(base_url=server.url)
        assert [http.post(TEXT, headers=bearer(OWN), json=ask()).status_code for _ in range(2)] == [200, 429]


# ---- open or not ----


def test_the_first_key_closes_an_open_server_for_good(tiny_model: str, tmp_path: Path) -> None:
    with site(tiny_model, tmp_path) as made:
        assert made.http.post(TEXT, json=ask()).status_code == 200 and made.http.get("/metrics").status_code == 200
        key = made.key("first")
        assert made.http.post(TEXT, json=ask()).status_code == 401 and made.post(key).status_code == 200
        with opened(made.file) as connection:
            revoke(connection, "first", actor="test")
        assert made.http.post(TEXT, json=ask()).status_code == 401
        assert made.used("-")["requests"] == 1
        assert made.http.get("/health").status_code == made.http.get("/ready").status_code == 200


def test_the_command_does_not_serve_others_without_keys() -> None:
    command = [sys.executable, "-m", "gollama", "serve", "smollm2", "--check", "--host", "0.0.0.0"]
    environment = {"PATH": "/usr/bin", "HOME": "/nonexistent", "XDG_DATA_HOME": "/nonexistent"}
    wrong = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert wrong.returncode == 1 and "gollama keys create" in wrong.stderr and "--no-auth" in wrong.stderr
    assert subprocess.run([*command, "--no-auth"], capture_output=True, env=environment).returncode == 0
    shown = subprocess.run(command, capture_output=True, text=True, env={**environment, "GOLLAMA_API_KEY": OWN})
    assert shown.returncode == 0 and OWN not in shown.stdout + shown.stderr


# ---- the audit log ----


def test_what_admins_do_is_in_the_log(guarded: Site) -> None:
    key, weak = guarded.key("admin", "admin"), guarded.key("weak")
    assert guarded.http.post("/models/load", headers=bearer(key), json={"model": "tiny"}).status_code == 200
    assert guarded.http.post("/models/unload", headers=bearer(weak), json={"model": "tiny"}).status_code == 403

    def log() -> list[audit.Entry]:
        with opened(guarded.file) as connection:
            assert audit.verify(connection).problem is None
            return audit.entries(connection)

    wait_until(lambda: any(row.action == "POST /models/unload" and row.actor == weak.split("-")[1] for row in log()))
    rows = log()
    (start,) = [row for row in rows if row.action == "server.start"]
    assert OWN not in start.details and '"port": 0' in start.details
    (load,) = [json.loads(row.details) for row in rows if row.actor == key.split("-")[1]]
    assert load == {"client": "127.0.0.1", "model": "tiny", "status": 200}


# ---- pages of other origins ----


def test_a_preflight_needs_no_key_and_the_request_does(tiny_model: str) -> None:
    with running(f"tiny={tiny_model}", loading=LOADING, api_key=OWN, cors_origins=["https://good.example"]) as server:
        with httpx2.Client(base_url=server.url) as http:
            probe = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST",
                     "Access-Control-Request-Headers": "authorization"}
            reply = http.options(TEXT, headers=probe)
            assert reply.status_code == 200 and reply.headers["access-control-allow-origin"] == "https://good.example"
            assert http.options(TEXT, headers={**probe, "Origin": "https://bad.example"}).status_code == 400
            reply = http.post(TEXT, headers={"Origin": "https://good.example"}, json=ask())
            assert reply.status_code == 401 and reply.headers["access-control-allow-origin"] == "https://good.example"


def test_other_hosts_and_origins_are_refused_before_a_key_is_looked_at(guarded: Site) -> None:
    assert refused(guarded.http.post(TEXT, headers={"Host": "evil.example", **bearer(OWN)}, json=ask())) == (421, "host_not_allowed")
    assert refused(guarded.http.post(TEXT, headers={"Origin": "https://evil.example", **bearer(OWN)}, json=ask())) == (
        403, "origin_not_allowed")
    assert "access-control-allow-origin" not in guarded.post(OWN).headers


# ---- TLS ----


def test_it_speaks_tls(tiny_model: str, tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
                   .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=1))
                   .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
                   .sign(key, hashes.SHA256()))
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    with running(f"tiny={tiny_model}", loading=LOADING, tls_cert=str(cert_file), tls_key=str(key_file)) as server:
        assert server.url.startswith("https://")
        with httpx2.Client(base_url=server.url, verify=ssl.create_default_context(cafile=str(cert_file))) as http:
            assert http.post(TEXT, json=ask()).status_code == 200
        with httpx2.Client() as plain, pytest.raises(httpx2.HTTPError):
            plain.get(server.url.replace("https", "http") + "/health")


# ---- an identity provider ----


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
