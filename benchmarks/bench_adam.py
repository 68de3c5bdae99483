"""Times the optimiser: python benchmarks/bench_adam.py [--threads N]. A "sample" is a parameter here."""

from collections.abc import Iterator

import torch
from common import Case, main
from floors import change_ns

from nerf_app.ops import adam

NETS = 10_000  # parameters behind the table
LINE = 16  # numbers of a line of the cache: memory moves no less
FLOOR = ("a sum over all gradients, and a change of sign in place of as many numbers as lie, in four arrays, in the lines of the "
         "cache that hold a gradient.")


def cases() -> Iterator[Case]:
    for log2_entries, share in ((17, 0.5), (18, 0.1), (18, 0.5), (19, 0.1)):
        table = 8 * 4 * 2**log2_entries
        size = table + NETS
        touched = torch.rand(table // 4) < share
        gradients = torch.randn(size)
        gradients[:table].view(-1, 4)[~touched] = 0.0
        moved = int(touched.view(-1, LINE // 4).any(1).sum()) * LINE + NETS
        inputs = {"parameters": torch.randn(size), "gradients": gradients, "first": torch.randn(size) / 100.0,
                  "second": torch.rand(size) / 100.0}
        yield Case(f"8 levels, 4 features, 2^{log2_entries} entries, {share:.0%} of the rows with a gradient", size,
                   lambda module, **given: module.adam_step(**given), inputs,
                   {"forward": change_ns(4 * size, 16 * moved) / size},
                   {"step": 100, "learning_rate": 1e-2, "table_size": table})


if __name__ == "__main__":
    main(adam, FLOOR, cases)
