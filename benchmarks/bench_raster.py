"""Times rasterising: python benchmarks/bench_raster.py [--threads N]. A "sample" is a face here."""

import math
from collections.abc import Iterator

import torch
from common import Case, main
from floors import copy_ns, flop_ns
from torch import Tensor

from nerf_app.ops import raster

SIZE = 800  # pixels along an edge
FACE_BYTES, PIXEL_BYTES = 60, 20
PIXEL_FLOPS = 60  # three edges, three shares and a depth in float64, which is two of float32
FLOOR = ("a copy of the bytes of all faces, their corners and the picture, and the arithmetic of every pixel that lies in a "
         "face, hidden or not, as multiply-adds between registers; a face's edges and a look beside it cost nothing.")


def ball(n_faces: int) -> tuple[Tensor, Tensor]:
    """A ball of about so many faces that fills the picture of a pinhole: corners in the picture, faces."""
    count = round((n_faces / 2) ** 0.5)
    longitude, latitude = torch.meshgrid(torch.arange(count) * (2 * math.pi / count), torch.linspace(0, math.pi, count + 1),
                                         indexing="xy")
    points = torch.stack([longitude.cos() * latitude.sin(), latitude.cos(), longitude.sin() * latitude.sin() + 3.0], -1)
    points = points.view(-1, 3)
    places = points[:, :2] / points[:, 2:] * (1.4 * SIZE) + SIZE / 2
    number = torch.arange(count * count).view(count, count)
    beside = number.roll(-1, 1)
    faces = torch.stack([torch.stack([number, beside, number + count], -1),
                         torch.stack([beside, beside + count, number + count], -1)], 2)
    return torch.cat([places, points[:, 2:]], 1), faces.view(-1, 3)


def drawn(module, **given) -> tuple[Tensor, ...]:
    """Faces, barycentrics, and the inverse of depth, which is finite."""
    found = module.rasterise(**given, height=SIZE, width=SIZE)
    return found.face_indices, found.barycentrics, 1 / found.depth


def cases() -> Iterator[Case]:
    for n_faces, order in ((2_000, "neighbours together"), (100_000, "neighbours together"), (100_000, "in any order"),
                           (1_000_000, "neighbours together")):
        corners, faces = ball(n_faces)
        if order == "in any order":
            faces = faces[torch.randperm(len(faces))]
        a, b, c = corners[faces, :2].unbind(1)
        pixels = float(torch.linalg.det(torch.stack([b - a, c - a], 1)).abs().sum()) / 2
        floor = copy_ns(FACE_BYTES * len(faces), PIXEL_BYTES * SIZE**2) + pixels * PIXEL_FLOPS * flop_ns()
        yield Case(f"{len(faces):,} faces into {SIZE} × {SIZE} pixels, {pixels / len(faces):.1f} pixels each, {order}",
                   len(faces), drawn, {"corners": corners, "faces": faces}, {"forward": floor / len(faces)}, tolerance=1e-6)


if __name__ == "__main__":
    main(raster, FLOOR, cases)
