"""Which hardware to compute with: the backends that are installed, the devices they bring, where a model goes on them.

Knows nothing of text. A backend is first tried in a child process, and loaded into this one when that lived.
"""

from gollama.backends.choosing import Choice, Device, advice, choose, cpu, devices
from gollama.backends.estimating import DeviceMemory, Estimate, estimate
from gollama.backends.installed import InstalledBackend, installed
from gollama.backends.placement import Placement, compute_fields, context_fields, place
from gollama.backends.probing import Probed, probe

__all__ = [
    "Choice",
    "Device",
    "DeviceMemory",
    "Estimate",
    "InstalledBackend",
    "Placement",
    "Probed",
    "advice",
    "choose",
    "compute_fields",
    "context_fields",
    "cpu",
    "devices",
    "estimate",
    "installed",
    "place",
    "probe",
]
