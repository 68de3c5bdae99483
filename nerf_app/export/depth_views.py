"""What crop and surface are made from: pinhole pictures of how far light gets into a run, from where photos were taken.

A surface is taken to lie where the first part of a ray's light is stopped, not the half: where a field is unsure, as in all
that has no texture, it is a haze whose front is right and whose middle lies too deep. In front of an unbounded scene's
surfaces there may be a little haze, too, so there it is a larger part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nerf_app.errors import DataError
from nerf_app.ops.backend import Backend
from nerf_app.picture import FRONT
from nerf_app.rays import view_rays
from nerf_app.render import Rendering, distance_of_light
from nerf_app.sampling.contraction import Limits, Space
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import View

if TYPE_CHECKING:
    from nerf_app.export.crop import Box
    from nerf_app.model import RadianceModel
    from nerf_app.run import Run

FIRST_LIGHT = {True: FRONT, False: 0.3}  # by whether a scene is bounded: part of the light that is stopped at a surface
EMPTY = 0.1  # light that is stopped: less is nothing; from there to the half it is left open what is there
FINER = 8.0  # than its photo a picture may be: a field is known between pixels too, and a voxel needs a ray of its own
CHUNK = 8192  # rays
WIDEST = 2.0  # tangent from a pinhole's axis; what sees farther is looked at through the sides of a cube
LATTICE = 33  # places along a photo's side where its lens is asked for its field of view
SIDES = (np.eye(3), *(np.array(turned, float).T for turned in (  # columns: a side's own axes in the camera's
    ((0, 0, 1), (0, 1, 0), (-1, 0, 0)), ((0, 0, -1), (0, 1, 0), (1, 0, 0)), ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((1, 0, 0), (0, 0, -1), (0, 1, 0)), ((-1, 0, 0), (0, 1, 0), (0, 0, -1)))))


@dataclass(frozen=True)
class DepthView:
    """A pinhole picture: z-depth [H, W] float32 in input units; infinite where light goes through, NaN where nobody knows."""

    camera: Camera
    world_from_camera: np.ndarray  # [4, 4] float64, input coordinates
    depth: np.ndarray

    def points(self) -> np.ndarray:
        """Where the surface is: [N, 3] float64 input coordinates."""
        rows, columns = np.nonzero(np.isfinite(self.depth))
        depth = self.depth[rows, columns].astype(np.float64)
        x = (columns + 0.5 - self.camera.centre_x_px) / self.camera.focal_x_px
        y = (rows + 0.5 - self.camera.centre_y_px) / self.camera.focal_y_px
        points = np.stack([x * depth, -y * depth, -depth], 1)
        return points @ self.world_from_camera[:3, :3].T + self.world_from_camera[:3, 3]

    def looks_through(self, points: np.ndarray, margin: float) -> np.ndarray:
        """Whether light comes from behind points [N, 3], by more than the margin in input units: [N] bool."""
        x, y, back = ((points - self.world_from_camera[:3, 3]) @ self.world_from_camera[:3, :3]).T
        z = np.where(back < 0, -back, np.inf)
        column = np.floor(x / z * self.camera.focal_x_px + self.camera.centre_x_px)
        row = np.floor(-y / z * self.camera.focal_y_px + self.camera.centre_y_px)
        height, width = self.depth.shape
        is_inside = (back < 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        passes = np.zeros(len(points), bool)
        rows = np.flatnonzero(is_inside)
        passes[rows] = self.depth[row[rows].astype(int), column[rows].astype(int)] > z[rows] + margin  # NaN is not
        return passes


def training_views(run: "Run", most: int) -> list[View]:
    """The training cameras; of more than `most`, those that stand and look most differently."""
    views = [view for view in run.views if view.split == "train"]
    if not views:
        raise DataError(f"{run.folder} has no training photo, so nothing says where its surface can be trusted: train it again.")
    poses = np.stack([view.world_from_camera for view in views])
    centres = poses[:, :3, 3] - poses[:, :3, 3].mean(0)
    places = np.concatenate([centres / max(np.abs(centres).max(), 1e-12), poses[:, :3, 2]], 1)  # [V, 6] where from, where to
    chosen, distance = [0], np.full(len(views), np.inf)
    while len(chosen) < min(most, len(views)):
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    return [views[i] for i in sorted(chosen)]


def depth_views(run: "Run", views: Sequence[View], focal_px: Callable[[View], float], box: "Box",
                on_view: Callable[[int], None]) -> list[DepthView]:
    """The pictures of some photos' places; light that passes the box goes through.

    Args:
        focal_px: how many pixels a radian gets; more than FINER times the photo's would tell nothing new.
        on_view: hears how many views are done.
    """
    model = _within(run, box)
    found = []
    for i, view in enumerate(views):
        focal = min(focal_px(view), FINER * _focal_of(view.camera))
        for camera, pose in _pinholes(view, focal):
            found.append(DepthView(camera, pose, _depth(run, model, view, camera, pose)))
        on_view(i + 1)
    return found


@dataclass(frozen=True)
class _Until(Space):
    """A space whose rays end where they leave a box for good."""

    centre: np.ndarray  # [3] scene coordinates
    axes: np.ndarray  # [3, 3] rows
    half_sizes: np.ndarray  # [3] scene units

    def limits(self, origins: Tensor, directions: Tensor, within: Limits | None = None) -> Limits:
        """See Space."""
        near, far = super().limits(origins, directions, within)
        axes, centre, half = (torch.as_tensor(a, dtype=origins.dtype, device=origins.device)
                              for a in (self.axes, self.centre, self.half_sizes))
        start, along = (origins - centre) @ axes.T, directions @ axes.T  # [R, 3]
        inverse = 1.0 / torch.where(along.abs() < 1e-12, 1e-12, along)
        first, second = (-half - start) * inverse, (half - start) * inverse
        enter, leave = torch.minimum(first, second).amax(1), torch.maximum(first, second).amin(1)
        return near, torch.where(enter < leave, torch.minimum(far, leave), near)


def _within(run: "Run", box: "Box") -> "RadianceModel":
    """The run's model, with nothing to see behind the box."""
    way = run.normalisation
    return run.model.within(_Until(run.is_bounded, way.to_scene(box.centre), box.axes, box.half_sizes * way.scale))


def _focal_of(camera: Camera) -> float:
    """Pixels that a photo has for a radian at its middle."""
    return camera.width / (2 * np.pi) if camera.lens.family == "equirectangular" else camera.focal_x_px


def _pinholes(view: View, focal: float) -> list[tuple[Camera, np.ndarray]]:
    """Pinholes, and their poses, that together see what the photo saw."""
    camera = view.camera
    x, y = (steps.ravel() for steps in torch.meshgrid(torch.linspace(0, camera.width, LATTICE, dtype=torch.float64),
                                                      torch.linspace(0, camera.height, LATTICE, dtype=torch.float64),
                                                      indexing="ij"))
    batch = CameraBatch.from_cameras([camera])
    directions, is_valid = batch.directions(torch.zeros(len(x), dtype=torch.int64), x, y)
    seen = directions[is_valid].numpy()
    ahead = -seen[:, 2:]
    if (ahead > 0).all() and (np.abs(seen[:, :2]) <= WIDEST * ahead).all():
        return [(_covering(seen[:, :2] / ahead, focal), view.world_from_camera)]
    found = []
    for side in SIDES:
        turned = seen @ side
        inside = np.abs(turned[:, :2]).max(1) < -turned[:, 2]
        if inside.any():
            pose = view.world_from_camera.copy()
            pose[:3, :3] = pose[:3, :3] @ side
            found.append((_covering(np.array([[-1.0, -1.0], [1.0, 1.0]]), focal), pose))
    return found


def _covering(tangents: np.ndarray, focal: float) -> Camera:
    """The pinhole that sees places [N, 2] (right, up) on the plane at distance 1."""
    low, high = tangents.min(0), tangents.max(0)
    width, height = (max(2, int(np.ceil(size - 1e-6))) for size in (high - low) * focal)
    return Camera(width, height, focal, focal, -low[0] * focal, high[1] * focal)


def _depth(run: "Run", model: "RadianceModel", view: View, camera: Camera, pose: np.ndarray) -> np.ndarray:
    """[H, W] float32 as in DepthView, NaN where the photo did not look."""
    device = model.ops.device
    pinhole, photo = (CameraBatch.from_cameras([one], device) for one in (camera, view.camera))
    poses = torch.tensor(run.normalisation.pose_to_scene(pose)[None], device=device)
    to_photo = torch.tensor(pose[:3, :3].T @ view.world_from_camera[:3, :3], device=device)
    pixels = torch.arange(camera.width * camera.height, device=device)
    depth = torch.full((len(pixels),), torch.nan, device=device)
    index = torch.zeros_like(pixels)
    directions, _ = pinhole.directions(index, pixels % camera.width + 0.5, pixels // camera.width + 0.5)
    _, _, is_seen = photo.project(index, directions @ to_photo)
    with torch.no_grad():
        for chunk in pixels[is_seen].split(CHUNK):
            rays = view_rays(pinhole, poses, 0, chunk // camera.width, chunk % camera.width)
            depth[chunk] = _surface(model.render(rays), FIRST_LIGHT[run.is_bounded], model.ops) * rays.z_per_distance
    depth = depth.cpu().numpy().reshape(camera.height, camera.width)
    return (depth / run.normalisation.scale).astype(np.float32)


def _surface(seen: Rendering, part: float, ops: Backend) -> Tensor:
    """[R] scene units: where a part of a ray's light is stopped; infinite where hardly any is at all, NaN in between."""
    return torch.where(seen.opacity <= EMPTY, torch.inf, distance_of_light(seen, part, ops))
