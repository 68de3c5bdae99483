"""LOOKS → SIGHTINGS: which photo sees which vertex, how much it counts there, and what evens its exposure.

Legend: V vertices, P photos, M sightings (a vertex in a photo).
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from nerf_app.export.looks import FACING, Look, project, sampled

BEST = 4  # photos that share a vertex
SHARPNESS = 3.0  # how much the better photo counts more
DISAGREEMENT = 0.15  # of the colour range, from the photos' middle: a photo that says so counts half
GAIN_ENTRIES = 1 << 21  # vertices times photos that the gains are found from
GAIN_ROUNDS = 20  # at most


@dataclass(frozen=True)
class Sightings:
    """Which photo sees which vertex."""

    vertices: Tensor  # [M] int64
    photos: Tensor  # [M] int64
    weights: Tensor  # [M] float32
    colours: Tensor  # [M, 3] float32 0...1, of a small neighbourhood


def sight(look: Look, points: Tensor, normals: Tensor, photo: int) -> Sightings:
    """The vertices that one photo sees, weighted by angle, size of a pixel on the surface and trust."""
    facing = (((look.centre - points) * normals).sum(1) > 0).nonzero()[:, 0]
    places, is_seen, cosine, distance = project(look, points[facing], normals[facing])
    smooth = avg_pool2d(look.picture, 3, 1, 1, count_include_pad=False)
    colours, trust = sampled(torch.cat([smooth[:, :4], look.picture[:, 4:]], 1), places)
    weights = trust * ((cosine - FACING) / (1 - FACING)).clamp(min=0) ** 2 / (look.pixel * distance) ** 2
    kept = (is_seen & (weights > 0)).nonzero()[:, 0]
    return Sightings(facing[kept], torch.full_like(kept, photo), weights[kept], colours[kept])


def exposure_gains(seen: Sightings, n_vertices: int, n_photos: int) -> Tensor:
    """What each photo's colours are to be multiplied with, [P, 3], so that photos of the same vertex agree; mean log is 0.

    Least squares on the logarithms, with the vertices' own colours eliminated; photos that say something else altogether
    (a shadow, a reflection) lose their influence round by round. Photos that share nothing keep a gain of 1.
    """
    step = math.ceil(n_vertices * n_photos / GAIN_ENTRIES)
    chosen = (seen.vertices % step == 0) & ((seen.colours > 0.06) & (seen.colours < 0.94)).all(1)
    rows, photos = seen.vertices[chosen] // step, seen.photos[chosen]
    weights = torch.zeros(n_vertices // step + 1, n_photos, dtype=torch.float64)
    weights[rows, photos] = seen.weights[chosen].double()
    weights /= weights.amax(1, keepdim=True).clamp(min=1e-300)
    gains = torch.zeros(n_photos, 3, dtype=torch.float64)
    for channel in range(3):
        values = torch.zeros_like(weights)
        values[rows, photos] = seen.colours[chosen, channel].double().log()
        gains[:, channel] = _log_gains(values, weights)
    return torch.exp(gains).float()


def _log_gains(values: Tensor, weights: Tensor) -> Tensor:
    """[V, P] logarithms of colours and their weights -> [P] what to add to each photo's: 0 in sum, as the system's columns."""
    gains, robust = values.new_zeros(values.shape[1]), weights
    for _ in range(GAIN_ROUNDS):
        sums = robust.sum(1, keepdim=True).clamp(min=1e-12)
        means = (robust * values).sum(1, keepdim=True) / sums
        system = torch.diag(robust.sum(0)) - robust.T @ (robust / sums)
        prior = 1e-2 * system.diagonal().mean().clamp(min=1e-12)
        before, gains = gains, torch.linalg.solve(system + prior * torch.eye(len(gains), dtype=gains.dtype),
                                                  (robust * (means - values)).sum(0))
        if float((gains - before).abs().max()) < 1e-3:
            break
        evened = values + gains
        centres = (robust * evened).sum(1, keepdim=True) / sums
        robust = weights / (1 + ((evened - centres) / DISAGREEMENT) ** 2)
    return gains


def agreeing(seen: Sightings, gains: Tensor, n_vertices: int) -> Sightings:
    """The sightings with less weight for photos whose colour at a vertex is far from the middle (geometric median) of all."""
    colours = seen.colours * gains[seen.photos]
    weights = seen.weights
    for _ in range(8):
        sums = torch.zeros(n_vertices, 4).index_add(0, seen.vertices, torch.cat([colours, torch.ones_like(colours[:, :1])], 1)
                                                    * weights[:, None])
        middles = sums[:, :3] / sums[:, 3:].clamp(min=1e-30)
        apart = torch.linalg.vector_norm(colours - middles[seen.vertices], dim=1)  # [M]
        weights = seen.weights / (apart + 0.01)
    return dataclasses.replace(seen, weights=seen.weights / (1 + (apart / DISAGREEMENT) ** 4))


def few_best(seen: Sightings, n_vertices: int) -> Sightings:
    """The BEST sightings of each vertex, their weights sharpened and summing to 1.

    What the next best one would count is taken off them, so that a photo's weight fades to nothing where it drops out.
    """
    best = torch.zeros(n_vertices).scatter_reduce(0, seen.vertices, seen.weights, "amax")
    weights = (seen.weights / best[seen.vertices].clamp(min=1e-30)) ** SHARPNESS
    order = weights.argsort(descending=True, stable=True)
    order = order[seen.vertices[order].argsort(stable=True)]  # by vertex, the best first
    vertices, photos, weights = seen.vertices[order], seen.photos[order], weights[order]
    counts = torch.bincount(vertices, minlength=n_vertices)
    ranks = torch.arange(len(vertices)) - (counts.cumsum(0) - counts)[vertices]
    cut = torch.zeros(n_vertices)
    is_next = ranks == BEST
    cut[vertices[is_next]] = weights[is_next]
    weights = weights - cut[vertices]
    kept = ((ranks < BEST) & (weights > 0)).nonzero()[:, 0]
    sums = torch.zeros(n_vertices).index_add(0, vertices[kept], weights[kept])
    return Sightings(vertices[kept], photos[kept], weights[kept] / sums[vertices[kept]], seen.colours[order][kept])
