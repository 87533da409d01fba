"""The server's settings: one schema for flags, the environment and TOML."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import LoadOptions, ModelNotFoundError, OptionError, UnknownOptionError
from gollama.server import ServerConfig, read_config
from gollama.server.config import LOOPBACK, simple_fields


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gollama.toml"
    file.write_text('models = ["a"]\nport = 1\nmax_body = 3\nkeep_alive = 5\n[loading]\ncontext_size = 512\nthreads = 1\n')
    environment = {"GOLLAMA_CONFIG": str(file), "GOLLAMA_PORT": "2", "GOLLAMA_MAX_BODY": "4", "GOLLAMA_THREADS": "2", "GOLLAMA_HOME": "/x",
                   "GOLLAMA_METRICS": "no", "GOLLAMA_CONTEXT_SIZE": "auto"}
    config = read_config({"port": 3, "gpu_layers": 0}, environment=environment)
    assert (config.port, config.max_body, config.keep_alive, config.metrics, config.models) == (3, 4, 5, False, ("a",))
    assert config.loading == {"context_size": "auto", "threads": 2, "gpu_layers": 0}


@pytest.mark.parametrize("field", simple_fields(ServerConfig) + simple_fields(LoadOptions), ids=lambda field: str(field.name))
def test_every_simple_field_can_stand_in_the_environment(field: dataclasses.Field[Any]) -> None:
    rule = field.metadata
    values = {bool: True, int: max(int(rule["least"] or 0), 1), float: 7.5, str: (rule["choices"] or ("text",))[0]}
    config = read_config({}, environment={f"GOLLAMA_{field.name.upper()}": str(values[rule["kind"]])})
    found = getattr(config, field.name) if hasattr(config, field.name) else config.loading[field.name]
    assert found == values[rule["kind"]]


def test_lists_are_parted_by_commas() -> None:
    config = read_config({}, environment={"GOLLAMA_MODELS": "a, b=c", "GOLLAMA_CORS_ORIGINS": "https://x"})
    assert config.served == {"a": "a", "b": "c"} and config.cors_origins == ("https://x",)


@pytest.mark.parametrize(("environment", "said"), [
    ({"GOLLAMA_PORT": "many"}, "GOLLAMA_PORT must be a whole number"), ({"GOLLAMA_PORT": "70000"}, "port must be between"),
    ({"GOLLAMA_METRICS": "maybe"}, "GOLLAMA_METRICS must be one of"), ({"GOLLAMA_MODELS": "a,a"}, "two of the name"),
    ({"GOLLAMA_MODELS": "a\nb"}, "must be a name"), ({"GOLLAMA_SPLIT_MODE": "x"}, "split_mode must be one of"),
])
def test_a_wrong_value_is_named(environment: dict[str, str], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        read_config({}, environment=environment)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "gollama.toml"
    for text, error in (("port = ", OptionError), ("prot = 1", UnknownOptionError), ("[loading]\nthread = 1", UnknownOptionError),
                        ("loading = 3", OptionError), ("models = 'a'", OptionError),
                        ("[options.b]\nthreads = 1", OptionError), ("models = ['b']\n[options.b]\nthread = 1", UnknownOptionError)):
        file.write_text(text)
        with pytest.raises(error):
            read_config({}, file=str(file), environment={})
    with pytest.raises(ModelNotFoundError):
        read_config({}, file=str(tmp_path / "none"), environment={})


@pytest.mark.parametrize(("settings", "hosts"), [
    ({}, {*LOOPBACK}), ({"host": "0.0.0.0"}, set()), ({"host": "10.0.0.5"}, {*LOOPBACK, "10.0.0.5"}),
    ({"host": "0.0.0.0", "allowed_hosts": ["a.example"]}, {*LOOPBACK, "a.example"}), ({"allowed_hosts": ["*"]}, set()),
])
def test_which_hosts_are_allowed(settings: dict[str, Any], hosts: set[str]) -> None:
    assert set(ServerConfig(**settings).hosts) == hosts


@given(st.dictionaries(st.sampled_from([field.name for field in simple_fields(ServerConfig)]), st.text(max_size=8)))
def test_words_make_a_config_or_an_option_error(words: dict[str, str]) -> None:
    with contextlib.suppress(OptionError):
        read_config({}, environment={f"GOLLAMA_{name.upper()}": text for name, text in words.items()})


def test_the_command_checks_and_prints_the_settings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gollama", "serve", "smollm2", "--check", "--port", "0", "--gpu-layers", "3", "--no-metrics",
               "--cors-origin", "https://a"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (shown["models"], shown["port"], shown["loading"], shown["metrics"]) == (["smollm2"], 0, {"gpu_layers": 3}, False)
    wrong = subprocess.run([*command, "--port", "-1"], capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stderr.startswith("gollama: port must be between")


def test_no_command_but_serve_needs_the_extra() -> None:
    code = ("import sys; sys.argv = ['gollama', 'list', '--json']; from gollama.cli import main\n"
            "try: main()\nexcept SystemExit: pass\n"
            "assert not {'fastapi', 'uvicorn', 'prometheus_client', 'orjson'} & set(sys.modules), sorted(sys.modules)")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_model_may_be_loaded_otherwise() -> None:
    config = ServerConfig(models=["a", "b=c"], loading={"threads": 1, "context_size": 64}, options={"b": {"context_size": 128}})
    assert [config.load_options(name).context_size for name in config.served] == [64, 128] and config.load_options("b").threads == 1
