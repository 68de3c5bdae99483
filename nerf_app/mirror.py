"""RAYS → PIECES OF RAYS, and back: a flat mirror is a place where rays turn, and nothing is built behind it.

A ray that meets the glass from its front has two pieces. The first one ends there. The second one is the ray of a virtual
camera behind the mirror, of which only what lies beyond the glass counts: origin and direction are mirrored, so that
distances go on. Pieces are rays like all others, and fields and kernels know nothing of mirrors.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from nerf_app.fields.shading import Surface
from nerf_app.rays import Rays
from nerf_app.render import Rendering
from nerf_app.sampling.contraction import Limits
from nerf_app.sampling.samples import Samples
from nerf_app.scene.flat_mirror import CELLS, FlatMirror

TINT = "mirror.tint"  # parameters [3]: the logarithm of what part of the light comes back, in the photos' sRGB-coded colours


@dataclass(frozen=True)
class Mirror:
    """A rectangle in scene coordinates, and which of its cells are glass."""

    frame: Tensor  # [3, 3] float32: a corner, and from there the edges to the right and upwards, as seen from its front
    is_glass: Tensor  # [CELLS, CELLS] bool, from the bottom, from the left

    @classmethod
    def of(cls, found: FlatMirror, device: torch.device) -> "Mirror":
        """What was found of it, for rendering."""
        return cls(torch.tensor(found.frame, dtype=torch.float32, device=device), torch.tensor(found.is_glass, device=device))

    @property
    def normal(self) -> Tensor:
        """[3] unit vector towards the front."""
        return torch.nn.functional.normalize(torch.linalg.cross(self.frame[1], self.frame[2]), dim=0)

    def meet(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """[M] the rays that meet the glass from its front, in order, and [M] how far away, scene units."""
        with torch.no_grad():
            (corner, right, up), normal = self.frame, self.normal
            against = rays.directions @ normal
            distance = ((corner - rays.origins) @ normal) / against  # [R] may be infinite or NaN
            points = rays.origins + distance[:, None] * rays.directions - corner  # [R, 3]
            x, y = (points @ edge / (edge @ edge) for edge in (right, up))  # [R] 0...1 within the rectangle
            is_met = (against < 0) & (distance > 0) & (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
            met = is_met.nonzero()[:, 0]
            met = met[self.is_glass[(CELLS * y[met]).long(), (CELLS * x[met]).long()]]
            return met, distance[met]

    def mirrored(self, rays: Rays) -> Rays:
        """The same rays of the virtual camera; differentiable in the rays."""
        normal = self.normal
        away = (rays.origins - self.frame[0]) @ normal  # [R] before the plane
        against = rays.directions @ normal
        return replace(rays, origins=rays.origins - 2.0 * away[:, None] * normal,
                       directions=rays.directions - 2.0 * against[:, None] * normal)


@dataclass(frozen=True)
class Pieces:
    """R rays in R + M pieces: each ray as far as the mirror, then the second pieces of the M rays that meet it."""

    rays: Rays  # R + M
    limits: Limits | None  # of each piece; None: there is no mirror
    met: Tensor  # [M] int64, rays that meet it
    distance: Tensor  # [M] scene units


def split(rays: Rays, mirror: Mirror | None) -> Pieces:
    """Rays as pieces that are straight."""
    if mirror is None:
        return Pieces(rays, None, rays.view_indices[:0], rays.origins[:0, 0])
    met, distance = mirror.meet(rays)
    second = mirror.mirrored(_select(rays, met))
    joined = Rays(*(torch.cat([getattr(part, field.name) for part in (rays, second)]) for field in fields(Rays)))
    never = torch.full_like(rays.origins.detach()[:, 0], torch.inf)
    begins = torch.cat([torch.zeros_like(never), distance])
    ends = torch.cat([never.index_copy(0, met, distance), torch.full_like(distance, torch.inf)])
    return Pieces(joined, (begins, ends), met, distance)


def join(pieces: Pieces, seen: Rendering, tint: Tensor, normal: Tensor, has_mirror: bool = True) -> Rendering:
    """What R rays show, of what their R + M pieces do; `tint` [3] is what part of the light a mirror gives back.

    The mirror is one more sample of its ray, without length, that stops whatever light the second piece stops: depths and
    normals are those of the mirror, and what shows a background behind the whole scene shows it in the mirror too. Training
    asks for samples without it (`has_mirror`): they cost less, and its further terms about samples are about the field alone.
    """
    met, n_rays = pieces.met, pieces.rays.count - len(pieces.met)
    through = 1.0 - seen.opacity[met]  # [M] light that arrives at the mirror
    stopped = through * seen.opacity[n_rays:]
    rgb = seen.rgb[:n_rays].index_add(0, met, through[:, None] * tint * seen.rgb[n_rays:])
    opacity = seen.opacity[:n_rays].index_add(0, met, stopped)
    distance = (seen.opacity * seen.distance)[:n_rays].index_add(0, met, stopped * pieces.distance) / opacity.clamp(min=1e-6)
    normals = None if seen.normals is None else seen.normals[:n_rays].index_add(0, met, stopped[:, None] * normal)
    surface = None if seen.surface is None else _first(seen.surface, n_rays)
    if has_mirror:
        samples, weights = _with_mirror(seen.samples, seen.weights, pieces, stopped)
    else:
        samples, weights = _before_mirror(seen.samples, seen.weights, n_rays)
    return Rendering(rgb, opacity, distance, normals, weights, samples, surface)


def _before_mirror(samples: Samples, weights: Tensor, n_rays: int) -> tuple[Samples, Tensor]:
    """The samples of first pieces, which lie in front; those of second pieces become unused entries, and are counted as work."""
    counts = samples.ray_counts[:n_rays]
    kept = int(counts.sum())
    ends = torch.cat([samples.t_ends[:kept], samples.t_starts[kept:]])
    first = Samples(samples.t_starts, ends, samples.ray_indices.clamp(max=n_rays), samples.ray_starts[:n_rays], counts, n_rays)
    return first, torch.cat([weights[:kept], torch.zeros_like(weights[kept:])])


def _with_mirror(samples: Samples, weights: Tensor, pieces: Pieces, stopped: Tensor) -> tuple[Samples, Tensor]:
    """The samples of first pieces, and of rays that meet the mirror one more, with the weight `stopped` [M], at their ends."""
    met, n_rays = pieces.met, pieces.rays.count - len(pieces.met)
    starts, counts = samples.ray_starts[:n_rays], samples.ray_counts[:n_rays]
    one_more = torch.zeros_like(counts).index_fill(0, met, 1)  # [R]
    shifts = one_more.cumsum(0) - one_more  # [R] samples that came in before a ray's own
    kept = slice(0, int(counts.sum()))
    rays = samples.ray_indices[kept]
    olds = torch.arange(len(rays), device=rays.device) + shifts[rays]
    news = (starts + counts + shifts)[met]

    def with_new(values: Tensor, new: Tensor) -> Tensor:
        return values.new_empty(len(olds) + len(news)).index_copy_(0, olds, values[kept]).index_copy_(0, news, new)
    joined = Samples(with_new(samples.t_starts, pieces.distance), with_new(samples.t_ends, pieces.distance),
                     with_new(samples.ray_indices, met), starts + shifts, counts + one_more, n_rays)
    return joined, with_new(weights, stopped)


def _select(rays: Rays, indices: Tensor) -> Rays:
    return Rays(*(getattr(rays, field.name).index_select(0, indices) for field in fields(Rays)))


def _first(surface: Surface, count: int) -> Surface:
    return Surface(*(getattr(surface, field.name)[:count] for field in fields(surface)))
