"""A whole picture from one camera, in chunks of rays: one through the middle of each pixel, more where it shows an edge."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nerf_app.fields.shading import Surface, coded
from nerf_app.model import RadianceModel
from nerf_app.ops.field_step import DIM
from nerf_app.rays import Rays, cast_rays
from nerf_app.render import Rendering, distance_of_light, over
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch

CHUNK = 1 << 14  # rays at once
GPU_CHUNK = 1 << 17  # on a GPU, which a chunk of the other size would not fill
EDGE = 0.3  # of full brightness: where neighbours differ by more, the ray through a pixel's middle does not speak for all of it
# Pixels from the middle: what else is asked there, one on each side of it along rows, columns and in every other direction.
AROUND = ((-0.38, -0.13), (0.13, -0.38), (0.38, 0.13), (-0.13, 0.38))
FRONT = 0.2  # part of a ray's light that is stopped at the surface of a bounded scene
NEARBY = 0.01  # of a pixel's range: light that is stopped so near to it speaks for it


@dataclass(frozen=True)
class Window:
    """A part of a picture, pixels from its upper left corner."""

    left: int
    top: int
    width: int
    height: int

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """[H, W, …] of the whole -> [height, width, …]."""
        return rows[self.top:self.top + self.height, self.left:self.left + self.width]


@dataclass(frozen=True)
class Picture:
    """What a camera sees. Unknown (less than half opaque, or outside the lens) is NaN in the depths, 0 in normals.

    Depths and normals that were not asked for are None.
    """

    rgb: np.ndarray  # [H, W, 3] float32 0...1, in front of the background
    alpha: np.ndarray  # [H, W] float32
    is_seen: np.ndarray  # [H, W] bool: False where the lens does not say what the pixel sees
    z_depth: np.ndarray | None = None  # [H, W] float32, along the camera's axis, to the surface (see surface_distance)
    range: np.ndarray | None = None  # [H, W] float32, the same along the ray
    mean_range: np.ndarray | None = None  # [H, W] float32, along the ray, to where the light is stopped on average
    confidence: np.ndarray | None = None  # [H, W] float32: the part of the light that is stopped within NEARBY of the range
    normals: np.ndarray | None = None  # [H, W, 3] float32 unit vectors, world axes
    parts: "Parts | None" = None  # of a reflective field


@dataclass(frozen=True)
class Parts:
    """What the colours of a reflective field are made of, without a background; nobody knows it where nothing is."""

    diffuse: np.ndarray  # [H, W, 3] float32 0...1 sRGB-coded, were nothing mirrored
    specular: np.ndarray  # [H, W, 3] float32 0...1 sRGB-coded, were all else black
    roughness: np.ndarray  # [H, W] float32 0...1


@torch.no_grad()
def render_picture(model: RadianceModel, camera: Camera, scene_from_camera: np.ndarray, *,
                   background: tuple[float, float, float] = (1, 1, 1), scene_units_per_unit: float = 1.0,
                   with_depths: bool = True, with_normals: bool = False, are_edges_smooth: bool = True,
                   window: Window | None = None) -> Picture:
    """The model seen by a camera at a pose [4, 4] in scene coordinates; depths come in scene units / `scene_units_per_unit`.

    Smooth edges are means of five rays in colour and alpha; depths and normals always belong to a pixel's middle. A window is
    the part of the picture that is made, without looking at what lies around it.
    """
    view = _View(model, camera, scene_from_camera, background, 0.0 if with_depths else DIM)
    window = window or Window(0, 0, camera.width, camera.height)
    width, height = window.width, window.height
    columns, rows = (torch.arange(first, first + count, device=model.ops.device)
                     for first, count in ((window.left, width), (window.top, height)))
    pixels = (rows[:, None] * camera.width + columns).view(-1)

    def through_middles(chunk: torch.Tensor) -> torch.Tensor:
        """[R, 5] colours, opacity, whether they are known; [R, 4] depths, [R, 3] normals, [R, 7] parts, if there are any."""
        rays, seen = view.look(chunk, (0.0, 0.0), with_normals)
        columns = [view.colours(seen), rays.is_valid[:, None]]
        columns += [_depths(rays, seen, model, scene_units_per_unit)] if with_depths else []
        columns += [seen.normals] if with_normals else []
        return torch.cat(columns + ([] if seen.surface is None else [_parts(seen.surface)]), 1)

    values = view.in_chunks(pixels, through_middles)
    if are_edges_smooth:
        edges = _edges(values[:, :4].view(height, width, 4)) & (values[:, 4] > 0)
        if edges.any():
            others = view.in_chunks(pixels[edges.to(pixels.device)], view.around)  # [E, 4]
            values[edges, :4] = (values[edges, :4] + others) / (1 + len(AROUND))
    values = values.numpy().reshape(height, width, -1).astype(np.float32)
    colours, depths, normals, surface = np.split(values, np.cumsum([5, 4 * with_depths, 3 * with_normals]), 2)
    surface = surface.clip(0.0, 1.0)
    alpha = colours[..., 3]
    return Picture(colours[..., :3].clip(0.0, 1.0), alpha, colours[..., 4] > 0, *np.moveaxis(depths, 2, 0),
                   normals=_unit_or_zero(normals, alpha) if with_normals else None,
                   parts=Parts(surface[..., :3], surface[..., 3:6], surface[..., 6]) if surface.shape[2] else None)


class _View:
    """A model before one camera."""

    def __init__(self, model: RadianceModel, camera: Camera, pose: np.ndarray, background: tuple[float, float, float],
                 least_light: float) -> None:
        device = model.ops.device
        self.model, self.width, self.least_light = model, camera.width, least_light
        self.cameras = CameraBatch.from_cameras([camera], device)
        self.pose = torch.tensor(np.asarray(pose, np.float64)[None], device=device)  # [1, 4, 4]
        self.paper = torch.tensor(background, dtype=torch.float32, device=device)  # [3]
        self.chunk = GPU_CHUNK if device.type == "cuda" else CHUNK

    def look(self, pixels: torch.Tensor, offset: tuple[float, float], with_normals: bool = False) -> tuple[Rays, Rendering]:
        """Through points that lie `offset` (right, down) from the middles of pixels [R], numbered row by row."""
        x, y = pixels % self.width + 0.5 + offset[0], pixels // self.width + 0.5 + offset[1]
        rays = cast_rays(self.cameras, self.pose, torch.zeros_like(pixels), x, y, self.model.ops.lens)
        return rays, self.model.render(rays, with_normals=with_normals, least_light=self.least_light)

    def in_chunks(self, pixels: torch.Tensor, work: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What `work` gives for all pixels [P], chunk by chunk, on the CPU: [P, C]; smaller chunks where a GPU is full."""
        parts, begin = [], 0
        while begin < len(pixels):
            try:
                parts.append(work(pixels[begin:begin + self.chunk]).cpu())
                begin += self.chunk
            except torch.OutOfMemoryError:
                if self.chunk <= CHUNK:
                    raise
                self.chunk //= 2
        return torch.cat(parts)

    def around(self, pixels: torch.Tensor) -> torch.Tensor:
        """[R, 4] what the rays around pixels [R] show together."""
        return sum(self.colours(self.look(pixels, offset)[1]) for offset in AROUND)

    def colours(self, seen: Rendering) -> torch.Tensor:
        """[R, 4] in front of the background, and opacity."""
        return torch.cat([over(seen, self.paper), seen.opacity[:, None]], 1)


def _depths(rays: Rays, seen: Rendering, model: RadianceModel, scene_units_per_unit: float) -> torch.Tensor:
    """[R, 4] the depths of a picture and their confidence, in the order of its fields."""
    surface_at = surface_distance(seen, model)  # [R] scene units
    distance = surface_at / scene_units_per_unit
    mean = torch.where(distance.isnan(), distance, seen.distance / scene_units_per_unit)
    return torch.cat([(distance * rays.z_per_distance)[:, None], distance[:, None], mean[:, None],
                      _light_near(surface_at, seen, model)], 1)


def _parts(surface: Surface) -> torch.Tensor:
    """[R, 7] what the colours are made of, in the order of the fields of Parts."""
    return torch.cat([coded(surface.diffuse), coded(surface.specular), surface.roughness[:, None]], 1)


def _edges(colours: torch.Tensor) -> torch.Tensor:
    """[H, W, C] -> [H·W] bool: pixels that differ from one another by more than EDGE within the 3×3 around them."""
    return (_within_reach(colours, torch.maximum) - _within_reach(colours, torch.minimum) > EDGE).any(2).view(-1)


def _within_reach(values: torch.Tensor, pick: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """[H, W, C]: the one of each pixel's 3×3 that `pick` prefers."""
    for axis in (0, 1):
        size = values.shape[axis]
        framed = torch.cat([values.narrow(axis, 0, 1), values, values.narrow(axis, size - 1, 1)], axis)
        values = pick(pick(framed.narrow(axis, 0, size), values), framed.narrow(axis, 2, size))
    return values


def surface_distance(seen: Rendering, model: RadianceModel) -> torch.Tensor:
    """[R] scene units: where half of a ray's light is stopped, in a bounded scene FRONT of it; NaN where less than half is.

    What was cut out along its outlines has a skin of haze: rays along its rim pass through so much of it that the outlines are
    right, while rays from the front go through a pixel's width of it before half of their light is stopped.
    """
    return distance_of_light(seen, FRONT if model.space.is_bounded else 0.5, model.ops)


def _light_near(surface_at: torch.Tensor, seen: Rendering, model: RadianceModel) -> torch.Tensor:
    """[R, 1] part of each ray's light, 0...1, that is stopped within NEARBY of its surface [R]; 0 where there is none.

    A wall gives 1, uniform fog 0.7 %, a haze before a wall what it lets through. Light is taken as stopped evenly within
    a sample, so a depth is never surer than its samples are short.
    """
    samples, lit = seen.samples, seen.weights.nonzero()[:, 0]  # most samples lie behind a surface
    weights, starts, ends, rays = (of.index_select(0, lit) for of in (seen.weights, samples.t_starts, samples.t_ends,
                                                                      samples.ray_indices))  # [N] each
    place = surface_at.index_select(0, rays)  # [N] scene units
    inside = torch.minimum(ends, (1 + NEARBY) * place) - torch.maximum(starts, (1 - NEARBY) * place)
    near = (inside / (ends - starts).clamp(min=1e-12)).clamp(0.0, 1.0).nan_to_num(0.0)
    return model.ops.composite.accumulate(weights, near[:, None], rays, samples.n_rays)


def unseen_pixels(camera: Camera) -> np.ndarray:
    """[H, W] bool: where the lens does not say what the pixel sees."""
    return np.isnan(pixel_directions(camera)[..., 0])


def pixel_directions(camera: Camera) -> np.ndarray:
    """[H, W, 3] float64 unit vectors, camera axes, through the pixels' centres; NaN where the lens says nothing."""
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    x, y = columns.reshape(-1) + 0.5, rows.reshape(-1) + 0.5
    directions, is_valid = CameraBatch.from_cameras([camera]).directions(torch.zeros(len(x), dtype=torch.int64), x, y)
    return torch.where(is_valid[:, None], directions, torch.nan).double().numpy().reshape(camera.height, camera.width, 3)


def _unit_or_zero(normals: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where((alpha[..., None] >= 0.5) & (lengths > 1e-6), normals / np.maximum(lengths, 1e-6), 0.0).astype(np.float32)
