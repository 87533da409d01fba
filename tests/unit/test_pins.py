"""wheels.toml and its reader."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from tools import pins


def test_every_target_has_a_package_of_one_version_with_a_sha512() -> None:
    natives = pins.load().natives
    assert len(natives) == 13
    assert len({package.version for package in natives.values()}) == 1
    for package in [*natives.values(), pins.load().source]:
        assert len(base64.b64decode(package.sha512)) == 64


def test_every_core_platform_has_a_wheel() -> None:
    platforms = {(wheel.system, wheel.machine, wheel.libc) for wheel in pins.load().wheels if wheel.core}
    assert platforms == {*((system, machine, "glibc") for system, machine in (
        ("linux", "x86_64"), ("linux", "aarch64"), ("linux", "armv7l"), ("windows", "amd64"), ("windows", "arm64"),
        ("macos", "arm64"), ("macos", "x86_64"))), ("linux", "x86_64", "musl"), ("linux", "aarch64", "musl")}


def test_every_backend_has_its_wheels() -> None:
    linux, windows, mac = ("linux", "x86_64"), ("windows", "amd64"), ("macos", "arm64")
    found = {(wheel.distribution, wheel.system, wheel.machine) for wheel in pins.load().wheels if not wheel.core}
    assert found == {*((f"gollama-{name}", *platform) for name in ("cuda12", "cuda13", "vulkan") for platform in (linux, windows)),
                     *((f"gollama-{name}", *linux) for name in ("hip", "sycl", "opencl")), ("gollama-metal", *mac)}


def test_every_backend_is_an_extra_of_the_core() -> None:
    requirements = [Requirement(text) for text in importlib.metadata.requires(pins.CORE) or ()]
    for distribution in {wheel.distribution for wheel in pins.load().wheels if not wheel.core}:
        extra = {"extra": distribution.removeprefix("gollama-")}
        assert [one.name for one in requirements if one.marker and one.marker.evaluate(extra) and not one.marker.evaluate({"extra": ""})] \
            == [distribution]


def test_the_matrix_has_a_job_for_each_wheel_of_each_row() -> None:
    run = subprocess.run([sys.executable, "-m", "tools.pins", "matrix"], capture_output=True, text=True, check=True, cwd=pins.ROOT)
    jobs = json.loads(run.stdout)["include"]
    assert len({job["name"] for job in jobs}) == len(jobs) == sum(len(wheel.python) for wheel in pins.load().wheels)
    assert {"cp310-abi3", "cp314-cp314t", "py3-none"} == {job["python"] for job in jobs}


def test_every_native_package_feeds_a_wheel() -> None:
    assert {wheel.native for wheel in pins.load().wheels if wheel.native} == set(pins.load().natives)


def test_a_platform_without_natives_is_told_which_there_are() -> None:
    with pytest.raises(pins.PinsError, match=r"no native libraries for plan9 mips; .*linux x86_64"):
        pins.load().core_wheel("plan9", "mips")


@pytest.mark.parametrize(("old", "new", "message"), [
    ('native = "linux-x64"', 'native = "linux-z80"', "unknown native package 'linux-z80'"),
    ('megabytes = 36\n', "", "'source' lacks the key 'megabytes'"),
    ('backend = "cpu"\n', 'colour = "red"\n', "wheel.*colour"),
    ('provider = "source"', 'provider = "conda"', "linux x86_64 has the provider 'conda'; there are: prebuilt, source"),
    ('target = "x86_64-linux-gnu.2.28"\n', "", "linux x86_64 lacks what the provider 'source' builds from or with"),
    ('modules = ["libggml-cuda.so"]\n', "", "gollama-cuda12 for linux x86_64 names no modules"),
    ('modules = ["libggml-cuda.so"]', 'modules = "libggml-cuda.so"', "gollama-cuda12 for linux x86_64 has a modules of the wrong kind"),
    ('"nvidia-cublas-cu12>=12.4,<13"', '"nvidia cublas"', "gollama-cuda12 for linux x86_64 is wrong"),
    ('"cp310-abi3"', '"cp310"', "linux x86_64 is wrong"),
    ('tag = "musllinux_1_2_x86_64"', 'tag = "manylinux_2_28_x86_64"', "more than one .* row is gollama-cpu-manylinux_2_28_x86_64"),
])
def test_a_wrong_entry_is_named(old: str, new: str, message: str) -> None:
    text = pins.FILE.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(pins.PinsError, match=message):
        pins.parse(text.replace(old, new, 1))


def test_the_manifest_in_the_package_agrees_with_the_pins() -> None:
    from gollama import _native

    assert _native.build()["llama_cpp"]["release"] == pins.load().release
