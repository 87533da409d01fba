"""ModelRegistry: what names mean, in which order, and what others may write into a registry."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import DownloadError, GollamaError, ModelNotFoundError, OptionError
from gollama.errors import ModelNameError, RegistryError, StoreError
from gollama.models import ModelEntry, ModelRegistry, names
from gollama.models.entries import ABILITIES, read_models
from gollama.models.lookup import built_in
from tests.support.model_homes import TINY, empty_machine, gguf, hub_file, refuse_sockets, registry_text


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_machine(tmp_path, monkeypatch)


# the built-in list ------------------------------------------------------------------------------------------------------------------

def test_the_built_in_list_is_long_and_says_what_each_model_is() -> None:
    entries = built_in().values()
    assert len(entries) >= 30
    assert sum(len(entry.variants) > 1 for entry in entries) >= 20
    assert all(entry.title and entry.license and entry.abilities and entry.context for entry in entries)
    abilities = {ability for entry in entries for ability in entry.abilities}
    assert abilities >= {"chat", "tools", "thinking", "vision", "embedding", "rerank", "infill"}


def test_only_what_was_verified_has_a_digest() -> None:
    verified = {entry.name for entry in built_in().values() for variant in entry.variants if variant.verified}
    assert verified == {"smollm2:135m", "gemma3:270m"}
    assert all((variant.sha256 is not None) == variant.verified for entry in built_in().values() for variant in entry.variants)


def test_each_alias_means_one_model() -> None:
    registry = ModelRegistry()
    for entry in registry:
        assert registry.find(entry.name) is entry
        assert sum(other.default for other in registry if other.alias == entry.alias) == 1
        assert registry.find(entry.alias).alias == entry.alias


# what a name means ------------------------------------------------------------------------------------------------------------------

def test_a_name_without_a_tag_is_the_default() -> None:
    assert ModelRegistry().find("smollm2").name == "smollm2:135m"


@pytest.mark.parametrize(("spelled", "name", "quantization"), [
    ("qwen3:4b-Q8_0", "qwen3:4b", "Q8_0"), ("qwen3:4b-q8_0", "qwen3:4b", "Q8_0"), ("qwen3:Q6_K", "qwen3:4b", "Q6_K"),
    ("qwen3:4b", "qwen3:4b", "Q4_K_M"), ("gemma3:270m-it", "gemma3:270m-it", "Q8_0"),
])
def test_a_quantization_may_stand_in_the_name(spelled: str, name: str, quantization: str) -> None:
    entry, variant = ModelRegistry().choose(spelled)
    assert (entry.name, variant.quantization) == (name, quantization)


def test_an_unknown_quantization_is_told_the_ones_there_are() -> None:
    with pytest.raises(RegistryError, match=r"qwen3:4b is not known in the quantization 'Q1'; there are: Q4_K_M, "):
        ModelRegistry().target("qwen3:4b", "Q1")


def test_an_unknown_name_is_told_the_names_there_are() -> None:
    with pytest.raises(ModelNotFoundError, match="no model named 'gpt-9'.*smollm2"):
        ModelRegistry().find("gpt-9")
    with pytest.raises(ModelNotFoundError, match="the names are: gemma3:270m, gemma3:270m-it"):
        ModelRegistry().find("gemma3:9b")


def test_several_tags_without_a_default_are_asked_about() -> None:
    registry = ModelRegistry()
    registry.add("mine:1b", ["hf:someone/a"], quantization="Q8_0")
    registry.add("mine:2b", ["hf:someone/b"], quantization="Q8_0")
    with pytest.raises(RegistryError, match="say which, of mine:1b, mine:2b"):
        registry.find("mine")


def test_the_order_is_pin_toml_json_team_built_in(machine: Path) -> None:
    names_in = ["smollm2:135m", "a:1", "b:1", "c:1"]

    def of(origin: str, *chosen: str) -> str:
        return json.dumps({"format": 1, "models": {name: {"title": origin, **TINY} for name in chosen}})

    (machine / "team.json").write_text(of("team", *names_in))
    registry = ModelRegistry()
    registry.add_registry(str(machine / "team.json"))
    kept = json.loads((machine / "config" / "registry.json").read_text())
    (machine / "config" / "registry.json").write_text(json.dumps({**kept, **json.loads(of("json", *names_in[:3]))}))
    rows = "".join(f'[models."{name}"]\ntitle = "toml"\nvariants.Q8_0 = ["hf:someone/tiny:Q8_0"]\n' for name in names_in[:2])
    (machine / "config" / "registry.toml").write_text("format = 1\n" + rows)
    registry.reload()
    assert [registry.find(name).title for name in names_in] == ["toml", "toml", "json", "team"]
    assert registry.find("gemma3:270m").origin == "gollama"


def test_a_path_is_taken_as_it_is() -> None:
    assert ModelRegistry().resolve("some/where.gguf") == Path("some/where.gguf")
    assert ModelRegistry().resolve(Path("smollm2")) == Path("smollm2")


def test_a_file_of_no_models_name_is_a_path(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(machine)
    gguf(machine / "weights")
    assert ModelRegistry().resolve("weights") == Path("weights")


# resolving ----------------------------------------------------------------------------------------------------------------------------

def test_a_cached_name_needs_no_network(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q8_0.gguf")
    registry = ModelRegistry()
    registry.add("web:1", [f"https://example.com/m.gguf#sha256={'a' * 64}"], quantization="Q8_0")
    from gollama.models import sources
    placed = gguf(sources.place(registry.target("web:1").sources[0]))  # type: ignore[arg-type]
    refuse_sockets(monkeypatch)
    assert ModelRegistry().resolve("qwen3:4b-Q8_0") == link
    assert ModelRegistry().resolve("web:1") == placed
    assert ModelRegistry().resolve("hf:Qwen/Qwen3-4B-GGUF:Q8_0") == link
    assert ModelRegistry().locate("qwen3:8b") is None


def test_the_next_source_serves_where_the_first_is_not_here(machine: Path) -> None:
    registry = ModelRegistry()
    registry.add("two:1", [f"file:{machine}/none.gguf", f"file:{gguf(machine / 'there.gguf')}"], quantization="Q8_0")
    assert registry.resolve("two:1") == machine / "there.gguf"


def test_when_no_source_has_it_each_ones_words_are_told(machine: Path) -> None:
    registry = ModelRegistry()
    registry.add("two:1", [f"file:{machine}/one.gguf", f"file:{machine}/two.gguf"], quantization="Q8_0")
    with pytest.raises(DownloadError, match=r"two:1 cannot be had.*no file .*one\.gguf; .*no file .*two\.gguf"):
        registry.resolve("two:1")


def test_a_store_that_cannot_be_written_is_no_reason_not_to_use_a_model(machine: Path) -> None:
    link = hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q8_0.gguf")
    (machine / "home").rmdir()
    (machine / "home").write_text("a file where the folder of records must be")
    assert ModelRegistry().resolve("qwen3:4b-Q8_0") == link


# the user's own ---------------------------------------------------------------------------------------------------------------------

def test_what_is_added_is_found_by_the_next(machine: Path) -> None:
    ModelRegistry().add("mine:7b", ["hf:someone/mine-GGUF"], quantization="Q8_0", title="Mine", license="MIT", size=5, abilities=["chat"],
                        context=2048)
    ModelRegistry().add("mine:7b", ["hf:someone/mine-GGUF:Q4_0"], quantization="Q4_0")
    found = ModelRegistry().find("mine")
    assert (found.title, found.license, found.abilities, found.context) == ("Mine", "MIT", ("chat",), 2048)
    assert found.quantizations == ("Q8_0", "Q4_0")
    assert found.variant("q8_0").size == 5


def test_a_known_name_is_not_taken_by_accident() -> None:
    with pytest.raises(RegistryError, match="'smollm2:135m' is known already, from gollama"):
        ModelRegistry().add("smollm2:135m", ["hf:someone/else"], quantization="Q8_0")
    ModelRegistry().add("smollm2:135m", ["hf:someone/else"], quantization="Q8_0", replace=True)
    assert ModelRegistry().find("smollm2:135m").quantizations == ("Q8_0",)


def test_what_is_removed_is_gone_and_the_rest_stays() -> None:
    registry = ModelRegistry()
    registry.add("one", ["hf:someone/one"], quantization="Q8_0")
    registry.add("two", ["hf:someone/two"], quantization="Q8_0")
    registry.remove("one")
    assert list(ModelRegistry().own) == ["two"]
    with pytest.raises(RegistryError, match=r"'smollm2:135m' is not in your registry\.json: it comes from gollama"):
        registry.remove("smollm2:135m")


def test_threads_that_add_at_once_lose_nothing() -> None:
    def add(number: int) -> None:
        ModelRegistry().add(f"model{number}", ["hf:someone/x"], quantization="Q8_0")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ModelRegistry().own) == 8


def test_settings_that_cannot_be_written_are_told(machine: Path) -> None:
    (machine / "config").rmdir()
    (machine / "config").write_text("a file where the folder must be")
    with pytest.raises((StoreError, RegistryError), match="config"):
        ModelRegistry().add("one", ["hf:someone/one"], quantization="Q8_0")


def test_a_full_disk_leaves_the_registry_as_it_was(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    ModelRegistry().add("one", ["hf:someone/one"], quantization="Q8_0")
    before = (machine / "config" / "registry.json").read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"registry\.json cannot be written \(No space left on device\)"):
        ModelRegistry().add("two", ["hf:someone/two"], quantization="Q8_0")
    assert (machine / "config" / "registry.json").read_bytes() == before
    assert not list((machine / "config").glob("*.partial")) + list((machine / "config").glob(".*.partial"))


# pins ---------------------------------------------------------------------------------------------------------------------------------

def test_a_pin_holds_the_revision_and_the_digest() -> None:
    old = hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf", b"old", "a" * 40)
    held = ModelRegistry().pin("qwen3")
    assert (held.revision, held.files[0].sha256) == ("a" * 40, hashlib.sha256(b"GGUFold").hexdigest())
    new = hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf", b"new", "b" * 40)
    assert ModelRegistry().resolve("qwen3:4b") == old
    ModelRegistry().remove("qwen3:4b")
    assert ModelRegistry().resolve("qwen3:4b") == new


def test_a_pinned_file_that_changed_is_refused() -> None:
    link = hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf", b"right", "a" * 40)
    ModelRegistry().pin("qwen3:4b")
    link.resolve().write_bytes(b"GGUFwrong")
    with pytest.raises(DownloadError, match="has the sha256 .* are locked"):
        ModelRegistry().resolve("qwen3:4b")


def test_a_model_without_revisions_is_pinned_as_it_is(machine: Path) -> None:
    registry = ModelRegistry()
    registry.add("mine", [f"file:{gguf(machine / 'mine.gguf')}"], quantization="Q8_0")
    with pytest.raises(OptionError, match="no repository with revisions"):
        registry.pin("mine", "main")
    assert registry.pin("mine").revision is None


# what others write ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "told"), [
    ("", "is not JSON"), ("[" * 100_000, "is not JSON"), ("[]", "must hold an object, not list"), ("{}", '"format": 1'),
    ('{"format": 1, "models": []}', "models must be a table"), ('{"format": 1, "format": 1}', "'format' comes twice"),
    ('{"format": 1, "extra": 1}', "'extra'"), (registry_text(x={}), "one variant or more"),
    (registry_text(x={"variants": {"Q8_0": []}}), "sources must be one source or more"),
    (registry_text(x={"variants": {"Q8_0": ["gemma3"]}}), "an alias, and a source is asked for"),
    (registry_text(x={"variants": {"Q8_0": ["hf:a/../../b"]}}), "is none"),
    (registry_text(x={"variants": {"Q8_0": ["pypi:a==1/../../etc/passwd"]}}), "is none"),
    (registry_text(x={"variants": {"../../x": ["hf:a/b"]}}), "quantization must be"),
    (registry_text(x={**TINY, "title": "a\x1b[2Jb"}), "title must be a line of text"),
    (registry_text(x={**TINY, "context": -1}), "context must be a number of tokens"),
    (registry_text(x={**TINY, "abilities": ["fly"]}), "abilities must be among chat"),
    (registry_text(x={**TINY, "licence": "MIT"}), "'licence', which is not among"),
    (registry_text(x={"variants": {"Q8_0": {"sources": ["hf:a/b"], "sha256": "A" * 64}}}), "sha256 must be"),
    (registry_text(x={"variants": {"Q8_0": {"sources": ["hf:a/b"], "size": 1 << 60}}}), "size must be"),
    (registry_text(x={"variants": {"Q8_0": {"sources": ["hf:a/b"], "verified": True}}}), "marked as verified"),
    (registry_text(**{"../x": TINY}), "is no name for a model"), (registry_text(**{"a\nb": TINY}), "control character"),
    ('{"format": 1, "registries": [{"location": 1}]}', "each of registries must have a location"),
])
def test_a_wrong_registry_is_told_where_it_is_wrong(machine: Path, text: str, told: str) -> None:
    (machine / "config" / "registry.json").write_text(text)
    with pytest.raises(RegistryError, match=re.escape(told)) as caught:
        ModelRegistry()
    assert "registry.json" in str(caught.value) and str(caught.value).isprintable()


def test_a_registry_that_is_no_file_or_too_large_is_refused(machine: Path) -> None:
    import os

    os.mkfifo(machine / "config" / "registry.json")
    with pytest.raises(RegistryError, match="is no file"):
        ModelRegistry()
    (machine / "config" / "registry.json").unlink()
    (machine / "config" / "registry.json").write_bytes(b" " * (5 << 20))
    with pytest.raises(RegistryError, match="larger than the 4 MiB"):
        ModelRegistry()


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4), max_leaves=12)
KEYS = st.sampled_from(["title", "license", "abilities", "context", "default", "variants", "repository", "quantizations", "sources"])


def refusal(call: Callable[[], object]) -> GollamaError | None:
    try:
        call()
    except GollamaError as error:
        return error
    return None


@given(st.dictionaries(st.text(max_size=20) | st.sampled_from(["a", "a:b"]), st.dictionaries(KEYS, JSON, max_size=4) | JSON, max_size=3))
def test_whatever_a_registry_holds_it_is_read_or_refused(models: dict[str, Any]) -> None:
    error = refusal(lambda: read_models({"format": 1, "models": models}, "x", distant=True))
    assert error is None or (isinstance(error, RegistryError) and str(error).isprintable())


ALIASES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}(:[a-z0-9][a-z0-9._-]{0,10})?", fullmatch=True).filter(lambda name: ".gguf" not in name)
SOURCES = st.sampled_from(["hf:a/b", "hf:a/b:Q4_0", "hf:a/b/c.gguf@main", "file:/x/y.gguf", "pypi:a==1/b/c.gguf",
                           "https://example.com/m.gguf#sha256=" + "a" * 64])
ENTRIES = st.builds(
    lambda name, sources, title, abilities, context, default: ModelEntry.read(name, {
        "variants": {"Q8_0": sources, "Q4_0": {"sources": sources, "size": 7, "sha256": "b" * 64}}, "title": title, "abilities": abilities,
        "default": default, **({"context": context} if context else {})}),
    ALIASES, st.lists(SOURCES, min_size=1, max_size=3), st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"]), max_size=20),
    st.lists(st.sampled_from(ABILITIES), max_size=3), st.none() | st.integers(1, 1 << 20), st.booleans())


@given(ENTRIES)
def test_an_entry_written_is_the_entry_read(entry: ModelEntry) -> None:
    assert ModelEntry.read(entry.name, json.loads(json.dumps(entry.table()))) == entry


@given(st.text(max_size=60) | ALIASES)
def test_any_text_is_a_target_or_a_specific_error(text: str) -> None:
    error = refusal(lambda: ModelRegistry().target(text))
    assert error is None or isinstance(error, (ModelNotFoundError, ModelNameError, RegistryError))
    assert error is not None or names.parse(str(source := ModelRegistry().target(text).sources[0])) == source
