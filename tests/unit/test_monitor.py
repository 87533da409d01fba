"""Samples of devices, from a recorded folder of the kernel's and from none."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from gollama import Device, DeviceMonitor, DeviceUse, devices


def card(folder: Path, address: str, used: int, busy: int) -> Device:
    """A device whose driver tells its use by files, as amdgpu does."""
    files = folder / address
    files.mkdir()
    for name, value in {"mem_info_vram_used": used, "mem_info_vram_total": 8 << 30, "gpu_busy_percent": busy}.items():
        (files / name).write_text(f"{value}\n")
    return Device(f"Vulkan{address[-1]}", "AMD Radeon RX 6600", "vulkan", "gpu", address, 0, 0)


def test_amdgpu_tells_memory_and_use(tmp_path: Path) -> None:
    first, second = card(tmp_path, "0000:03:00.0", 1 << 30, 50), card(tmp_path, "0000:04:00.1", 2 << 30, 0)
    with DeviceMonitor([first, second], interval=0.01, pci=tmp_path) as monitor:
        (tmp_path / "0000:03:00.0" / "mem_info_vram_used").write_text(f"{3 << 30}\n")
        while len(monitor.samples("Vulkan0")) < 4:
            time.sleep(0.01)
    samples = monitor.samples("Vulkan0")
    assert samples[0].memory_used == 1 << 30 and samples[-1].memory_used == 3 << 30 == monitor.peak_memory("Vulkan0")
    assert all(a.time < b.time for a, b in itertools.pairwise(samples)) and samples[0].memory_total == 8 << 30
    assert monitor.mean_utilization("Vulkan0") == 0.5 and monitor.mean_utilization("Vulkan1") == 0
    assert [sample.device for sample in monitor.latest()] == ["Vulkan0", "Vulkan1"]
    count = len(monitor.samples("Vulkan0"))
    monitor.close()
    assert len(monitor.samples("Vulkan0")) == count  # it has ended


def test_a_driver_that_does_not_answer_now_and_then_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = card(tmp_path, "0000:03:00.0", 1 << 30, 50), card(tmp_path, "0000:04:00.1", 2 << 30, 0)
    busy = tmp_path / "0000:03:00.0" / "gpu_busy_percent"

    def wait_for_samples(monitor: DeviceMonitor, device: str) -> None:
        count = len(monitor.samples(device))
        while len(monitor.samples(device)) < count + 3:
            time.sleep(0.01)

    with DeviceMonitor([first, second], interval=0.01, pci=tmp_path) as monitor:
        for _ in range(2):
            busy.unlink()
            wait_for_samples(monitor, "Vulkan1")
            busy.write_text("70\n")
            wait_for_samples(monitor, "Vulkan0")
        busy.unlink()
    assert monitor.samples("Vulkan0")[-1].utilization == 0.7
    assert "Vulkan0" in caplog.text and caplog.text.count("\n") == 1  # told once


def test_a_device_that_is_gone_at_the_beginning_is_an_error(tmp_path: Path) -> None:
    monitor = DeviceMonitor([card(tmp_path, "0000:03:00.0", 1 << 30, 50)], pci=tmp_path)
    (tmp_path / "0000:03:00.0" / "gpu_busy_percent").unlink()
    with pytest.raises(OSError), monitor:
        pass


def test_use_since_a_time_leaves_out_what_was_before(tmp_path: Path) -> None:
    device = card(tmp_path, "0000:03:00.0", 3 << 30, 80)
    with DeviceMonitor([device], interval=0.01, pci=tmp_path) as monitor:
        (tmp_path / "0000:03:00.0" / "mem_info_vram_used").write_text(f"{1 << 30}\n")
        (tmp_path / "0000:03:00.0" / "gpu_busy_percent").write_text("20\n")
        while len(monitor.samples("Vulkan0")) < 4:
            time.sleep(0.01)
        start = monitor.samples("Vulkan0")[3].time
        assert monitor.use_since("Vulkan0", start) == DeviceUse("Vulkan0", 1 << 30, 0.2)
        assert monitor.use_since("Vulkan0", 0).peak_memory == 3 << 30
        assert monitor.use_since("Vulkan0", time.perf_counter() + 60).peak_memory == 1 << 30  # the last one known


def test_a_device_without_such_files_has_memory_and_no_use(tmp_path: Path) -> None:
    cpu = devices()[-1]
    with DeviceMonitor([cpu], pci=tmp_path) as monitor:
        (sample,) = monitor.latest()
    assert 0 <= sample.memory_used <= sample.memory_total and sample.utilization is None and monitor.mean_utilization("CPU") is None


def test_an_nvidia_driver_that_is_not_here_is_no_error(tmp_path: Path) -> None:
    cpu = devices()[-1]
    named = Device("CPU", "NVIDIA", "cuda", "gpu", "0000:01:00.0", 0, 0)
    with DeviceMonitor([named], pci=tmp_path) as monitor:
        assert monitor.latest()[0].memory_total == cpu.memory_total


@pytest.mark.parametrize("interval", [0, -1])
def test_an_interval_is_a_time(interval: float) -> None:
    with pytest.raises(ValueError, match="interval must be a number of seconds greater than 0"):
        DeviceMonitor([], interval=interval)
