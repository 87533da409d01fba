"""Keys, their scopes and models, the audit log and TLS, by requests over loopback to a miniature model."""

from __future__ import annotations

import datetime
import ipaddress
import json
import logging
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi.routing import APIRoute

from gollama.server.access import audit
from gollama.server.access.database import opened
from gollama.server.access.keys import revoke
from gollama.server.access.principals import SCOPES
from gollama.server.access.routes import ROUTES, route_of
from tests.support.access import LOADING, OWN, SECRET, TEXT, Site, ask, bearer, refused, said, site
from tests.support.answers import wait_until
from tests.support.server import running

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
