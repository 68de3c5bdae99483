"""The memory of where something is: what was seen fades, what is seen again counts at once.

    refresh(density_grid, cell_indices, densities, decay=0.95) -> None
    mark(density_grid, cap) -> occupied

        density_grid  [G, G, G] float32, z y x, contiguous; changed: all of it times `decay`, then
        cell_indices  [M] int64, flat: these cells take the largest of what they have and
        densities     [M] what was found there; a cell may occur more than once
        cap           a cell with more than this is occupied, or with more than half the mean of all known cells, if that is less
        occupied      [G, G, G] bool; a negative value is unknown and counts as occupied
"""

from importlib import import_module

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
}
