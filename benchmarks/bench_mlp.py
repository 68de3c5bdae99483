"""Times the dense nets: python benchmarks/bench_mlp.py [--threads N]."""

from collections.abc import Iterator

import torch
from common import SAMPLES, Case, main
from floors import copy_ns, flop_ns

from nerf_app.ops import mlp

FLOOR = ("the longer of two: the net's multiplications and additions (backward: twice as many, for two products a layer) at the "
         "rate of a loop that does nothing but multiply-adds between the registers of one core; one core's copy of as many bytes "
         "as come from memory and go there.")
NETS = {"density net": lambda width: [32, width, 16], "colour net": lambda width: [32, width, width, 16]}


def cases() -> Iterator[Case]:
    for width in (32, 64):
        for name, widths_of in NETS.items():
            widths = widths_of(width)
            shapes = list(zip(widths[1:], widths[:-1]))
            flops = 2 * sum(out * into for out, into in shapes)
            matrices = [(torch.randn(shape) / shape[1] ** 0.5).requires_grad_() for shape in shapes]
            yield Case(f"{name} {'-'.join(map(str, widths))}, {SAMPLES:,} samples, each with a gradient", SAMPLES,
                       lambda module, x, matrices: module.mlp(x, matrices, None),
                       {"x": torch.randn(SAMPLES, widths[0]).requires_grad_(), "matrices": matrices},
                       {"forward": max(flops * flop_ns(), copied(widths[0], widths[-1])),
                        "backward": max(2 * flops * flop_ns(), copied(widths[0] + widths[-1], widths[0]))})


def copied(read: int, written: int) -> float:
    """Nanoseconds a sample for so many numbers of each."""
    return copy_ns(4 * SAMPLES * read, 4 * SAMPLES * written) / SAMPLES


if __name__ == "__main__":
    main(mlp, FLOOR, cases)
