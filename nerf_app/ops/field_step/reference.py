"""The references of the smaller ops, one after the other."""

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import pad

from nerf_app.ops.composite import reference as composite
from nerf_app.ops.field_step import SEEN, HashGridNets, Samples
from nerf_app.ops.hashgrid import reference as hashgrid
from nerf_app.ops.march import Space
from nerf_app.ops.mlp import reference as dense
from nerf_app.ops.mlp.density import ClampedExp
from nerf_app.ops.spherical_harmonics import reference as harmonics


@dataclass(frozen=True)
class SmallOps:
    """One implementation of each op that a field step is made of."""

    hashgrid: ModuleType
    mlp: ModuleType
    composite: ModuleType
    spherical_harmonics: ModuleType


def see(origins: Tensor, directions: Tensor, samples: Samples, space: Space, field: HashGridNets,
        least_light: float = 0.0) -> tuple[Tensor, Tensor]:
    """[R, C + 2] sums over each ray, [S] weights; see the contract."""
    return see_by(SmallOps(hashgrid, dense, composite, harmonics), origins, directions, samples, space, field)


def see_by(ops: SmallOps, origins: Tensor, directions: Tensor, samples: Samples, space: Space,
           field: HashGridNets) -> tuple[Tensor, Tensor]:
    """The same by any implementation of the small ops."""
    n_rays, rays = len(origins), samples.ray_indices
    origins, directions = pad(origins, (0, 0, 0, 1)), pad(directions, (0, 0, 0, 1))  # the last ones are those of unused entries
    middles = 0.5 * (samples.t_starts + samples.t_ends)
    unit = space.to_unit(origins[rays] + middles[:, None] * directions[rays])  # [S, 3]
    hidden = ops.mlp.mlp(ops.hashgrid.encode(unit, field.table, field.levels), field.density, None)  # [S, 16]
    density = ClampedExp.apply(hidden[:, 0])
    weights = ops.composite.render_weights(density, samples.t_starts, samples.t_ends, samples.ray_indices, n_rays)
    seen = (weights.detach() > SEEN).nonzero()[:, 0]
    seen_from = ops.spherical_harmonics.spherical_harmonics(directions[rays[seen]]) * float(field.is_view_dependent)
    colours = torch.sigmoid(ops.mlp.mlp(torch.cat([hidden[seen], seen_from], 1), field.colour, None)[:, :field.channels])
    rgb = weights.new_zeros(len(weights), field.channels).index_copy(0, seen, colours)
    values = torch.cat([rgb, torch.ones_like(middles)[:, None], middles[:, None]], 1)  # [S, C + 2]
    return ops.composite.accumulate(weights, values, samples.ray_indices, n_rays), weights
