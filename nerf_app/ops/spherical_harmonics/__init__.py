"""Real spherical harmonics of a direction: all 16 of the bands 0 to 3 (tinycudann's "degree 4"), in its order and signs.

    spherical_harmonics(directions) -> values

        directions  [N, 3], unit length (tinycudann is given (direction + 1)/2)
        values      [N, 16], orthonormal over the sphere

Each value is a polynomial in x, y, z, and its gradient is that polynomial's, also off the sphere. Band l has 2l + 1 values;
those with sin(mφ) come before those with cos(mφ), and odd m carries the sign (-1)^m of Condon and Shortley.
"""

from importlib import import_module

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
}
