"""The memory of where something is: what was seen fades, what is seen again counts at once.

    refresh(density_grid, cell_indices, densities, decay=0.95) -> None

        density_grid  [G, G, G] float32, z y x, contiguous; changed: all of it times `decay`, then
        cell_indices  [M] int64, flat: these cells take the largest of what they have and
        densities     [M] what was found there; a cell may occur more than once
"""

from importlib import import_module

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
}
