"""Rasterising in plain torch: every pixel of every face's bounding box is looked at, in float64."""

import torch
from torch import Tensor

from nerf_app.ops.raster import SUBPIXELS, Raster, check_faces
from nerf_app.ops.shapes import check_shapes

CANDIDATES = 2**20  # pixels of bounding boxes at once, about: what bounds the memory


@torch.no_grad()
def rasterise(corners: Tensor, faces: Tensor, height: int, width: int) -> Raster:
    """The nearest face at every pixel's centre; shapes and units in the contract."""
    check_shapes("corners [V,3], faces [F,3]", corners=corners, faces=faces)
    check_faces(faces, len(corners))
    triangles = corners.double()[faces.long()]  # [F, 3, 3]
    triangles[..., :2] = (triangles[..., :2] * SUBPIXELS).round() / SUBPIXELS
    first, counts = _boxes(triangles, height, width)
    depth = corners.new_full((height * width,), torch.inf)
    owner = torch.full_like(depth, len(faces), dtype=torch.int64)  # F: nobody
    for face, pixel in _candidates(first, counts, width):  # [K], [K]
        shares, found = _look(triangles[face], pixel, width)
        is_covered = (shares > 0).any(1)
        face, pixel, found = face[is_covered], pixel[is_covered], found[is_covered]
        nearest = depth.scatter_reduce(0, pixel, found, "amin")
        owner[nearest < depth] = len(faces)
        depth = nearest
        is_nearest = found == depth[pixel]
        owner.scatter_reduce_(0, pixel[is_nearest], face[is_nearest], "amin")
    pixel = (owner < len(faces)).nonzero()[:, 0]
    barycentrics = corners.new_zeros(height * width, 3)
    barycentrics[pixel] = _look(triangles[owner[pixel]], pixel, width)[0]
    owner[owner == len(faces)] = -1
    return Raster(owner.int().view(height, width), barycentrics.view(height, width, 3), depth.view(height, width))


def _look(triangles: Tensor, pixel: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Barycentrics [K, 3] float32 of pixels' centres in triangles [K, 3, 3], all 0 outside; and the depth there [K]."""
    x, y = pixel % width + 0.5, pixel.div(width, rounding_mode="floor") + 0.5
    a, b, c = triangles.unbind(1)
    sides, areas = zip(*[_edge(*ends, x, y) for ends in ((b, c), (c, a), (a, b))], strict=True)
    is_left = _edge(a, b, c[:, 0], c[:, 1])[0]  # where the third corner lies, and so all the face
    is_inside = (sides[0] == is_left) & (sides[1] == is_left) & (sides[2] == is_left)
    p, q, r = (area * (1 / depth) for area, depth in zip(areas, (a[:, 2], b[:, 2], c[:, 2]), strict=True))
    total = p + q + r
    shares = (torch.stack([p, q, r], 1) / total[:, None]).float()
    return torch.where(is_inside[:, None], shares, 0.0), ((areas[0] + areas[1] + areas[2]) / total).float()


def _edge(start: Tensor, end: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """On which side of edges [K, 3] points lie, and twice the area between: [K] bool, [K].

    Computed from the upper end to the lower, whichever way the face goes round: both faces at an edge get the same numbers.
    A point on the edge counts as a little to its right and, by still less, below.
    """
    is_turned = (start[:, 1] > end[:, 1]) | ((start[:, 1] == end[:, 1]) & (start[:, 0] > end[:, 0]))
    low, high = torch.where(is_turned[:, None], end, start), torch.where(is_turned[:, None], start, end)
    step = high - low
    area = step[:, 0] * (y - low[:, 1]) - step[:, 1] * (x - low[:, 0])
    is_left = (area > 0) | ((area == 0) & (step[:, 1] == 0))
    return is_left != is_turned, area.abs()


def _boxes(triangles: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """First column and row of the pixel centres in triangles' bounding boxes, and how many: [F, 2] int64 each."""
    a, b, c = triangles.unbind(1)
    is_drawn = triangles.isfinite().all(2).all(1) & (triangles[..., 2] > 0).all(1) & (_edge(a, b, c[:, 0], c[:, 1])[1] > 0)
    places = torch.where(is_drawn[:, None, None], triangles[..., :2], -1.0)  # the others have their box outside
    size = triangles.new_tensor([width, height])
    first = (places.amin(1) - 0.5).ceil().clamp(min=0).minimum(size)
    last = (places.amax(1) - 0.5).floor().clamp(min=-1).minimum(size - 1)
    return first.long(), (last - first + 1).clamp(min=0).long()


def _candidates(first: Tensor, counts: Tensor, width: int):
    """Chunk by chunk all pairs of a face and a pixel of its box: [K] int64 each."""
    pixels = counts.prod(1)  # [F]
    chunks = pixels.cumsum(0) // CANDIDATES
    for faces in torch.arange(len(pixels), device=pixels.device).split(chunks.unique(return_counts=True)[1].tolist()):
        face = faces.repeat_interleave(pixels[faces])
        begins = pixels[faces].cumsum(0) - pixels[faces]
        number = torch.arange(len(face), device=pixels.device) - begins.repeat_interleave(pixels[faces])
        columns = counts[face, 0]
        row = first[face, 1] + number.div(columns, rounding_mode="floor")
        yield face, row * width + first[face, 0] + number % columns
