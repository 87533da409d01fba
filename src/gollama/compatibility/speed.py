"""How fast a model will generate, told from the memory it reads.

One generation reads every active weight and the context from memory for each token, and that is what takes the time (Pope et al.,
"Efficiently Scaling Transformer Inference", 2022, section 2):

    tokens a second = EFFICIENCY / sum over devices of (active weights + half of the context) / bandwidth of the device

A mixture's active weights are the experts used of those there are; of the embeddings only a row is read, unless they are the output's
too. Half of the context, since it fills up. The CPU's bandwidth is measured, an NVIDIA device's computed from its clock and bus; where one
is not known, neither is the speed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gollama._threads import usable_cores
from gollama.backends import Device, DeviceMemory, Estimate
from gollama.backends.estimating import HOST
from gollama.gguf import GGUFFile
from gollama.monitor import memory_bandwidth

EFFICIENCY = 0.5  # of the bandwidth, by decoding; measured: docs/gguf.md says with what
# silent reading is 238 words a minute (Brysbaert, 2019), at 4 tokens for 3 words
READING = 5.3
SLOWEST = 1.0
BUFFER = 256 * 2**20  # bytes; more than the caches hold
REPEATS = 3
ROW_TENSORS = ("token_embd.weight", "per_layer_token_embd.weight")  # of which a row is read for each token


@dataclass(frozen=True)
class Speed:
    """How fast one generation will be, about."""

    kind: str  # "fluent": as fast as people read; "slow": a token a second or more; "very slow"; "unknown"
    tokens_per_second: float | None
    bytes_per_token: int  # that are read from memory
    bandwidth: Mapping[str, float | None]  # bytes a second, by device; None: not known


def speed(estimate: Estimate, files: Sequence[GGUFFile], bandwidth: Mapping[str, float | None]) -> Speed:
    """By the formula above. `files`: the model's headers, of all its parts."""
    share = active_share(files)
    read = {row.device: row.weights * share + row.context / max(estimate.sequences, 1) / 2 for row in estimate.devices}
    used = {device: bandwidth.get(device) for device, amount in read.items() if amount}
    rate = None
    if used and all(used.values()):
        rate = EFFICIENCY / sum(amount / (bandwidth[device] or 1) for device, amount in read.items() if amount)
    return Speed(kind_of(rate), rate, round(sum(read.values())), used)


def kind_of(rate: float | None) -> str:
    if rate is None:
        return "unknown"
    return "fluent" if rate >= READING else "slow" if rate >= SLOWEST else "very slow"


def active_share(files: Sequence[GGUFFile]) -> float:
    """What of the weights is read for a token, 0 to 1."""
    tensors = [tensor for file in files for tensor in file.tensors]
    whole = sum(tensor.size for tensor in tensors)
    if not whole:
        return 1.0
    experts, used = files[0].fact("expert_count", 0), files[0].fact("expert_used_count", 0)
    part = used / experts if 0 < used < experts else 1.0
    has_output = any(tensor.name == "output.weight" for tensor in tensors)
    active = 0.0
    for tensor in tensors:
        if tensor.name in ROW_TENSORS and (has_output or tensor.name != ROW_TENSORS[0]):
            continue
        active += tensor.size * (part if "_exps." in tensor.name else 1.0)
    return active / whole


def bandwidths(rows: Sequence[DeviceMemory], devices: Sequence[Device]) -> dict[str, float | None]:
    """Bytes a second, of the devices in an estimate."""
    known: dict[str, Callable[[], float | None]] = {HOST: host_bandwidth}
    known.update({device.name: functools.partial(memory_bandwidth, device) for device in devices if device.kind == "gpu"})
    known.update({device.name: host_bandwidth for device in devices if device.kind == "igpu"})  # which shares the host's memory
    return {row.device: known[row.device]() if row.device in known else None for row in rows if row.needed}


@functools.cache
def host_bandwidth() -> float:
    """How fast the cores that this process may use read memory, in bytes a second. Takes 256 MiB and a fraction of a second, once."""
    import numpy

    cores = usable_cores()
    parts = numpy.array_split(numpy.ones(BUFFER // 8, dtype=numpy.int64), cores)
    with ThreadPoolExecutor(cores) as pool:
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            list(pool.map(numpy.sum, parts))
            times.append(time.perf_counter() - start)
    return BUFFER / min(times)
