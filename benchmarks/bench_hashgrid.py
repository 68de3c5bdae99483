"""Times the hash grid: python benchmarks/bench_hashgrid.py [--threads N]."""

from collections.abc import Iterator

import torch
from common import SAMPLES, Case, main, samples_of_rays
from floors import gather_ns, scatter_ns
from torch import Tensor

from nerf_app.ops import hashgrid
from nerf_app.ops.hashgrid import Level, level_table, reference

FLOOR = ("one core's loop that fetches (backward: adds to) the same rows of the same tables in the same order, their numbers "
         "known beforehand: no positions, no hashing, no weights.")


def rows_of(points: Tensor, level: Level) -> Tensor:
    """[N, 8] int32 rows of the corners, within the level."""
    cells = torch.floor(points * level.scale + 0.5).long()
    return reference._corner_rows(cells, level).int().contiguous()


def cases() -> Iterator[Case]:
    points, *_ = samples_of_rays()
    for log2_entries in (17, 18, 19):
        levels = level_table(8, 16, 1024, log2_entries, 3)
        table = torch.randn(levels[-1].first + levels[-1].entries, 4)
        floors = {"forward": 0.0, "backward": 0.0}
        for level in levels:
            own, rows = table[level.first:level.first + level.entries].clone(), rows_of(points, level)
            floors["forward"] += gather_ns(own, rows) / SAMPLES
            floors["backward"] += scatter_ns(own, rows) / SAMPLES
        yield Case(f"8 levels of 16 to 1024 cells, 4 features, 2^{log2_entries} entries, {SAMPLES:,} samples along rays", SAMPLES,
                   lambda module, x, table, levels: module.encode(x, table, levels),
                   {"x": points, "table": table.requires_grad_()}, floors, {"levels": levels}, tolerance=1e-3)


if __name__ == "__main__":
    main(hashgrid, FLOOR, cases)
