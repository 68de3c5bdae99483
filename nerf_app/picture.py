"""A whole picture from one camera, in chunks of rays."""

from dataclasses import dataclass

import numpy as np
import torch

from nerf_app.model import RadianceModel
from nerf_app.ops.backend import Backend
from nerf_app.rays import view_rays
from nerf_app.render import Rendering, over
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch

CHUNK = 8192  # rays at once
GPU_CHUNK = 1 << 17  # on a GPU, which a chunk of the other size would not fill
NEARBY = 0.01  # of a pixel's range: light that is stopped so near to it speaks for it


@dataclass(frozen=True)
class Picture:
    """What a camera sees. Unknown (less than half opaque, or outside the lens) is NaN in the depths, 0 in normals."""

    rgb: np.ndarray  # [H, W, 3] float32 0...1, in front of the background
    alpha: np.ndarray  # [H, W] float32
    z_depth: np.ndarray  # [H, W] float32, along the camera's axis, to where half the light is stopped
    range: np.ndarray  # [H, W] float32, the same along the ray
    mean_range: np.ndarray  # [H, W] float32, along the ray, to where the light is stopped on average
    confidence: np.ndarray  # [H, W] float32: the part of the light that is stopped within NEARBY of the range
    is_seen: np.ndarray  # [H, W] bool: False where the lens does not say what the pixel sees
    normals: np.ndarray | None  # [H, W, 3] float32 unit vectors, world axes


def render_picture(model: RadianceModel, camera: Camera, scene_from_camera: np.ndarray, *,
                   background: tuple[float, float, float] = (1, 1, 1), scene_units_per_unit: float = 1.0,
                   with_normals: bool = False) -> Picture:
    """The model seen by a camera at a pose [4, 4] in scene coordinates; depths come in scene units / `scene_units_per_unit`."""
    device = model.ops.device
    batch = CameraBatch.from_cameras([camera], device)
    poses = torch.tensor(np.asarray(scene_from_camera, np.float64)[None], device=device)
    paper = torch.tensor(background, dtype=torch.float32, device=device)
    pixels = torch.arange(camera.width * camera.height, device=device)
    parts = []
    with torch.no_grad():
        for chunk in pixels.split(GPU_CHUNK if device.type == "cuda" else CHUNK):
            rays = view_rays(batch, poses, 0, chunk // camera.width, chunk % camera.width)
            seen = model.render(rays, with_normals=with_normals)
            normals = seen.normals if with_normals else torch.zeros_like(seen.rgb)
            distance = seen.median_distance / scene_units_per_unit
            mean = torch.where(distance.isnan(), distance, seen.distance / scene_units_per_unit)
            parts.append(torch.cat([over(seen, paper), seen.opacity[:, None], (distance * rays.z_per_distance)[:, None],
                                    distance[:, None], mean[:, None], _light_near_median(seen, model.ops),
                                    rays.is_valid[:, None], normals], 1).cpu())
    values = torch.cat(parts).numpy().reshape(camera.height, camera.width, 12).astype(np.float32)
    alpha, z_depth, distance, mean, confidence, is_valid = np.moveaxis(values[..., 3:9], 2, 0)
    normals = _unit_or_zero(values[..., 9:], alpha) if with_normals else None
    return Picture(values[..., :3].clip(0.0, 1.0), alpha, z_depth, distance, mean, confidence, is_valid > 0, normals)


def _light_near_median(seen: Rendering, ops: Backend) -> torch.Tensor:
    """[R, 1] part of each ray's light, 0...1, that is stopped within NEARBY of its median; 0 where there is no median.

    A wall gives 1, uniform fog 0.7 %, a haze before a wall what it lets through. Light is taken as stopped evenly within
    a sample, so a depth is never surer than its samples are short.
    """
    samples = seen.samples
    median = samples.of_rays(seen.median_distance[:, None])[:, 0]  # [S] scene units
    inside = torch.minimum(samples.t_ends, (1 + NEARBY) * median) - torch.maximum(samples.t_starts, (1 - NEARBY) * median)
    near = (inside / (samples.t_ends - samples.t_starts).clamp(min=1e-12)).clamp(0.0, 1.0).nan_to_num(0.0)
    return ops.composite.accumulate(seen.weights, near[:, None], samples.ray_indices, samples.n_rays)


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
