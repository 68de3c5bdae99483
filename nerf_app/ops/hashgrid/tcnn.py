"""The hash grid by tinycudann. Its parameters are ours in the same order: [level][entry][feature], flat.

Not run with the real library yet: tests/ops/test_adapters.py checks shapes, dtypes and layout against a stand-in.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nerf_app.errors import BackendUnavailable
from nerf_app.ops.hashgrid import reference
from nerf_app.ops.hashgrid.levels import Level
from nerf_app.ops.shapes import check_shapes

encode_with_jacobian, pull_back = reference.encode_with_jacobian, reference.pull_back


def grid_config(levels: Sequence[Level], features: int) -> dict[str, str | int | float]:
    """The settings with which tinycudann makes the same levels."""
    coarsest = round(levels[0].scale + 1.0)
    growth = ((levels[-1].scale + 1.0) / coarsest) ** (1.0 / max(len(levels) - 1, 1))
    return {"otype": "HashGrid", "n_levels": len(levels), "n_features_per_level": features,
            "log2_hashmap_size": math.ceil(math.log2(max(level.entries for level in levels))), "base_resolution": coarsest,
            "per_level_scale": growth}


@functools.lru_cache(maxsize=4)
def _module(levels: tuple[Level, ...], features: int, dimensions: int, device: torch.device) -> torch.nn.Module:
    import tinycudann
    module = tinycudann.Encoding(dimensions, grid_config(levels, features), dtype=torch.float32).to(device)
    wanted = (levels[-1].first + levels[-1].entries) * features
    if module.params.numel() != wanted:
        raise BackendUnavailable(f"tinycudann makes {module.params.numel()} numbers of these levels where {wanted} belong: "
                                 "use --backend triton")
    return module


def encode(x: Tensor, table: Tensor, levels: Sequence[Level]) -> Tensor:
    """Features of points: [N, d], [E, F] -> [N, L·F]."""
    check_shapes("x [N,d], table [E,F]", x=x, table=table)
    if not len(x):  # a device refuses a launch of none
        return reference.encode(x, table, levels)
    module = _module(tuple(levels), table.shape[1], x.shape[1], x.device)
    return torch.func.functional_call(module, {"params": table.reshape(-1)}, (x,))
