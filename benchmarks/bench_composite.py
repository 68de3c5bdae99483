"""Times compositing: python benchmarks/bench_composite.py [--threads N]."""

from collections.abc import Iterator

import torch
from common import SAMPLES, Case, main, samples_of_rays
from floors import copy_ns, exp_ns

from nerf_app.ops import composite

FLOOR = ("a copy of the same bytes, and for weights one exponential a sample as torch computes a vector of them in the cache: "
         "the larger of the two.")


def cases() -> Iterator[Case]:
    _, t_starts, t_ends, ray_indices = samples_of_rays()
    n_rays = int(ray_indices[-1]) + 1
    exponentials = exp_ns(SAMPLES)
    yield Case(f"weights of {SAMPLES:,} samples on {n_rays} rays", SAMPLES,
               lambda module, **given: module.render_weights(**given),
               {"density": (20.0 * torch.rand(SAMPLES)).requires_grad_(), "t_starts": t_starts, "t_ends": t_ends,
                "ray_indices": ray_indices},
               {"forward": max(copy_ns(20 * SAMPLES, 4 * SAMPLES), exponentials) / SAMPLES,
                "backward": max(copy_ns(28 * SAMPLES, 4 * SAMPLES), exponentials) / SAMPLES}, {"n_rays": n_rays})
    yield Case(f"sums of 3 channels of {SAMPLES:,} samples on {n_rays} rays", SAMPLES,
               lambda module, **given: module.accumulate(**given),
               {"weights": (torch.rand(SAMPLES) / 100.0).requires_grad_(), "values": torch.rand(SAMPLES, 3).requires_grad_(),
                "ray_indices": ray_indices},
               {"forward": copy_ns(24 * SAMPLES, 12 * n_rays) / SAMPLES,
                "backward": copy_ns(24 * SAMPLES + 12 * n_rays, 16 * SAMPLES) / SAMPLES}, {"n_rays": n_rays})


if __name__ == "__main__":
    main(composite, FLOOR, cases)
