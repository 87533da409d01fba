"""NVIDIA's generations by PCI number, for machines whose driver does not tell.

The numbers are those of the pci.ids database, the compute capabilities those of NVIDIA's list of GPUs.
"""

from __future__ import annotations

from bisect import bisect_right

# first PCI number of a run of one generation, and its compute capability
GENERATIONS = (
    (0x0000, (1, 0)),
    (0x06C0, (2, 0)),  # Fermi
    (0x0FC0, (3, 0)),  # Kepler
    (0x1040, (2, 1)),  # Fermi
    (0x1180, (3, 0)),  # Kepler
    (0x1200, (2, 1)),  # Fermi
    (0x1280, (3, 5)),  # Kepler
    (0x1340, (5, 0)),  # Maxwell
    (0x13C0, (5, 2)),
    (0x15F0, (6, 0)),  # Pascal
    (0x1600, (5, 2)),  # Maxwell
    (0x1725, (6, 0)),  # Pascal
    (0x1740, (5, 0)),  # Maxwell
    (0x17C0, (5, 2)),
    (0x1B00, (6, 1)),  # Pascal
    (0x1D80, (7, 0)),  # Volta
    (0x1E00, (7, 5)),  # Turing
    (0x2080, (8, 0)),  # Ampere
    (0x2180, (7, 5)),  # Turing
    (0x2200, (8, 6)),  # Ampere
    (0x2300, (9, 0)),  # Hopper
    (0x2400, (8, 6)),  # Ampere
    (0x2600, (8, 9)),  # Ada
    (0x2900, (10, 0)),  # Blackwell
    (0x2B00, (12, 0)),
)


def compute_capability(device: str) -> tuple[int, int] | None:
    """By PCI number; what is newer than the list counts as its newest."""
    try:
        number = int(device, 16)
    except ValueError:
        return None
    return GENERATIONS[bisect_right([first for first, _ in GENERATIONS], number) - 1][1]
