"""Integrated directional encoding (Ref-NeRF, Eq. 8): spherical harmonics of a direction, averaged over a lobe round it.

    encode(directions, spread) -> values

        directions  [N, 3], unit length
        spread      [N] ≥ 0: 1 / κ of a von Mises–Fisher lobe; 0 is the direction alone, a mirror's
        values      [N, WIDTH]

The harmonics Y_lm of the bands l in BANDS for m = 0...l, with the sign (-1)^m of Condon and Shortley and orthonormal over the
sphere: first the real parts of all, band by band, then the imaginary ones. The lobe's mean of a harmonic is A_l(κ) times
that in the middle, with A_l(κ) ≈ exp(-l (l + 1) / 2κ) (Ref-NeRF, Eq. 9): exact for κ → ∞, and never further from it than
0.08 in band 1, 0.04 in band 2 and 0.02 from band 4 on.

Differentiable in both. As of the plain harmonics, each value is a polynomial in x, y, z, and its gradient that
polynomial's, also off the sphere.
"""

from importlib import import_module

BANDS = (1, 2, 4, 8, 16)
WIDTH = 2 * sum(band + 1 for band in BANDS)

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
}
