"""Times rays through a hash-grid field: python benchmarks/bench_field_step.py [--threads N]."""

from collections.abc import Iterator

import torch
from bench_hashgrid import rows_of
from common import STEP, Case, blobs, main, rays_of_cameras
from floors import copy_ns, flop_ns, gather_ns, scatter_ns

from nerf_app.ops import field_step
from nerf_app.ops.field_step import SEEN, HashGridNets, reference
from nerf_app.ops.hashgrid import level_table
from nerf_app.ops.march import reference as march
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.samples import Samples

FLOOR = ("for the samples that light reaches, one core's loops that fetch (backward: add to) their rows of the tables, do the "
         "nets' multiplications and additions (backward: three times as many), the colour net's for the seen ones, and copy "
         "the features, which the forward pass keeps and the backward pass reads and gives gradients; nothing for the others. "
         "ns/sample: of all samples.")
NETS = [32, 32, 16], [32, 32, 32, 16]  # density, colour
N_RAYS = 600


def cases() -> Iterator[Case]:
    rays = rays_of_cameras(N_RAYS)
    marched = march.march(**rays, step=STEP, occupied=blobs(0.5), space=Space(True), max_samples=None)
    samples = Samples(marched.t_starts, marched.t_ends, marched.ray_indices, marched.ray_starts, marched.ray_counts, N_RAYS)
    n = len(samples.t_starts)
    middles = 0.5 * (samples.t_starts + samples.t_ends)[:, None]
    points = Space(True).to_unit(samples.of_rays(rays["origins"]) + middles * samples.of_rays(rays["directions"]))
    levels = level_table(8, 16, 1024, 17, 3)
    table = 0.5 * torch.randn(levels[-1].first + levels[-1].entries, 4)
    density, colour = ([torch.randn(out, wide) / wide**0.5 for wide, out in zip(widths, widths[1:])] for widths in NETS)
    given = (rays["origins"], rays["directions"], samples, Space(True))
    _, weights = reference.see(*given, HashGridNets(table, levels, tuple(density), tuple(colour), True))
    places, n_seen = rows_lit(weights, samples.ray_counts), int((weights > SEEN).sum())
    flops = [2 * sum(a * b for a, b in zip(widths, widths[1:])) for widths in NETS]
    arithmetic = (len(places) * flops[0] + n_seen * flops[1]) * flop_ns() / n
    features = 4 * NETS[0][0] * len(places)  # bytes
    parts = [(table[level.first:level.first + level.entries].clone(), rows_of(points[places], level)) for level in levels]

    def see(module, table, density, colour):
        sums, _ = module.see(*given, HashGridNets(table, levels, tuple(density), tuple(colour), True))
        return sums
    yield Case(f"{n:,} samples on {N_RAYS} rays, {len(places):,} in the light, {n_seen:,} seen", n, see,
               {"table": table.requires_grad_(), "density": [matrix.requires_grad_() for matrix in density],
                "colour": [matrix.requires_grad_() for matrix in colour]},
               {"forward": arithmetic + (sum(gather_ns(*part) for part in parts) + copy_ns(0, features)) / n,
                "backward": 3 * arithmetic + (sum(scatter_ns(*part) for part in parts) + copy_ns(features, features)) / n},
               tolerance=2e-2)  # a place rounded once more is 1e-4 of a fine cell away, and densities follow exponentially


def rows_lit(weights: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Places of the samples up to each ray's last one with a weight."""
    lit = [torch.flip(torch.flip(ray, (0,)).cumsum(0) > 0, (0,)) for ray in torch.split(weights > 0, counts.tolist())]
    return torch.cat(lit).nonzero()[:, 0]


if __name__ == "__main__":
    main(field_step, FLOOR, cases)
