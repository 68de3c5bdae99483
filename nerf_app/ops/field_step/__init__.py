"""What rays show of a hash-grid field, from their samples on: encoding, both nets and compositing in one.

    see(origins, directions, samples, space, field, least_light=0) -> sums, weights

        origins, directions  [R, 3] scene units, unit vectors
        samples              packed intervals: t_starts, t_ends [S], ray_indices [S], ray_starts, ray_counts [R]
        space                whether the scene's cube is all there is; see ops/march
        field                a `HashGridNets`
        least_light          where nothing flows back, a ray may be left when less of its light is left than that
        sums                 [R, C + 2] the field's channels (red, green, blue), opacity, distance · opacity
        weights              [S] how much each sample adds to its ray

The same as these ops one after the other: positions of the samples' middles -> hashgrid.encode -> mlp (density net) ->
ClampedExp of the first output -> composite.render_weights; where a weight is above SEEN, the density net's outputs and
the direction's spherical harmonics -> mlp (colour net) -> sigmoid of the first C; composite.accumulate.

Differentiable in the field's parameters alone: where a position, a direction or an interval needs a gradient, use the ops.
A field that this does not describe uses them as well, so nothing is possible here only.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from torch import Tensor

from nerf_app.ops.hashgrid.levels import Level

SEEN = 1e-5  # a sample that adds less than this to its ray is not asked for its colour
DIM = 1 / 510  # half a step of eight bits: `least_light` of a picture without depths

IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
    "tcnn": lambda: import_module(f"{__name__}.tcnn"),
}


@dataclass(frozen=True)
class HashGridNets:
    """The parameters of a field with a hash grid, a density net and a colour net, all without biases."""

    table: Tensor  # [E, F]
    levels: tuple[Level, ...]
    density: tuple[Tensor, ...]  # matrices in order, [out, in]
    colour: tuple[Tensor, ...]  # the same; the first one takes the density net's outputs, then 16 harmonics
    is_view_dependent: bool  # else the harmonics are zeros
    channels: int = 3  # of the colour net's outputs: how many a ray sums up


class Samples(Protocol):
    """What is needed of sampling/samples.py."""

    t_starts: Tensor
    t_ends: Tensor
    ray_indices: Tensor
    ray_starts: Tensor
    ray_counts: Tensor
