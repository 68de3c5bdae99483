"""Fields that can be computed on paper, and small things to render them with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nerf_app.fields.radiance import FieldOutput
from nerf_app.ops.backend import Backend, choose_backend
from nerf_app.rays import Rays
from nerf_app.render import Rendering, distance_of_light, render_samples
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.uniform import spread_evenly

BOX, UNBOUNDED = Space(True), Space(False)


def reference_ops() -> Backend:
    """Plain torch on the CPU, with as many threads as there were."""
    return choose_backend("reference", "cpu", torch.get_num_threads())


@dataclass(frozen=True)
class AnalyticField:
    """Density and colour as functions of scene coordinates."""

    density_fn: Callable[[Tensor], Tensor]  # [N, 3] -> [N]
    colour_fn: Callable[[Tensor], Tensor]  # [N, 3] -> [N, 3]
    space: Space = BOX
    nets: None = None  # no hash grid: rendered by the ops one after the other
    shading: None = None  # colours are colours

    def density(self, unit: Tensor) -> FieldOutput:
        points = self.space.from_unit(unit)
        return FieldOutput(self.density_fn(points), points)

    def colour(self, features: Tensor, directions: Tensor, codes: None = None) -> Tensor:
        return self.colour_fn(features)


def fog(density: float) -> AnalyticField:
    """The same everywhere, orange."""
    return AnalyticField(lambda points: density + 0.0 * points[:, 0], orange)


def ball(radius: float, density: float = 200.0, softness: float = 0.02) -> AnalyticField:
    """Around the origin, with an edge about `softness` wide, coloured by place."""
    return AnalyticField(lambda points: density * torch.sigmoid((radius - points.norm(dim=1)) / softness),
                         lambda points: 0.5 + 0.4 * torch.sin(3.0 * points))


def orange(points: Tensor) -> Tensor:
    return points.new_tensor([1.0, 0.5, 0.125]).expand_as(points)


@dataclass(frozen=True)
class AnalyticModel:
    """As much of a RadianceModel as pictures need."""

    field: AnalyticField
    ops: Backend
    samples: int = 128

    @property
    def space(self) -> Space:
        return self.field.space

    def render(self, rays: Rays, *, with_normals: bool = False, least_light: float = 0.0) -> Rendering:
        samples = spread_evenly(rays, self.field.space, self.samples, None)
        return render_samples(rays, samples, self.field, self.field.space, self.ops, with_normals=with_normals)


def free_rays(origins: Tensor, directions: Tensor) -> Rays:
    """Rays of no camera: [R, 3], [R, 3] of any length."""
    count = len(origins)
    return Rays(origins, torch.nn.functional.normalize(directions, dim=1), torch.ones(count, dtype=origins.dtype),
                torch.zeros(count, dtype=torch.int64), torch.ones(count, dtype=torch.bool))


def median_distance(seen: Rendering) -> Tensor:
    """[R] scene units: where half of each ray's light is stopped."""
    return distance_of_light(seen, 0.5, reference_ops())


def crossing_rays(count: int, dtype: torch.dtype = torch.float32) -> Rays:
    """Rays from outside the cube towards points inside it."""
    origins = 3.0 * torch.nn.functional.normalize(torch.randn(count, 3, dtype=dtype), dim=1)
    return free_rays(origins, 1.2 * torch.rand(count, 3, dtype=dtype) - 0.6 - origins)
