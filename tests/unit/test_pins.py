"""wheels.toml and its reader."""

from __future__ import annotations

import base64

import pytest

from tools import pins


def test_every_target_has_a_package_of_one_version_with_a_sha512() -> None:
    natives = pins.load().natives
    assert len(natives) == 13
    assert len({package.version for package in natives.values()}) == 1
    for package in [*natives.values(), pins.load().source]:
        assert len(base64.b64decode(package.sha512)) == 64


def test_every_core_platform_has_a_wheel() -> None:
    platforms = {(wheel.system, wheel.machine) for wheel in pins.load().wheels if wheel.distribution == "gollama-cpu"}
    assert platforms == {("linux", "x86_64"), ("linux", "aarch64"), ("linux", "armv7l"), ("windows", "amd64"), ("windows", "arm64"),
                         ("macos", "arm64"), ("macos", "x86_64")}


def test_every_native_package_feeds_a_wheel() -> None:
    assert {wheel.native for wheel in pins.load().wheels} == set(pins.load().natives)


def test_a_platform_without_natives_is_told_which_there_are() -> None:
    with pytest.raises(pins.PinsError, match=r"no native libraries for plan9 mips; .*linux x86_64"):
        pins.load().core_wheel("plan9", "mips")


@pytest.mark.parametrize(("old", "new", "message"), [
    ('native = "linux-x64"', 'native = "linux-z80"', "unknown native package 'linux-z80'"),
    ('megabytes = 36\n', "", "'source' lacks the key 'megabytes'"),
    ('backend = "cpu"\n', 'colour = "red"\n', "wheel.*colour"),
])
def test_a_wrong_entry_is_named(old: str, new: str, message: str) -> None:
    text = pins.FILE.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(pins.PinsError, match=message):
        pins.parse(text.replace(old, new, 1))


def test_the_manifest_in_the_package_agrees_with_the_pins() -> None:
    from gollama import _native

    assert _native.build()["llama_cpp"]["release"] == pins.load().release
