"""Mesh against photos: the textured mesh, photographed again from where photos were taken that it was not made from."""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import grid_sample

from nerf_app.errors import DataError
from nerf_app.export.mesh import Mesh
from nerf_app.export.visibility import mesh_seen_from
from nerf_app.ops.backend import Backend
from nerf_app.picture import unseen_pixels
from nerf_app.run import Run
from nerf_app.scene.camera import Camera
from nerf_app.scene.scene import Scene
from nerf_app.training.metrics import mean_of_known, psnr
from nerf_app.training.validation import on_white

SAMPLES = 2  # along each edge of a pixel: a photo's pixel is a mean over its area


def check_mesh(run: Run, scene: Scene, mesh: Mesh) -> dict[str, Any]:
    """How well the mesh shows the test photos (the validation photos, if there are none), in front of white.

    `psnr` as in `nerf_app.run.evaluate`: all pixels but ignored ones, on as few as training photos are reduced to: a texture
    holds no more. `silhouette_iou`: pixels that mesh and photo both cover over those that either does. Photos without alpha
    show more than the mesh is of: of them only what it covers is compared, and `silhouette_iou` is None.
    """
    split = "test" if scene.indices("test") else "val"
    indices = scene.indices(split)
    if not indices:
        raise DataError(f"{scene.root} has no photo that was kept out of training, so the mesh cannot be checked: "
                        "set scene.test to keep some.")
    photos = [_check_photo(run, scene, mesh, index) for index in indices]
    photos.sort(key=lambda photo: photo["path"])
    means = {key: mean_of_known(photo[key] for photo in photos) for key in ("psnr", "silhouette_iou")}
    return {**means, "split": split, "photos": photos}


def photograph(mesh: Mesh, camera: Camera, world_from_camera: np.ndarray, ops: Backend) -> tuple[np.ndarray, np.ndarray]:
    """The mesh before white [H, W, 3] float32 0...1, and what part of each pixel it covers [H, W]; pose in input coordinates."""
    large = camera.resized(camera.width * SAMPLES, camera.height * SAMPLES)
    raster = mesh_seen_from(mesh, large, world_from_camera, ops)
    faces = raster.face_indices.cpu().numpy()
    rows, columns = np.nonzero(faces >= 0)
    corners = mesh.faces[faces[rows, columns]]  # [N, 3]
    parts = raster.barycentrics.cpu().numpy()[rows, columns][..., None]  # [N, 3, 1]
    values = np.ones((*faces.shape, 4), np.float32)
    values[..., 3] = faces >= 0
    if mesh.texture is not None:
        values[rows, columns, :3] = _texture_at(mesh.texture, (parts * mesh.uvs[corners]).sum(1))
    else:
        values[rows, columns, :3] = (parts * mesh.colours[corners]).sum(1) / 255.0
    values = values.reshape(camera.height, SAMPLES, camera.width, SAMPLES, 4).mean((1, 3))
    return values[..., :3], values[..., 3]


def _texture_at(texture: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Colours 0...1 [N, 3] of a texture [T, T, 3] uint8 at uvs [N, 2], bilinear."""
    picture = torch.from_numpy(texture).permute(2, 0, 1)[None].float() / 255.0
    places = torch.from_numpy(uvs.astype(np.float32)) * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0])
    return grid_sample(picture, places[None, None], padding_mode="border", align_corners=False)[0, :, 0].T.numpy()


def _check_photo(run: Run, scene: Scene, mesh: Mesh, index: int) -> dict[str, Any]:
    view, longest = scene.views[index], run.config.scene.longest_side
    camera = view.camera if longest is None else view.camera.within(longest)
    pixels, ignored = scene.photos.picture(index, (camera.width, camera.height))
    unseen = unseen_pixels(camera)
    ignored = unseen if ignored is None else ignored.numpy() | unseen
    picture, coverage = photograph(mesh, camera, view.world_from_camera, run.backend)
    overlap = None
    if scene.photos.has_alpha:
        covered, shown = pixels[..., 3].numpy() >= 128, coverage >= 0.5
        either = ((covered | shown) & ~ignored).sum()
        overlap = float((covered & shown & ~ignored).sum() / either) if either else None
    else:
        ignored = ignored | (coverage < 1.0)
    return {"path": view.name, "psnr": psnr(picture, on_white(pixels), ignored), "silhouette_iou": overlap}
