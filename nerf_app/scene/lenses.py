"""Many cameras at once: where pixels look and where points fall, for every lens family, in float64.

A lens acts on *base* coordinates (a, b), x right and y down: for the perspective family the point on the plane z = 1,
for the fisheye family the point at distance theta from the axis. Bending takes them to *picture* coordinates, which
times the focal length plus the centre are pixels. Bending has a formula; its inverse needs Newton's method.

The radius of validity of a lens is the largest base radius up to which its radial map grows. Beyond it two directions
would share a pixel, so nothing is said there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import atan, hypot, inf, pi, sqrt

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from nerf_app.ops.lens import reference
from nerf_app.ops.lens.reference import bend, is_within
from nerf_app.scene.camera import Camera, Lens

PINHOLE, PERSPECTIVE, FISHEYE, FOV, EQUIRECTANGULAR = range(5)
STEEPEST = 1e4  # base radius at which the first guesses of a perspective lens end: 0.006 degrees from the image plane
GUESSES = 1024  # first guesses kept for each lens


@dataclass(frozen=True)
class CameraBatch:
    """Many cameras as tensors, a row for each view; each may have a family, size and coefficients of its own."""

    kinds: Tensor  # [V] int64, one of the five above
    size_px: Tensor  # [V, 2] width, height
    focal_px: Tensor  # [V, 2]
    centre_px: Tensor  # [V, 2]
    coefficients: Tensor  # [13, V] radial 4, denominator 3, tangential 2, prism 4
    omega: Tensor  # [V] radians
    valid_radius: Tensor  # [V] base units, may be infinite
    guesses: Tensor  # [V, GUESSES] base radius that a purely radial lens sends to picture radius i · guess_step
    guess_step: Tensor  # [V] picture units

    @classmethod
    def from_cameras(cls, cameras: Sequence[Camera], device: torch.device | str = "cpu") -> "CameraBatch":
        """The cameras in the given order. Works on each different camera once, however many views share it."""
        numbers = {camera: i for i, camera in enumerate(dict.fromkeys(cameras))}
        rows = [_camera_row(camera) for camera in numbers]
        which = torch.tensor([numbers[camera] for camera in cameras], dtype=torch.int64)
        columns = [torch.as_tensor(np.array(column))[which].to(device) for column in zip(*rows, strict=True)]
        batch = dict(zip([field.name for field in fields(cls)], columns, strict=True))
        return cls(**{**batch, "coefficients": batch["coefficients"].T.contiguous()})

    def directions(self, camera_indices: Tensor, x_px: Tensor, y_px: Tensor,
                   straighten: Callable[..., tuple[Tensor, Tensor]] = reference.straighten) -> tuple[Tensor, Tensor]:
        """Where pixels look: unit directions [R, 3] float64 in OpenGL camera axes, and is_valid [R] bool.

        Not valid: beyond the radius of validity, where Newton's method found nothing to 1e-10 px, and above or below
        a panorama. The direction there is a unit vector without meaning. `straighten` is of one of ops/lens.
        """
        pixels = torch.stack([x_px, y_px], 1).double()  # [R, 2]
        picture = (pixels - self.centre_px.index_select(0, camera_indices)) / self.focal_px.index_select(0, camera_indices)
        found, is_valid = pixels.new_zeros(len(pixels), 3), torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
        bent = None
        if PERSPECTIVE in self._kinds_present or FISHEYE in self._kinds_present:
            bent = straighten(picture, self._first_guess(camera_indices, picture), camera_indices, self.coefficients,
                              self.focal_px, self.valid_radius)
        for kind in self._kinds_present:  # each for all rays: on a device one would have to wait to hear which are its own
            ahead, is_known = self._look(kind, camera_indices, pixels, picture, bent)
            if len(self._kinds_present) == 1:
                found, is_valid = ahead, is_known
                break
            is_its = self.kinds[camera_indices] == kind
            found = torch.where(is_its[:, None], ahead, found)  # [R, 3] x right, y down, z ahead
            is_valid |= is_its & is_known
        found = torch.nn.functional.normalize(found, dim=1)
        return torch.cat([found[:, :1], -found[:, 1:]], 1), is_valid

    def _look(self, kind: int, cameras: Tensor, pixels: Tensor, picture: Tensor,
              bent: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """[R, 3] directions of any length and [R] whether they are known, were all lenses of this kind.

        `bent` is what straightening gives: base [R, 2] and is_found [R], the same for both kinds that need it.
        """
        if kind == PINHOLE:
            return _ahead(picture), torch.ones_like(cameras, dtype=torch.bool)
        if kind == FOV:
            return _unproject_fov(picture, self.omega[cameras])
        if kind == EQUIRECTANGULAR:
            return _unproject_equirectangular(pixels / self.size_px[cameras])
        base, is_found = bent
        return _ahead(base) if kind == PERSPECTIVE else _at_angle(base), is_found

    def project(self, camera_indices: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where points [R, 3] in OpenGL camera axes fall: x_px [R], y_px [R] float64, and is_visible [R] bool.

        Visible: in front of the lens, within its radius of validity, inside the image. Elsewhere the pixel is finite
        and, for lenses that see less than everything, without meaning.
        """
        points = points.double() * points.new_tensor([1.0, -1.0, -1.0], dtype=torch.float64)
        pixels = points.new_zeros(len(points), 2)
        is_seen = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        for kind, rows in self._rows_by_kind(camera_indices):
            cameras = camera_indices[rows]
            if kind == EQUIRECTANGULAR:
                share, is_seen[rows] = _project_equirectangular(points[rows])
                pixels[rows] = share * self.size_px[cameras]
                continue
            if kind == FOV:
                picture, is_seen[rows] = _project_fov(points[rows], self.omega[cameras])
            else:
                picture, is_seen[rows] = _angle_of(points[rows]) if kind == FISHEYE else _on_plane(points[rows])
            if kind in (PERSPECTIVE, FISHEYE):
                base = picture
                picture, jacobian = bend(self.coefficients[:, cameras], base)
                is_seen[rows] &= is_within(base, jacobian, self.valid_radius[cameras])
            pixels[rows] = picture * self.focal_px[cameras] + self.centre_px[cameras]
        pixels = pixels.nan_to_num(nan=-1.0, posinf=1e300, neginf=-1e300)
        is_inside = ((pixels >= 0) & (pixels <= self.size_px[camera_indices])).all(1)
        return pixels[:, 0], pixels[:, 1], is_seen & is_inside

    def _rows_by_kind(self, camera_indices: Tensor) -> list[tuple[int, Tensor | slice]]:
        """The kinds of lens that occur, each with its rays."""
        if len(self._kinds_present) == 1:
            return [(self._kinds_present[0], slice(None))]
        kinds = self.kinds[camera_indices]
        return [(kind, (kinds == kind).nonzero()[:, 0]) for kind in self._kinds_present]

    @cached_property
    def _kinds_present(self) -> list[int]:
        return torch.unique(self.kinds).tolist()  # once: on a device it waits for all that was launched before

    def _first_guess(self, cameras: Tensor, picture: Tensor) -> Tensor:
        """Base points [R, 2] close to the answer, on its near side: there Newton's method does not leap over a fold."""
        radius = torch.linalg.vector_norm(picture, dim=1)
        cell = (radius / self.guess_step[cameras]).long().clamp(max=GUESSES - 2)
        return picture * (self.guesses[cameras, cell] / radius.clamp(min=1e-300))[:, None]


def _camera_row(camera: Camera) -> tuple:
    """What CameraBatch keeps of one camera, in the order of its fields."""
    lens = camera.lens
    coefficients = (*lens.radial, *lens.denominator, *lens.tangential, *lens.prism)
    kind = {"perspective": PERSPECTIVE, "fisheye": FISHEYE, "fov": FOV, "equirectangular": EQUIRECTANGULAR}[lens.family]
    if (kind == PERSPECTIVE and not any(coefficients)) or (kind == FOV and lens.omega == 0):
        kind = PINHOLE
    radius, guesses, step = inf, np.zeros(GUESSES), 1.0
    if kind in (PERSPECTIVE, FISHEYE):
        radius = valid_radius(lens)
        guesses, step = _tabulate_inverse(camera, radius)
    return (kind, (float(camera.width), float(camera.height)), (float(camera.focal_x_px), float(camera.focal_y_px)),
            (float(camera.centre_x_px), float(camera.centre_y_px)), np.array(coefficients, float), float(lens.omega),
            radius, guesses, step)


def valid_radius(lens: Lens) -> float:
    """The largest base radius up to which r · radial(r²) / denominator(r²) grows; a fisheye's ends at pi at the latest.

    Its slope has the sign of (N + 2 s N') D - 2 s N D' with s = r²: the first root of that, or of D, is the end.
    """
    above, below = Polynomial([1.0, *lens.radial]), Polynomial([1.0, *lens.denominator])
    s = Polynomial([0.0, 1.0])
    slope = (above + 2 * s * above.deriv()) * below - 2 * s * above * below.deriv()
    roots = np.concatenate([slope.trim().roots(), below.trim().roots()])
    ends = [root.real for root in roots if root.real > 0 and abs(root.imag) <= 1e-6 * abs(root)]
    radius = sqrt(min(ends, default=inf))
    return min(radius, pi) if lens.family == "fisheye" else radius


def _tabulate_inverse(camera: Camera, radius: float) -> tuple[np.ndarray, float]:
    """Base radii [GUESSES] at evenly spaced picture radii as far as the image's corners, and their spacing."""
    lens = camera.lens
    above, below = Polynomial([1.0, *lens.radial]), Polynomial([1.0, *lens.denominator])
    if lens.family == "fisheye":
        base = np.linspace(0, radius, 16 * GUESSES, endpoint=False)
    else:
        base = np.tan(np.linspace(0, atan(min(radius, STEEPEST)), 16 * GUESSES, endpoint=False))
    picture = base * above(base**2) / below(base**2)
    corners = [hypot((x - camera.centre_x_px) / camera.focal_x_px, (y - camera.centre_y_px) / camera.focal_y_px)
               for x in (0, camera.width) for y in (0, camera.height)]
    reach = min(picture[-1], 1.1 * max(corners))  # a tenth more: tangential terms may push outwards
    steps, step = np.linspace(0, reach, GUESSES, retstep=True)
    return np.interp(steps, picture, base), float(step)


def _ahead(base: Tensor) -> Tensor:
    """Points of the plane z = 1: [R, 2] -> [R, 3]."""
    return torch.cat([base, torch.ones_like(base[:, :1])], 1)


def _on_plane(points: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `_ahead`: [R, 3] -> [R, 2], and whether they lie in front."""
    depth = points[:, 2]
    return points[:, :2] / torch.where(depth > 0, depth, 1.0)[:, None], depth > 0


def _at_angle(base: Tensor) -> Tensor:
    """Base points of a fisheye -> unit directions [R, 3]."""
    theta = torch.linalg.vector_norm(base, dim=1)
    return torch.cat([base * torch.sinc(theta / pi)[:, None], torch.cos(theta)[:, None]], 1)


def _angle_of(points: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `_at_angle`: [R, 3] -> [R, 2], and whether there is one (not exactly behind, not the centre)."""
    across = torch.linalg.vector_norm(points[:, :2], dim=1)
    theta = torch.atan2(across, points[:, 2])
    return points[:, :2] * (theta / across.clamp(min=1e-300))[:, None], (across > 0) | (points[:, 2] > 0)


def _unproject_fov(picture: Tensor, omega: Tensor) -> tuple[Tensor, Tensor]:
    """Devernay and Faugeras' lens, r = tan(r' omega) / (2 tan(omega / 2)): its own closed inverse. [R, 3], is_valid."""
    angle = torch.linalg.vector_norm(picture, dim=1) * omega
    across = picture * (omega * torch.sinc(angle / pi) / (2 * torch.tan(omega / 2)))[:, None]
    return torch.cat([across, torch.cos(angle)[:, None]], 1), angle.abs() < pi / 2


def _project_fov(points: Tensor, omega: Tensor) -> tuple[Tensor, Tensor]:
    across = torch.linalg.vector_norm(points[:, :2], dim=1)
    angle = torch.atan2(2 * across * torch.tan(omega / 2), points[:, 2])
    centre = 2 * torch.tan(omega / 2) / (omega * torch.where(points[:, 2] > 0, points[:, 2], 1.0))
    scale = torch.where(across > 0, angle / (omega * across.clamp(min=1e-300)), centre)
    return points[:, :2] * scale[:, None], points[:, 2] > 0


def _unproject_equirectangular(share: Tensor) -> tuple[Tensor, Tensor]:
    """Parts of the width and height -> directions [R, 3]: the middle looks ahead, x is longitude, y down is latitude."""
    longitude, latitude = 2 * pi * (share[:, 0] - 0.5), pi * (share[:, 1] - 0.5)
    across = torch.cos(latitude)
    direction = torch.stack([torch.sin(longitude) * across, torch.sin(latitude), torch.cos(longitude) * across], 1)
    return direction, latitude.abs() <= pi / 2


def _project_equirectangular(points: Tensor) -> tuple[Tensor, Tensor]:
    x, y, z = points.unbind(1)
    across = torch.hypot(x, z)
    share = torch.stack([torch.atan2(x, z) / (2 * pi), torch.atan2(y, across) / pi], 1) + 0.5
    return share, (across > 0) | (y != 0)
