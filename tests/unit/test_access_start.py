"""Which settings a server starts with, and what a route asks of a key."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import OptionError
from gollama.server import ServerConfig
from gollama.server.access.keys import create
from gollama.server.access.oidc import claim_values, oidc_options
from gollama.server.access.routes import ROUTES, route_of
from gollama.server.access.start import check_access
from gollama.server.config import shown


@pytest.mark.parametrize(("settings", "said"), [
    ({"host": "0.0.0.0"}, "no keys"), ({"host": "10.0.0.5"}, "no keys"), ({"host": "example.org"}, "no keys"),
    ({"api_key": "short"}, "api_key"), ({"api_key": "with a space"}, "api_key"), ({"tls_key": "k"}, "tls_key needs"),
    ({"tls_cert": "/nowhere"}, "cannot be used"), ({"oidc_issuer": "https://a"}, "needs oidc_audience"),
    ({"oidc_audience": "a"}, "need oidc_issuer"),
    ({"oidc_issuer": "http://a", "oidc_audience": "b"}, "https"), ({"oidc_issuer": "file:///etc", "oidc_audience": "b"}, "https"),
    ({"oidc_issuer": "https://a", "oidc_audience": "b", "oidc_algorithms": ["HS256"]}, "oidc_algorithms"),
    ({"oidc_issuer": "https://a", "oidc_audience": "b", "oidc_algorithms": ["none"]}, "oidc_algorithms"),
    ({"oidc_issuer": "https://a", "oidc_audience": "b", "oidc_scopes": ["x=root"]}, "VALUE=SCOPE"),
])
def test_a_server_does_not_start_with(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        check_access(ServerConfig(**settings))


@pytest.mark.parametrize("settings", [
    {}, {"host": "localhost"}, {"host": "::1"}, {"host": "127.1.2.3"}, {"host": "0.0.0.0", "auth": False},
    {"host": "0.0.0.0", "uds": "/tmp/x"},
    {"host": "0.0.0.0", "api_key": "long-enough"}, {"host": "0.0.0.0", "oidc_issuer": "https://a", "oidc_audience": "b"},
])
def test_a_server_starts_with(settings: dict[str, Any]) -> None:
    check_access(ServerConfig(**settings))


def test_a_key_in_the_file_is_enough_for_others_to_reach_it(file: str, connection: sqlite3.Connection) -> None:
    config = ServerConfig(host="0.0.0.0", access_file=file)
    with pytest.raises(OptionError, match="no keys"):
        check_access(config)
    create(connection, "a", actor="me")
    check_access(config)


def test_values_of_a_claim_give_scopes() -> None:
    options = oidc_options(ServerConfig(oidc_issuer="https://a", oidc_audience="b",
                                        oidc_scopes=["team=inference", "ops=admin", "ops=metrics"]))
    assert options is not None and options.scopes == {"team": {"inference"}, "ops": {"admin", "metrics"}}


def test_a_claim_may_stand_within_another() -> None:
    claims = {"a.b": ["whole"], "a": {"b": ["inner"], "c": "two words", "d": [1, "x"]}, "n": 3}
    assert [claim_values(claims, path) for path in ("a.b", "a.c", "a.d", "n", "n.x", "none")] == [
        ["whole"], ["two", "words"], ["x"], [], [], []]


def test_a_key_of_the_settings_is_not_shown() -> None:
    config = ServerConfig(api_key="do-not-show-this")
    assert "do-not-show-this" not in repr(config) + json.dumps(shown(config)) and shown(config)["api_key"] == "…"


@pytest.mark.parametrize(("path", "route"), [
    ("/v1/chat/completions", "/v1/chat/completions"), ("/v1/models/a/b", "/v1/models/{name:path}"),
    ("/v1/responses/x", "/v1/responses/{response_id}"),
    ("/v1/responses/x/input_items", "/v1/responses/{response_id}/input_items"), ("/v1/responses/x/other", None), ("/metrics/", None),
    ("//metrics", None), ("/health/../metrics", None), ("/Metrics", None), ("", None),
])
def test_which_route_a_path_belongs_to(path: str, route: str | None) -> None:
    assert route_of(path) == route


@given(st.text(max_size=30))
def test_an_unknown_path_has_no_route(text: str) -> None:
    found = route_of("/" + text)
    assert found is None or found in ROUTES
