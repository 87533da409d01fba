"""ModelStore: what is here, and deleting nothing but that."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import InvalidModelError, ModelNotFoundError, OptionError
from gollama.errors import RegistryError, StoreError
from gollama.models import LocalModel, ModelRegistry, ModelStore, StoredModel, deleting, others, records, sources
from gollama.models.names import FileSource
from tests.support.model_homes import empty_machine, gguf, hub_file, ollama_model

DAY = 86400


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_machine(tmp_path, monkeypatch)


def fetched(name: str, content: bytes = b"tensors", days: float = 0) -> Path:
    """A model in the store as a download leaves it, used so many days ago."""
    registry = ModelRegistry()
    path = gguf(sources.place(registry.target(name).sources[0]), content)  # type: ignore[arg-type]
    registry.resolve(name)
    used_ago(path, days)
    return path


def used_ago(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(records._file(path), (moment, moment))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# what is here -----------------------------------------------------------------------------------------------------------------------

def test_an_empty_machine_has_no_models() -> None:
    assert list(ModelStore()) == [] and ModelStore().disk_usage() == {}


def test_each_place_is_listed_with_name_size_and_quantization(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("smollm2", b"x" * 96)
    hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q8_0.gguf")
    hub_file("someone/other-GGUF", "sub/other-Q5_K_M.gguf")
    ollama_model(machine / "user" / ".ollama" / "models", "library", "llama3.2", "1b")
    gguf(machine / "user" / ".lmstudio" / "models" / "pub" / "repo" / "m-Q4_0.gguf")
    found = {model.name: model for model in ModelStore()}
    assert {name: (model.place, model.quantization) for name, model in found.items()} == {
        "smollm2:135m": ("gollama", "Q4_1"), "qwen3:4b-Q8_0": ("Hugging Face", "Q8_0"),
        "hf:someone/other-GGUF/sub/other-Q5_K_M.gguf": ("Hugging Face", "Q5_K_M"),
        "ollama:llama3.2:1b": ("Ollama", None), "lmstudio:pub/repo/m-Q4_0.gguf": ("LM Studio", "Q4_0")}
    assert found["smollm2:135m"].size == 100
    assert all(ModelRegistry().resolve(name) == model.path for name, model in found.items())


def test_a_use_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("smollm2", days=3)
    assert 2.9 * DAY < ModelStore().find("smollm2").age < 3.1 * DAY
    ModelRegistry().resolve("smollm2")
    assert ModelStore().find("smollm2").age < DAY


def test_listing_is_no_use() -> None:
    fetched("smollm2", days=3)
    for model in ModelStore():
        assert model.age > 2 * DAY


def test_the_parts_of_a_split_model_are_one(machine: Path) -> None:
    for number in (1, 2):
        hub_file("a/big-GGUF", f"big-Q4_0-0000{number}-of-00002.gguf", str(number).encode())
    (model,) = ModelStore()
    assert [file.name for file in model.files] == ["big-Q4_0-00001-of-00002.gguf", "big-Q4_0-00002-of-00002.gguf"] and model.size == 10


@pytest.mark.parametrize("content", ["", "{", "[]", '{"path": 1}',
                                     '{"path": "/etc/passwd", "source": "x", "revision": null, "digests": {}}',
                                     '{"path": "a\\u0000", "source": "x", "revision": null, "digests": {}}'])
def test_a_damaged_record_costs_the_history_and_no_more(content: str) -> None:
    path = fetched("smollm2")
    records._file(path).write_text(content)
    assert [model.path for model in ModelStore()] == [path]
    assert records.read(path) is None


# deleting ---------------------------------------------------------------------------------------------------------------------------

def test_what_is_removed_is_gone_and_its_folder_too(machine: Path) -> None:
    path, other = fetched("smollm2"), fetched("gemma3:270m")
    removal = ModelStore().remove("smollm2")
    assert (removal.freed, removal.models[0].name) == (11, "smollm2:135m")
    assert not path.parent.exists() and other.exists() and ModelRegistry().locate("smollm2") is None
    assert not records._file(path).exists()


def test_several_are_removed_by_one_look_at_what_is_here() -> None:
    paths = [fetched(name) for name in ("smollm2", "gemma3:270m")]
    with mock.patch.object(others, "scan", side_effect=others.scan) as looked:
        removal = ModelStore().remove("smollm2", "gemma3:270m", "smollm2:135m")
    assert [model.path for model in removal.models] == paths and removal.freed == 22 and looked.call_count == 1


def test_one_name_that_is_not_here_or_not_ours_keeps_all(machine: Path) -> None:
    ollama_model(machine / "user" / ".ollama" / "models", "library", "llama3.2", "1b")
    path = fetched("smollm2")
    for name, kind in (("gemma3:270m", ModelNotFoundError), ("ollama:llama3.2:1b", StoreError)):
        with pytest.raises(kind):
            ModelStore().remove("smollm2", name)
    assert path.exists()


def test_a_dry_run_deletes_nothing(machine: Path) -> None:
    fetched("smollm2", days=50)
    hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q8_0.gguf")
    before = tree(machine)
    assert ModelStore().remove("smollm2", dry_run=True).freed == 11
    assert ModelStore().remove("qwen3:4b-Q8_0", dry_run=True).freed == 11
    assert ModelStore().prune(older_than=DAY, dry_run=True).models
    assert {path: content for path, content in tree(machine).items() if "records" not in path} == {
        path: content for path, content in before.items() if "records" not in path}


def test_a_file_of_the_hubs_cache_goes_and_its_neighbours_stay() -> None:
    gone = hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q8_0.gguf", b"gone")
    blob = gone.resolve()
    stays = hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf", b"stays")
    assert ModelStore().remove("qwen3:4b-Q8_0").freed == 8
    assert not gone.exists() and not blob.exists() and stays.read_bytes() == b"GGUFstays"


def test_other_tools_files_are_theirs(machine: Path) -> None:
    ollama_model(machine / "user" / ".ollama" / "models", "library", "llama3.2", "1b")
    gguf(machine / "user" / ".lmstudio" / "models" / "pub" / "repo" / "m-Q4_0.gguf")
    before = tree(machine)
    for name, tool in (("ollama:llama3.2:1b", "Ollama"), ("lmstudio:pub/repo/m-Q4_0.gguf", "LM Studio")):
        with pytest.raises(StoreError, match=f"belongs to {tool}: remove it there"):
            ModelStore().remove(name)
    ModelStore().prune(older_than=0, max_size=0)
    assert tree(machine).items() >= before.items()


def test_nothing_behind_a_link_out_of_the_store_is_touched(machine: Path) -> None:
    outside = gguf(machine / "outside" / "precious.gguf")
    (machine / "home" / "models").mkdir()
    (machine / "home" / "models" / "link").symlink_to(machine / "outside")
    (machine / "home" / "models" / "file.gguf").symlink_to(outside)
    store = ModelStore()
    assert list(store) == []
    disguised = StoredModel("x", "gollama", (machine / "home" / "models" / "link" / "precious.gguf",), 11, None, None, None)
    with pytest.raises(StoreError, match="lies outside the store"):
        deleting.remove(store, [disguised], dry_run=False)
    assert outside.exists()


def test_what_cannot_be_deleted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetched("smollm2")

    def refused(*arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(StoreError, match=r"cannot be deleted \(Read-only file system\)"):
        ModelStore().remove("smollm2")
    assert path.exists()


def test_what_is_not_here_cannot_be_removed() -> None:
    with pytest.raises(ModelNotFoundError, match="'smollm2' is not here; `gollama list` names what is"):
        ModelStore().remove("smollm2")


# pruning ----------------------------------------------------------------------------------------------------------------------------

def test_what_was_not_used_for_long_goes() -> None:
    old, new = fetched("smollm2", days=40), fetched("gemma3:270m", days=2)
    assert [model.name for model in ModelStore().prune(older_than=30 * DAY).models] == ["smollm2:135m"]
    assert not old.exists() and new.exists()


def test_the_longest_unused_go_first_until_the_rest_fits() -> None:
    fetched("smollm2", b"x" * 96, days=1)
    fetched("gemma3:270m", b"x" * 96, days=5)
    assert [model.name for model in ModelStore().prune(max_size=150).models] == ["gemma3:270m"]
    assert [model.name for model in ModelStore()] == ["smollm2:135m"]


def test_pinned_models_stay() -> None:
    fetched("smollm2", days=40)
    ModelRegistry().pin("smollm2")
    used_ago(ModelStore().find("smollm2").path, 40)
    assert ModelStore().prune(older_than=DAY, max_size=0).models == ()


def test_files_of_the_hubs_cache_that_gollama_never_used_stay() -> None:
    hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q8_0.gguf", b"others")
    hub_file("Qwen/Qwen3-8B-GGUF", "Qwen3-8B-Q8_0.gguf", b"mine")
    ModelRegistry().resolve("qwen3:8b-Q8_0")
    assert [model.name for model in ModelStore().prune(older_than=0).models] == ["qwen3:8b-Q8_0"]
    assert [model.name for model in ModelStore()] == ["qwen3:4b-Q8_0"]


@pytest.mark.parametrize("limits", [{}, {"older_than": -1.0}, {"older_than": float("nan")}, {"max_size": -1}])
def test_pruning_needs_a_limit_that_can_be(limits: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        ModelStore().prune(**limits)  # type: ignore[arg-type]


# verifying --------------------------------------------------------------------------------------------------------------------------

def test_each_file_is_compared_with_what_is_known_of_it(machine: Path) -> None:
    fetched("smollm2")  # the registry knows another digest
    hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q8_0.gguf")
    registry = ModelRegistry()
    registry.add("mine", [f"file:{gguf(machine / 'mine.gguf')}"], quantization="Q8_0")
    found = {row.name: row for row in ModelStore().verify()}
    assert {name: row.right for name, row in found.items()} == {"smollm2:135m": False, "qwen3:4b-Q8_0": True, "mine": None}
    assert found["mine"].sha256 == hashlib.sha256(b"GGUFtensors").hexdigest()


def test_what_the_hub_said_of_a_file_is_compared() -> None:
    path = hub_file("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q8_0.gguf")
    digest = path.resolve().name
    assert [(row.right, row.expected) for row in ModelStore().verify("qwen3:4b-Q8_0")] == [(True, digest)]
    path.resolve().write_bytes(b"GGUFdamaged")
    assert [(row.right, row.expected) for row in ModelStore().verify("qwen3:4b-Q8_0")] == [(False, digest)]


def test_what_was_noted_is_compared_the_next_time(machine: Path) -> None:
    file = gguf(machine / "mine.gguf")
    ModelRegistry().add("mine", [f"file:{file}"], quantization="Q8_0")
    assert [row.right for _ in range(2) for row in ModelStore().verify("mine")] == [None, True]
    file.write_bytes(b"GGUFanother")
    assert [row.right for row in ModelStore().verify("mine")] == [False]


# importing --------------------------------------------------------------------------------------------------------------------------

def test_an_imported_file_is_linked_and_not_copied(machine: Path) -> None:
    file = gguf(machine / "elsewhere" / "my-Q8_0.gguf")
    model = ModelStore().add(file, "mine:7b")
    assert (model.name, model.place, model.quantization, model.size) == ("mine:7b", "gollama", "Q8_0", 11)
    assert model.path.samefile(file) and model.path != file and ModelRegistry().resolve("mine") == model.path
    assert ModelStore().remove("mine:7b").freed == 0
    assert file.exists() and "mine:7b" not in ModelRegistry().own


def test_a_file_imported_by_reference_stays_where_it_is(machine: Path) -> None:
    file = gguf(machine / "elsewhere" / "my-Q8_0.gguf")
    model = ModelStore().add(file, "mine", how="reference")
    assert (model.path, model.place) == (file, "elsewhere")
    ModelStore().prune(older_than=0, max_size=0)
    ModelStore().remove("mine")
    assert file.exists() and "mine" not in ModelRegistry().own


def test_each_name_of_a_file_that_lies_elsewhere_is_listed_and_goes_alone(machine: Path) -> None:
    file = gguf(machine / "elsewhere" / "my-Q8_0.gguf")
    for name in ("mine:7b", "mine:copy"):
        assert ModelStore().add(file, name, how="reference").name == name
    assert [model.name for model in ModelStore()] == ["mine:7b", "mine:copy"]
    ModelStore().remove("mine:copy")
    assert list(ModelRegistry().own) == ["mine:7b"]


def test_where_links_cannot_be_the_path_is_noted(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    file = gguf(machine / "elsewhere" / "my-Q8_0.gguf")
    assert ModelStore().add(file, "mine").path == file
    with pytest.raises(StoreError, match="Invalid cross-device link.*`--reference` notes where it lies"):
        ModelStore().add(file, "other", how="link")
    assert not list((machine / "home" / "models").rglob("*.gguf"))


def test_all_parts_of_a_split_model_are_imported(machine: Path) -> None:
    parts = [gguf(machine / f"big-0000{number}-of-00002.gguf") for number in (1, 2)]
    model = ModelStore().add(parts[0], "big")
    assert [file.name for file in model.files] == [part.name for part in parts]
    parts[1].unlink()
    with pytest.raises(ModelNotFoundError, match="00002-of-00002"):
        ModelStore().add(parts[0], "again")


def test_a_name_that_is_taken_is_replaced_only_if_asked(machine: Path) -> None:
    ModelStore().add(gguf(machine / "one-Q8_0.gguf", b"one"), "mine")
    with pytest.raises(RegistryError, match="'mine' is a name of yours already"):
        ModelStore().add(gguf(machine / "two-Q8_0.gguf", b"two"), "mine")
    assert ModelStore().add(machine / "two-Q8_0.gguf", "mine", replace=True).path.read_bytes() == b"GGUFtwo"
    with pytest.raises(RegistryError, match="this very file"):
        ModelStore().add(machine / "two-Q8_0.gguf", "mine", replace=True)
    assert [path.name for path in (machine / "home" / "models").rglob("*.gguf")] == ["two-Q8_0.gguf"]


def test_another_tools_model_gets_a_name_that_survives_it(machine: Path) -> None:
    blob = ollama_model(machine / "user" / ".ollama" / "models", "library", "llama3.2", "1b")
    model = ModelStore().add(ModelStore().find("ollama:llama3.2:1b").path, "mine")
    blob.unlink()
    assert ModelRegistry().resolve("mine").read_bytes() == b"GGUFtensors" and model.place == "gollama"


def test_a_pinned_model_that_is_damaged_can_be_removed() -> None:
    path = fetched("smollm2")
    ModelRegistry().pin("smollm2")
    path.write_bytes(b"GGUFdamaged")
    assert ModelStore().remove("smollm2").models[0].path == path and not path.exists()


def test_a_full_disk_leaves_nothing_of_a_copy(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = gguf(machine / "elsewhere" / "my-Q8_0.gguf")

    def full(source: object, output: object, length: int = 0) -> None:
        output.write(b"GGUF")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StoreError, match="No space left on device"):
        ModelStore().add(file, "mine", how="copy")
    assert not [path for path in (machine / "home").rglob("*") if path.is_file()] and not (machine / "config" / "registry.json").exists()


@pytest.mark.parametrize(("name", "kind"), [("smollm2:135m", RegistryError), ("../x", OptionError), ("a/b", OptionError),
                                          ("hf:a/b", OptionError)])
def test_a_name_that_cannot_be_leaves_nothing_behind(machine: Path, name: str, kind: type[Exception]) -> None:
    file = gguf(machine / "elsewhere" / "my-Q8_0.gguf")
    with pytest.raises(kind):
        ModelStore().add(file, name)
    assert not [path for path in (machine / "home").rglob("*") if path.is_file()] and list(ModelStore()) == []


def test_only_gguf_files_are_imported(machine: Path) -> None:
    (machine / "x.gguf").write_bytes(b"PK\3\4")
    with pytest.raises(InvalidModelError, match="not in GGUF format"):
        ModelStore().add(machine / "x.gguf", "mine")
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        ModelStore().add(machine / "none.gguf", "mine")


def test_nothing_is_imported_through_a_link_out_of_the_store(machine: Path) -> None:
    (machine / "outside").mkdir()
    (machine / "home" / "models").mkdir()
    (machine / "home" / "models" / "imported").symlink_to(machine / "outside")
    with pytest.raises(StoreError, match="leads out of the store"):
        ModelStore().add(gguf(machine / "my.gguf"), "mine")
    assert not list((machine / "outside").rglob("*.gguf"))


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 60)), max_size=6), st.integers(0, 400))
def test_pruning_keeps_the_most_recently_used_that_fit(models: list[tuple[int, int]], most: int) -> None:
    class Fake:
        class registry:
            pins: dict[str, object] = {}

        def __iter__(self) -> object:
            return iter(there)

    there = [StoredModel(str(number), "gollama", (Path("x"),), size, None, time.time() - days * DAY - number, None)
             for number, (size, days) in enumerate(models)]
    gone = deleting.chosen(Fake(), None, most)  # type: ignore[arg-type]
    left = [model for model in there if model not in gone]
    assert sum(model.size for model in left) <= most
    assert not gone or sum(model.size for model in left) + gone[-1].size > most
    assert all(model.used <= other.used for model in gone for other in left)  # type: ignore[operator]


def test_a_record_is_of_its_own_file_only(machine: Path) -> None:
    file, other = gguf(machine / "a.gguf"), gguf(machine / "b.gguf")
    records.touch(LocalModel(FileSource(str(file)), (file,)))
    record = records.read(file)
    assert record is not None and record.path == file
    records._file(file).rename(records._file(other))
    assert records.read(file) is None and records.read(other) is None
