"""Times marching: python benchmarks/bench_march.py [--threads N]."""

from collections.abc import Iterator

import torch
from common import STEP, Case, blobs, main, rays_of_cameras
from floors import copy_ns, look_ns
from torch import Tensor

from nerf_app.ops import march
from nerf_app.ops.march import reference
from nerf_app.sampling.contraction import Space

N_RAYS = 4096
BLOCK = 4  # cells
RAY_BYTES, SAMPLE_BYTES = 36, 16
FLOOR = (f"a look at every candidate in a block of {BLOCK}³ cells that is not empty, in a loop along one ray through a grid that "
         "lies in the nearest cache, and a copy of the bytes of all rays and kept samples; skipping empty blocks costs nothing.")


def kept(module, **given) -> tuple[Tensor, ...]:
    """The used entries."""
    marched = module.march(**given)
    used = int(marched.ray_counts.sum())
    return marched.t_starts[:used], marched.t_ends[:used], marched.ray_indices[:used], marched.ray_counts


def blocks(occupied: Tensor) -> Tensor:
    """[G, G, G] bool: cells in blocks that are not empty."""
    pooled = torch.nn.functional.max_pool3d(occupied[None].float(), BLOCK)[0]
    for axis in range(3):
        pooled = pooled.repeat_interleave(BLOCK, axis)
    return pooled.bool()


def cases() -> Iterator[Case]:
    rays = rays_of_cameras(N_RAYS)
    for share in (0.5, 0.05):
        constants = {"step": STEP, "space": Space(True), "max_samples": None}
        inputs = {**rays, "occupied": blobs(share)}
        count = len(reference.march(**inputs, **constants).t_starts)
        candidates = len(reference.march(**rays, occupied=blocks(inputs["occupied"]), **constants).t_starts)
        floor = (candidates * look_ns() + copy_ns(N_RAYS * RAY_BYTES, count * SAMPLE_BYTES)) / count
        yield Case(f"{N_RAYS:,} rays through a grid of 128³ with {share:.0%} occupied: {count:,} samples, "
                   f"{count / N_RAYS:.0f} a ray", count, kept, inputs, {"forward": floor}, constants, tolerance=0.0)


if __name__ == "__main__":
    main(march, FLOOR, cases)
