"""Multiresolution hash grid (Müller et al. 2022), tinycudann's function to the letter.

    encode(x, table, levels) -> features
    encode_with_jacobian(x, table, levels) -> features, jacobian
    pull_back(x, d_features, table, levels) -> d_x

        x         [N, d] in [0, 1], d = 2 or 3
        table     [E, F], the entries of all levels one after the other, and perhaps of finer ones that are not asked
        levels    L of them, from level_table
        features  [N, L·F], level by level
        jacobian  [N, L·F, d], features differentiated by x
        d_x       [N, d], a gradient d_features [N, L·F] times the jacobian, which nobody needs to write down for it

On each level, position = fma(scale, x, 0.5) lies in the cell floor(position), and the features of the cell's 2^d corners
are blended linearly in each axis. A corner (x, y, z) has row x + res·(y + res·z) on a dense level, else
x ^ y·2654435761 ^ z·805459861 in 32 bits without sign, both modulo the level's entries: near x = 1 a corner's coordinate
is `res`, one more than there are, and wraps.

All outputs are differentiable in the table and in x, but d_x, which is in the table and d_features. The features are
continuous, their derivative by x jumps at the borders of cells, where it is that of the cell above; the Jacobian's own
derivative by x is that inside a cell.
"""

from importlib import import_module

from nerf_app.ops.hashgrid.levels import Level, level_table

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
    "tcnn": lambda: import_module(f"{__name__}.tcnn"),
}

__all__ = ["IMPLEMENTATIONS", "Level", "level_table"]
