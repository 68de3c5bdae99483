"""Rays through a hash-grid field by tinycudann's grid and nets and nerfacc's compositing, one after the other.

Not run with the real libraries yet: tests/ops/test_adapters.py checks shapes, dtypes and layout against stand-ins.
"""

from torch import Tensor

from nerf_app.ops.composite import nerfacc
from nerf_app.ops.field_step import HashGridNets, Samples
from nerf_app.ops.field_step.reference import SmallOps, see_by
from nerf_app.ops.hashgrid import tcnn as hashgrid
from nerf_app.ops.march import Space
from nerf_app.ops.mlp import tcnn as dense
from nerf_app.ops.spherical_harmonics import reference as harmonics


def see(origins: Tensor, directions: Tensor, samples: Samples, space: Space, field: HashGridNets,
        least_light: float = 0.0) -> tuple[Tensor, Tensor]:
    """[R, C + 2] sums over each ray, [S] weights; see the contract."""
    return see_by(SmallOps(hashgrid, dense, nerfacc, harmonics), origins, directions, samples, space, field)
