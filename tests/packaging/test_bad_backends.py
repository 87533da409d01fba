"""Backend wheels that are broken, foreign or hostile: one specific reason, and the CPU goes on. Each program is a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import gollama
from gollama import LoadOptions, OptionError, _native
from tests.support.backend_wheels import run_python

LIBRARY = Path(gollama.__file__).parent / "lib" / "libggml-base.so"
LOOK = """
import json, logging, gollama
from gollama import backends
logging.disable()
found = {one.distribution: backends.probe(one).problem for one in backends.installed()}
with gollama.LLM(MODEL, context_size=64, threads=1) as llm:
    text = llm.generate([3, 4], max_tokens=1).text
try:
    gollama.LLM(MODEL, backend="cuda", context_size=64).close()
    error = None
except gollama.BackendError as told:
    error = str(told)
print(json.dumps({"found": found, "devices": [device.name for device in gollama.devices()], "note": llm.devices[-1].note, "error": error}))
"""


def backend(folder: Path, name: str = "cuda12", *, library: Path | bytes = LIBRARY, door: str | None = None, **changes: Any) -> Path:
    """What pip would have installed for a wheel with this module; the manifest's fields as given."""
    package = folder / f"gollama_{name}"
    (package / "lib").mkdir(parents=True)
    module = package / "lib" / "libggml-cuda.so"
    module.write_bytes(library if isinstance(library, bytes) else library.read_bytes())
    manifest = {"distribution": f"gollama-{name}", "version": gollama.__version__, "backend": "cuda", "preload": [], "requires": [],
                "llama_cpp": _native.build()["llama_cpp"], "modules": {module.name: hashlib.sha256(module.read_bytes()).hexdigest()}}
    (package / "backend.json").write_text(json.dumps({**manifest, **changes}))
    (package / "__init__.py").write_text(door or "from pathlib import Path\nFOLDER = Path(__file__).parent\n")
    about = folder / f"gollama_{name}-{gollama.__version__}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gollama-{name}\nVersion: {gollama.__version__}\n")
    (about / "entry_points.txt").write_text(f"[gollama.backends]\n{name} = gollama_{name}:FOLDER\n")
    return folder


def look(model: Path, home: Path, *paths: Path, **variables: str) -> Any:
    return run_python(f"MODEL = {str(model)!r}\n{LOOK}", *paths, home=home, **variables)


@pytest.mark.parametrize(("case", "words"), [
    ({"door": "raise RuntimeError('not today')"}, "cannot be read (RuntimeError: not today): install it anew"),
    ({"door": "raise SystemExit(3)"}, "cannot be read (SystemExit: 3)"),
    ({"door": "FOLDER = 7"}, "cannot be read (TypeError"),
    ({"door": "FOLDER = '/nowhere'"}, "cannot be read (FileNotFoundError"),
    ({"modules": {"../../evil.so": "0"}}, "something else than names"),
    ({"modules": 5}, "cannot be read"),
    ({"modules": {"libggml-other.so": "0"}}, "libggml-other.so is missing: install it anew"),
    ({"modules": {"libggml-cuda.so": "0" * 64}}, "install it anew"),
    ({"llama_cpp": {"release": "v0.1.0"}}, f"of llama.cpp v0.1.0 and the core of {_native.build()['llama_cpp']['release']}"),
    ({"library": b"\x7fELF" + bytes(2000)}, "libggml-cuda.so"),
    ({"library": LIBRARY.read_bytes()[:5000]}, "the process that tried it was killed by signal"),  # it ends before what its head promises
    ({"library": b"MZ" + bytes(500)}, "libggml-cuda.so"),
    ({"library": LIBRARY}, "libggml-cuda.so"),  # a library, and no backend
], ids=lambda value: str(value)[:40] if isinstance(value, str) else "")
def test_a_bad_backend_is_told_and_the_cpu_goes_on(case: dict[str, Any], words: str, tiny_path: Path, tmp_path: Path) -> None:
    found = look(tiny_path, tmp_path / "home", backend(tmp_path / "path", **case))
    assert words in found["found"]["gollama-cuda12"]
    assert found["devices"] == ["CPU"] and "gollama-cuda12" in found["error"] and words in found["error"]


def test_a_module_that_ends_the_process_ends_a_child_only(tiny_path: Path, tmp_path: Path) -> None:
    source, library = tmp_path / "crash.c", tmp_path / "libcrash.so"
    source.write_text("#include <stdlib.h>\n__attribute__((constructor)) static void start(void) { abort(); }\n")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    assert os.system(f"{compiler} -shared -fPIC -o {library} {source}") == 0
    found = look(tiny_path, tmp_path / "home", backend(tmp_path / "path", library=library))
    assert "the process that tried it was killed by signal 6" in found["found"]["gollama-cuda12"] and found["devices"] == ["CPU"]


def test_the_doctor_tries_anew_what_has_failed(tiny_path: Path, tmp_path: Path) -> None:
    source, library, ill = tmp_path / "crash.c", tmp_path / "libcrash.so", tmp_path / "ill"
    source.write_text("#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void start(void) "
                      f'{{ if (!access("{ill}", F_OK)) abort(); }}\n')
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    assert os.system(f"{compiler} -shared -fPIC -o {library} {source}") == 0
    path, home = backend(tmp_path / "path", library=library), tmp_path / "home"
    ill.touch()
    assert "killed by signal 6" in look(tiny_path, home, path)["found"]["gollama-cuda12"]
    ill.unlink()
    assert "killed by signal 6" in look(tiny_path, home, path)["found"]["gollama-cuda12"]  # is kept
    code = "import json; from gollama.doctor import report; print(json.dumps([one['problem'] for one in report()['backends']]))"
    told, = run_python(code, path, home=home)
    assert "failed to find ggml_backend_init" in told and look(tiny_path, home, path)["found"]["gollama-cuda12"] == told


def test_a_module_that_never_answers_is_given_up(tiny_path: Path, tmp_path: Path) -> None:
    source, library = tmp_path / "hang.c", tmp_path / "libhang.so"
    source.write_text("#include <unistd.h>\n__attribute__((constructor)) static void start(void) { for (;;) pause(); }\n")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    assert os.system(f"{compiler} -shared -fPIC -o {library} {source}") == 0
    code = f"from gollama.backends import probing; probing.TIMEOUT = 1.0; MODEL = {str(tiny_path)!r}\n{LOOK}"
    found = run_python(code, backend(tmp_path / "path", library=library), home=tmp_path / "home")
    assert "its driver did not answer within 1 seconds" in found["found"]["gollama-cuda12"] and found["devices"] == ["CPU"]


@pytest.mark.parametrize("tried", [True, False])  # a program that cannot start itself does not try it in a child
def test_a_vendor_library_that_is_gone_is_told(tried: bool, tiny_path: Path, tmp_path: Path) -> None:
    path = backend(tmp_path / "path", preload=["libvendor.so"], requires=["vendor-runtime>=1"])
    about = path / "vendor_runtime-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor-runtime\nVersion: 1.0\n")
    (about / "RECORD").write_text("vendor/lib/libvendor.so,,\n")
    code = f"import sys; sys.frozen = {not tried}; MODEL = {str(tiny_path)!r}\n{LOOK}"
    found = run_python(code, path, home=tmp_path / "home")
    assert found["devices"] == ["CPU"] and "libvendor.so" in found["error"]
    assert not tried or "libvendor.so" in found["found"]["gollama-cuda12"]


def test_the_child_imports_nothing_from_where_the_program_runs(tiny_path: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "json.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    start = f"import os, sys; sys.path.remove(''); os.chdir({str(here)!r}); MODEL = {str(tiny_path)!r}"
    code = "import json, gollama\n" + start + LOOK
    found = run_python(code, backend(tmp_path / "path", library=LIBRARY), home=tmp_path / "home")
    assert "failed to find ggml_backend_init" in found["found"]["gollama-cuda12"] and not (here / "ran").exists()


def test_what_was_passed_over_is_logged_once(tiny_path: Path, tmp_path: Path) -> None:
    code = f"""
import json, logging, gollama
told = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: told.append(record.getMessage())
logging.getLogger("gollama").addHandler(handler)
for _ in range(2):
    with gollama.LLM({str(tiny_path)!r}, context_size=64, threads=1) as llm:
        note = llm.devices[-1].note
print(json.dumps([told, note]))
"""
    told, note = run_python(code, backend(tmp_path / "path", library=b"MZ"), home=tmp_path / "home")
    passed_over = [text for text in told if "gollama-cuda12" in text]
    assert len(passed_over) == 1 and passed_over[0].endswith("Computing on the CPU") and note and note in passed_over[0]


def test_two_for_the_same_hardware_are_both_told(tiny_path: Path, tmp_path: Path) -> None:
    folder = backend(backend(tmp_path / "path", "cuda12", library=b"MZ"), "cuda13", library=b"MZ")
    found = look(tiny_path, tmp_path / "home", folder)
    assert list(found["found"]) == ["gollama-cuda13", "gollama-cuda12"]
    assert all(name in found["error"] for name in found["found"])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe garbage", b"[1, 2]", b"{" * 100_000, b'{"x": 5}'])
def test_a_cache_that_cannot_be_read_is_made_anew(content: bytes, tiny_path: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "backends.json").write_bytes(content)
    found = look(tiny_path, home, backend(tmp_path / "path", library=b"MZ"))
    assert found["found"]["gollama-cuda12"] and json.loads((home / "backends.json").read_text())


def test_a_cache_that_cannot_be_written_is_done_without(tiny_path: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file where the folder should be")
    assert look(tiny_path, home, backend(tmp_path / "path", library=b"MZ"))["devices"] == ["CPU"]


def test_a_cache_that_cannot_take_its_place_leaves_nothing(tiny_path: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "backends.json").mkdir(parents=True)
    assert look(tiny_path, home, backend(tmp_path / "path", library=b"MZ"))["devices"] == ["CPU"]
    assert [file.name for file in home.iterdir()] == ["backends.json"]


def test_a_backend_that_is_not_installed_says_how_to_get_it(tiny_path: Path, tmp_path: Path) -> None:
    error = look(tiny_path, tmp_path)["error"]
    assert "`pip install gollama-cuda12` or `pip install gollama-cuda13`" in error


@pytest.mark.parametrize(("options", "words"), [
    ({"backend": "cuda12"}, "backend"), ({"gpu_memory": -1}, "gpu_memory"), ({"gpu_memory": [1, -2]}, "gpu_memory"),
    ({"devices": [-1]}, "devices"), ({"devices": []}, "devices"), ({"devices": [1.5]}, "devices"), ({"gpu_layers": -2}, "gpu_layers"),
    ({"gpu_layers": "most"}, "gpu_layers"), ({"tensor_split": [0, 0]}, "tensor_split"), ({"tensor_split": [-1]}, "tensor_split"),
    ({"main_gpu": -1}, "main_gpu"), ({"tensor_overrides": {"(": "CPU"}}, "tensor_overrides"), ({"split_mode": "rows"}, "split_mode"),
])
def test_an_option_that_cannot_be_meant_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        LoadOptions(**options)
