"""How the server is set up: one record, filled from flags, the environment and a TOML file."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gollama._options import check, described, option, record
from gollama.errors import OptionError
from gollama.model import existing_file
from gollama.options import LoadOptions

MIB = 2**20
LOOPBACK = ("localhost", "127.0.0.1", "::1")
WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 (they are compared with)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
LISTS = ("models", "allowed_hosts", "cors_origins", "oidc_algorithms", "oidc_scopes")


def _secret(made: Any) -> Any:
    """A field that is not shown."""
    made.repr = False
    return made


@dataclass(frozen=True)
class ServerConfig:
    """The server's settings. `loading` are the fields of LoadOptions that every model is loaded with; `options` has, by the names of
    single models, what they have instead.

    >>> ServerConfig(models=["smollm2"]).port
    8080
    """

    models: Sequence[str] = described((), "what is served: names or paths, or NAME=MODEL to call one otherwise; kept as a tuple")
    host: str = option("127.0.0.1", "address to listen at", str)
    port: int = option(8080, "port to listen at; 0: one that is free", int, least=0, most=65535)
    uds: str | None = option(None, "a Unix socket to listen at, in place of host and port", str, optional=True)
    any_model: bool = option(False, "a request for a model that is not served is answered by the first one", bool)
    memory: int | None = option(None, "MiB that all models may take together; None: 80 % of what is free", int, least=1, optional=True)
    model_ttl: float | None = option(None, "seconds after which a model that nobody uses is unloaded; None: when others need its memory",
                                     float, least=0, optional=True)
    load_timeout: float = option(300.0, "seconds that a request waits for its model to be loaded", float, least=0.001)
    preload: bool = option(True, "load the models before the first request", bool)
    # limits
    max_body: int = option(16, "MiB of a request's body", int, least=1, most=4096)
    max_messages: int = option(4096, "messages of a chat", int, least=1)
    max_inputs: int = option(2048, "texts in one request: prompts, inputs to embed, documents", int, least=1)
    max_choices: int = option(16, "answers to one prompt (n, best_of)", int, least=1, most=256)
    max_tokens: int | None = option(None, "tokens of one answer; None: what the context has room for", int, least=1, optional=True)
    max_connections: int = option(1024, "connections at once; one more is answered with 503", int, least=1)
    request_timeout: float = option(600.0, "seconds that one request is computed for; then an answer ends as it is, vectors are refused",
                                    float, least=0.001)
    read_timeout: float = option(30.0, "seconds for a request's headers, and for each piece of its body", float, least=0.001)
    write_timeout: float = option(60.0, "seconds that a reader of a stream may stand still", float, least=0.001)
    keep_alive: int = option(75, "seconds that an idle connection stays", int, least=1)
    drain_timeout: int = option(30, "seconds that running requests have to end after SIGTERM", int, least=0)
    stored_responses: int = option(256, "responses kept for GET /v1/responses/…; the oldest go", int, least=0)
    # who may ask
    allowed_hosts: Sequence[str] = described((), "names that a request may call this server by; none: its own address, or any where it "
                                             "listens at all addresses; kept as a tuple")
    cors_origins: Sequence[str] = described((), "origins whose pages may use it; none: no page of another origin; kept as a tuple")
    api_key: str | None = _secret(option(None, "a key that may do everything; best in GOLLAMA_API_KEY: others see a command line", str,
                                         optional=True))
    auth: bool = option(True, "ask for keys, if there are any; without, anybody who reaches the server may use it", bool)
    access_file: str | None = option(None, "SQLite file with keys, quotas, usage and the audit log; None: none of them are kept", str,
                                     optional=True)
    usage_days: int = option(90, "days that usage is kept", int, least=1)
    requests_per_minute: int | None = option(None, "of each key that has no such limit of its own", int, least=1, optional=True)
    tokens_per_minute: int | None = option(None, "of each key that has no such limit of its own", int, least=1, optional=True)
    tokens_per_day: int | None = option(None, "of each key that has no such limit of its own", int, least=1, optional=True)
    tls_cert: str | None = option(None, "PEM file of the certificate and those above it", str, optional=True)
    tls_key: str | None = option(None, "PEM file of its key, if that is not in the same file", str, optional=True)
    oidc_issuer: str | None = option(None, "identity provider whose tokens are taken, https://…; None: none", str, optional=True)
    oidc_audience: str | None = option(None, "whom its tokens must be for", str, optional=True)
    oidc_jwks_url: str | None = option(None, "where its keys are; None: where it says", str, optional=True)
    oidc_algorithms: Sequence[str] = described(("RS256", "ES256"), "signatures that are taken; kept as a tuple")
    oidc_scope_claim: str = option("scope", "claim that tells what a token may do; a.b is b within a", str)
    oidc_scopes: Sequence[str] = described((), "VALUE=SCOPE, what a value of that claim gives; none: the scopes' own names; a tuple")
    oidc_model_claim: str | None = option(None, "claim that lists the models a token may use; None: all", str, optional=True)
    # what is told
    metrics: bool = option(True, "serve /metrics", bool)
    page: bool = option(True, "serve a page to chat and to watch the metrics, at /", bool)
    access_log: str = option("text", "a line for each request, on stderr: text, json, off", str, choices=("text", "json", "off"))
    log_level: str = option("info", "least severity that is logged", str, choices=("debug", "info", "warning", "error"))
    otlp_endpoint: str | None = option(None, "where OpenTelemetry traces are sent, http://HOST:4318; None: nowhere", str, optional=True)
    loading: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "models", _models(self.models))
        for name in LISTS[1:]:
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        if not isinstance(self.loading, Mapping):
            raise OptionError(f"loading must hold the fields of LoadOptions, not be {self.loading!r}")
        object.__setattr__(self, "loading", dict(self.loading))
        if not isinstance(self.options, Mapping) or not all(isinstance(one, Mapping) for one in self.options.values()):
            raise OptionError(f"options must hold, by the names of models, fields of LoadOptions, not be {self.options!r}")
        for name in self.options:
            if name not in self.served:
                raise OptionError(f"options names the model {name!r}, which is not served; there are: {', '.join(self.served)}")
        for name in ("", *self.served):
            self.load_options(name)

    def load_options(self, name: str = "") -> LoadOptions:
        """How a model is loaded. OptionError or UnknownOptionError for what LoadOptions does not take."""
        return record(LoadOptions, None, {**self.loading, **self.options.get(name, {})}, "loading")

    @property
    def served(self) -> dict[str, str]:
        """Each model's name in requests, and what is loaded for it."""
        return dict(map(_named, self.models))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that a request may call this server by; empty: any."""
        if "*" in self.allowed_hosts or (self.host in WILDCARDS and not self.allowed_hosts):
            return ()
        return tuple(dict.fromkeys((*self.allowed_hosts, *LOOPBACK, *([] if self.host in WILDCARDS else [self.host]))))


def shown(config: ServerConfig) -> dict[str, Any]:
    """The settings, but for those that are secrets."""
    hidden = {one.name for one in dataclasses.fields(config) if not one.repr}
    return {name: "…" if name in hidden and value is not None else value for name, value in dataclasses.asdict(config).items()}


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not all(isinstance(one, str) and one for one in value):
        raise OptionError(f"{name} must be a list of texts that are not empty, not {value!r}")
    return tuple(value)


def _named(model: str) -> tuple[str, str]:
    """NAME=MODEL; a path is called by its file's name."""
    name, equals, source = model.partition("=")
    if equals and "/" not in name:
        return name, source
    return (Path(model).stem if model.endswith(".gguf") else model), model


def _models(value: Any) -> tuple[str, ...]:
    models = _texts("models", value)
    names = [_named(model)[0] for model in models]
    for model, name in zip(models, names):
        if not NAME.fullmatch(name) or not _named(model)[1]:
            raise OptionError(f"models: {model!r} must be a name, a path or NAME=MODEL, with letters, digits and . _ : / @ + - in the name")
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"models has two of the name {name!r}: tell them apart with NAME=MODEL")
    return models


# ---- where settings come from ----


def simple_fields(kind: type) -> list[dataclasses.Field[Any]]:
    """The fields that one word can set: those with a kind, which flags and variables of the environment are made of."""
    return [one for one in dataclasses.fields(kind) if "kind" in one.metadata]


def read_config(flags: Mapping[str, Any], *, file: str | None = None, environment: Mapping[str, str] | None = None) -> ServerConfig:
    """The settings: flags before GOLLAMA_… variables before the file (`file`, or the one that GOLLAMA_CONFIG names).

    `flags` holds what was given, by the names of the fields of ServerConfig and of LoadOptions.
    """
    environment = os.environ if environment is None else environment
    file = file or environment.get("GOLLAMA_CONFIG") or None
    given = read_file(file) if file else {}
    loading = given.pop("loading", {})
    if not isinstance(loading, Mapping):
        raise OptionError(f"{file}: loading must be a table")
    spoken = _spoken(environment)
    own = {one.name for one in dataclasses.fields(ServerConfig)}
    for source in (spoken, flags):
        given.update({name: value for name, value in source.items() if name in own})
        loading = {**loading, **{name: value for name, value in source.items() if name not in own}}
    return record(ServerConfig, None, {**given, "loading": loading}, "config")


def read_file(file: str) -> dict[str, Any]:
    """OptionError for what is no TOML, ModelNotFoundError where there is no file."""
    path = existing_file(file)
    if path.stat().st_size > MIB:
        raise OptionError(f"{file} is larger than 1 MiB: that is no configuration")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{file} is not TOML: {error}") from None
    return found


def _spoken(environment: Mapping[str, str]) -> dict[str, Any]:
    """What GOLLAMA_… variables say; an empty one says nothing."""
    found: dict[str, Any] = {}
    for one in (*simple_fields(LoadOptions), *simple_fields(ServerConfig)):
        text = environment.get(f"GOLLAMA_{one.name.upper()}", "")
        if text:
            found[one.name] = worded(one, text, f"GOLLAMA_{one.name.upper()}")
    for name in LISTS:
        text = environment.get(f"GOLLAMA_{name.upper()}", "")
        if text:
            found[name] = [part.strip() for part in text.split(",") if part.strip()]
    return found


def worded(one: dataclasses.Field[Any], text: str, source: str) -> Any:
    """The value of a field that a word stands for; OptionError names the source."""
    kind = one.metadata["kind"]
    if kind is str or text in one.metadata["words"]:
        return text
    if kind is bool:
        if text.lower() not in TRUE + FALSE:
            raise OptionError(f"{source} must be one of {', '.join(TRUE + FALSE)}, not {text!r}")
        return text.lower() in TRUE
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        raise OptionError(f"{source} must be a {'whole ' * (kind is int)}number, not {text!r}") from None
