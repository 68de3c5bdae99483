"""A whole picture from one camera, in chunks of rays."""

from dataclasses import dataclass

import numpy as np
import torch

from nerf_app.model import RadianceModel
from nerf_app.rays import view_rays
from nerf_app.render import over
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch

CHUNK = 8192  # rays


@dataclass(frozen=True)
class Picture:
    """What a camera sees. Unknown (less than half opaque, or outside the lens) is NaN in the depths, 0 in normals."""

    rgb: np.ndarray  # [H, W, 3] float32 0...1, in front of the background
    alpha: np.ndarray  # [H, W] float32
    z_depth: np.ndarray  # [H, W] float32, along the camera's axis, to where half the light is stopped
    range: np.ndarray  # [H, W] float32, the same along the ray
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
        for chunk in pixels.split(CHUNK):
            rays = view_rays(batch, poses, 0, chunk // camera.width, chunk % camera.width)
            seen = model.render(rays, with_normals=with_normals)
            normals = seen.normals if with_normals else torch.zeros_like(seen.rgb)
            distance = seen.median_distance / scene_units_per_unit
            parts.append(torch.cat([over(seen, paper), seen.opacity[:, None], (distance * rays.z_per_distance)[:, None],
                                    distance[:, None], normals], 1).cpu())
    values = torch.cat(parts).numpy().reshape(camera.height, camera.width, 9).astype(np.float32)
    normals = _unit_or_zero(values[..., 6:], values[..., 3]) if with_normals else None
    return Picture(values[..., :3].clip(0.0, 1.0), values[..., 3], values[..., 4], values[..., 5], normals)


def unseen_pixels(camera: Camera) -> np.ndarray:
    """[H, W] bool: where the lens does not say what the pixel sees."""
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    indices = torch.zeros(rows.numel(), dtype=torch.int64)
    _, is_valid = CameraBatch.from_cameras([camera]).directions(indices, columns.reshape(-1) + 0.5, rows.reshape(-1) + 0.5)
    return ~is_valid.reshape(camera.height, camera.width).numpy()


def _unit_or_zero(normals: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where((alpha[..., None] >= 0.5) & (lengths > 1e-6), normals / np.maximum(lengths, 1e-6), 0.0).astype(np.float32)
