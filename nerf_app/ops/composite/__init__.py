"""From densities of samples to what a ray shows (NeRF, Eq. 3).

    render_weights(density, t_starts, t_ends, ray_indices, n_rays) -> weights
    accumulate(weights, values, ray_indices, n_rays) -> sums
    distance_of_light(weights, t_starts, t_ends, ray_indices, n_rays, part) -> t
    distortion(weights, s_starts, s_ends, ray_indices, n_rays) -> spread

        density           [S] per scene unit, >= 0
        t_starts, t_ends  [S] scene units along the ray
        ray_indices       [S] int64, sorted, near to far on each ray; n_rays marks unused entries at the end
        weights           [S]: how much each sample adds to its ray, at most 1 in sum over a ray
        values            [S, C] -> sums [R, C]: colour, opacity (values of 1), mean distance and normals
        part              above 0, below 1
        t                 [R] scene units: where this part of the light is stopped, NaN on rays whose opacity is less
        s_starts, s_ends  [S] places on the ray by any measure that rises along it
        spread            [R] how far a ray's weights are from lying in one place (mip-NeRF 360, Eq. 15)

`render_weights` and `accumulate` are differentiable in everything but `ray_indices`, `distortion` in the weights;
`distance_of_light` is not. What lies in the dark (less than 1e-4 of the light reaches it) has neither weight nor gradient, so
that nobody need ask what is there. A ray without samples has no weights, sums of 0, no spread and a distance of NaN. All ignore
unused entries, whose numbers need only be finite.
"""

from importlib import import_module

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
    "nerfacc": lambda: import_module(f"{__name__}.nerfacc"),
}
