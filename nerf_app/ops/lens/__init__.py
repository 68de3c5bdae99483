"""Which way a pixel looks through a bent lens: the inverse of bending, which has a formula, by Newton's method.

    straighten(picture, guess, cameras, coefficients, focal_px, valid_radius) -> base, is_found

        picture       [R, 2] where rays meet the picture, in focal lengths from its centre
        guess         [R, 2] base coordinates close to the answer, on its near side
        cameras       [R] int64: whose lens
        coefficients  [13, V] radial 4, denominator 3, tangential 2, prism 4; `bend` of reference.py is the formula
        focal_px      [V, 2]
        valid_radius  [V] base units, may be infinite
        base          [R, 2] 0 where nothing was found
        is_found      [R] bool: bent again it misses by TOLERANCE_PX at most, and lies where the lens is one to one

All in float64, but for `cameras`; nothing has a gradient.
"""

from importlib import import_module

NEWTON_STEPS = 25
TOLERANCE_PX = 1e-10  # what a point may miss by, bent again, when it takes its last step

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
}
