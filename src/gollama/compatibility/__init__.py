"""Whether a model suits this machine, told before it is downloaded: memory, disk, speed, and which quantization to take."""

from gollama.compatibility.checking import Compatibility, check, estimate_model
from gollama.compatibility.quantizations import Quantization
from gollama.compatibility.speed import Speed

__all__ = ["Compatibility", "Quantization", "Speed", "check", "estimate_model"]
