"""What this machine is, as far as choosing a wheel needs it: system, C library, GPUs and their drivers. Loads no driver.

Knows nothing of models, and nothing of what is installed in Python.
"""

from gollama.machine.facts import Gpu, Machine
from gollama.machine.inspecting import inspect
from gollama.machine.recommending import Recommendation, WheelRow, recommend
from gollama.machine.sources import Source, System

__all__ = ["Gpu", "Machine", "Recommendation", "Source", "System", "WheelRow", "inspect", "recommend"]
