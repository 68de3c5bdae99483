"""Chooses the scene's cube: which part of the input coordinates becomes [-1, 1]³.

A *bounded* scene has nothing outside its cube: an object whose silhouettes are known. An *unbounded* one has its
middle in the cube, about as far as the cameras reach, and the rest of the world around it. All work is done in a
frame of the cameras' own (their median centre is the origin, the farthest camera is at distance 1), so that offsets
of a million metres and scales of a millionth change nothing but the returned Normalisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nerf_app.errors import DataError
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import Normalisation

Silhouettes = list[tuple[int, np.ndarray]]  # view index, [h, w] bool: True where the object is

MOST = 0.9  # part of the photos that must have a silhouette for a scene to count as bounded
DISAGREEING = 0.07  # part of the silhouettes that may deny a cell and be wrong
SEEN_BY = 0.05  # part of the silhouettes that must have a cell in view, at least three
ROUNDS = (24, 24, 24, 32)  # cells along each edge of the box that is carved, again and again
REACH_PX = 16  # distances from a silhouette are known up to here; a cell that looks larger is denied only off the picture
MARGIN = 1.02  # of the cube around what was carved
FARTHEST = 1.5  # scene units at which the outermost camera may stand
LARGEST = 1e100  # number in a pose: its square is still one
STRAY = 1e6  # scene units: float32 tells places there apart by a sixteenth
SPREAD, FLAT = 0.02, 0.1  # mean squares: of axes that point in many directions, and beside it of those in one plane
ROLLED = 0.2  # length of the cameras' mean up, below which it says nothing
DEEPEST = 6.0  # far / near of the slab that forward-facing photos get; what lies behind is contracted


@dataclass(frozen=True)
class Cube:
    centre: np.ndarray  # [3]
    half: float  # half an edge


def choose_normalisation(poses: np.ndarray, batch: CameraBatch, points: np.ndarray | None, silhouettes: Silhouettes | None,
                         space: str, depth_range: tuple[float, float] | None = None,
                         ) -> tuple[Normalisation, bool, list[str]]:
    """The way into scene coordinates, whether nothing lies outside the cube, and what to tell the user, a line each.

    Args:
        poses: [V, 4, 4] world_from_camera, input coordinates, in the order of `batch`.
        points: [M, 3] sparse points, input coordinates.
        silhouettes: reduced pictures; a pixel should count as opaque when any of it is, or thin parts are carved off.
        space: "auto", "box" or "unbounded".
        depth_range: near and far along the optical axes, input units, where the files state them (LLFF).
    """
    poses = np.asarray(poses, np.float64)
    frame = _cameras_frame(poses)
    poses = frame.pose_to_scene(poses)
    if points is not None:
        points = frame.to_scene(points)
        points = points[np.isfinite(points).all(1)]
        points = points if len(points) >= 10 and np.ptp(points, axis=0).any() else None
    if depth_range is not None:
        depth_range = (depth_range[0] * frame.scale, depth_range[1] * frame.scale)
    telling = [(view, opaque) for view, opaque in silhouettes or () if not opaque.all()]
    is_bounded = space == "box" or (space == "auto" and len(telling) >= MOST * len(poses))
    around, what = _unbounded_cube(poses, batch, points, depth_range)
    if is_bounded:
        around, what = _bounded_cube(poses, batch, points, telling, around)
    normalisation = Normalisation(frame.to_input(around.centre), frame.scale / around.half)
    where = ", ".join(f"{value:.5g}" for value in normalisation.centre)
    kind = "bounded" if is_bounded else "unbounded"
    note = f"space: {kind}, {what}; cube of {2 / normalisation.scale:.4g} input units around ({where})"
    return normalisation, is_bounded, [note]


def check_reach(names: Sequence[str], poses: np.ndarray, normalisation: Normalisation) -> None:
    """DataError where cameras stand so far from the scene that no number tells what they see. `poses` [V, 4, 4] as stated."""
    with np.errstate(over="ignore"):
        far = np.flatnonzero(~(np.abs(normalisation.pose_to_scene(poses)[:, :3, 3]).max(1) < STRAY))
    if len(far):
        raise DataError(f"{len(far)} of {len(poses)} cameras stand more than {STRAY / 2:,.0f} times as far away as the scene is "
                        f"wide, first that of {shown(names[far[0]])}: correct their poses or delete these entries.")


def estimate_up(poses: np.ndarray) -> np.ndarray:
    """The direction [3] that is up in the photos.

    Who walks around holds the horizon level, so that the cameras' right lies flat however they are pitched, or their own up
    where all photos are turned by a quarter. Where neither is flat: the middle of the cameras' ups, or of cameras that are
    rolled all over the normal of the plane that their centres lie in. A sign that no up tells is that of looking down.
    """
    poses = np.asarray(poses, np.float64)
    ups, backs = poses[:, :3, 1].mean(0), poses[:, :3, 2].mean(0)
    level = [np.linalg.eigh(axes.T @ axes / len(poses)) for axes in (poses[:, :3, 0], poses[:, :3, 1])]  # of right and of up
    flat = [(sizes[0] / sizes[1], vectors[:, 0]) for sizes, vectors in level if sizes[1] > SPREAD and sizes[0] < FLAT * sizes[1]]
    if flat:
        up = min(flat, key=lambda one: one[0])[1]
    elif np.linalg.norm(ups) < ROLLED:
        centres = poses[:, :3, 3] - poses[:, :3, 3].mean(0)
        up = np.linalg.svd(centres)[2][2]
    else:
        up = _geometric_median(poses[:, :3, 1])
        up /= np.linalg.norm(up)
    says = ups @ up if abs(ups @ up) > ROLLED else backs @ up or ups @ up
    return up if says >= 0 else -up


def focus_point(poses: np.ndarray) -> np.ndarray:
    """The point [3] that the optical axes pass nearest to, in the sum of distances, so that a few strays do no harm.

    Where the axes are parallel any point along them would do: it is then the one nearest to the cameras.
    """
    poses = np.asarray(poses, np.float64)
    middle = np.median(poses[:, :3, 3], 0)
    spread = np.linalg.norm(poses[:, :3, 3] - middle, axis=1).max()
    centres, forwards = (poses[:, :3, 3] - middle) / (spread or 1.0), -poses[:, :3, 2]
    across = np.eye(3) - forwards[:, :, None] * forwards[:, None]  # [V, 3, 3] takes away what lies along an axis
    weights = np.ones(len(poses))
    for _ in range(30):  # least squares again and again, each axis weighted by 1 / distance
        parts = weights[:, None, None] * across
        system = parts.sum(0) + 1e-9 * weights.sum() * np.eye(3)
        point = np.linalg.solve(system, (parts @ centres[:, :, None]).sum(0)[:, 0])
        distance = np.linalg.norm((across @ (point - centres)[:, :, None])[..., 0], axis=1)
        weights = 1 / np.maximum(distance, 1e-3)
    return middle + point * (spread or 1.0)


def _cameras_frame(poses: np.ndarray) -> Normalisation:
    """The cameras' own frame; DataError where poses are no set of views to learn a scene from."""
    bad = np.flatnonzero(~(np.abs(poses) < LARGEST).all((1, 2)))
    if len(bad):
        raise DataError(f"camera poses must be finite numbers below {LARGEST:g}: {len(bad)} of {len(poses)} are not, first that "
                        f"of photo number {bad[0] + 1}: correct or delete these entries.")
    if len(poses) < 3:
        raise DataError(f"training needs 3 distinct views, {len(poses)} are left for it: mend photos that cannot be used, "
                        "or keep fewer for the test.")
    centres = poses[:, :3, 3]
    middle = np.median(centres, 0)
    spread = float(np.linalg.norm(centres - middle, axis=1).max())
    if spread <= 1e-9 * np.abs(centres).max():
        where = ", ".join(f"{value:.5g}" for value in middle)
        raise DataError(f"cameras must stand apart from each other, but all {len(poses)} that train are at ({where}): photos "
                        "turned on the spot hold no depth: take some from other places, or correct the poses (are they "
                        "camera-to-world?).")
    frame = Normalisation(middle, 1 / spread)
    distinct = len(np.unique(frame.pose_to_scene(poses)[:, :3].reshape(len(poses), 12).round(6), axis=0))
    if distinct < 3:
        raise DataError(f"training needs 3 distinct views, but its {len(poses)} poses are only {distinct} different ones: "
                        "add photos, or correct the poses.")
    return frame


def _unbounded_cube(poses: np.ndarray, batch: CameraBatch, points: np.ndarray | None,
                    depth_range: tuple[float, float] | None) -> tuple[Cube, str]:
    """The cube whose surroundings will be contracted, by how the cameras stand, and that in words."""
    centres, forwards = poses[:, :3, 3], -poses[:, :3, 2]
    focus = focus_point(poses)
    distances = np.linalg.norm(focus - centres, axis=1)
    cosines = ((focus - centres) * forwards).sum(1) / np.maximum(distances, 1e-12)
    if np.linalg.norm(forwards.mean(0)) > 0.9:
        cube, what = _slab(poses, batch, points, depth_range), "cameras that look the same way"
    elif (cosines > np.cos(np.pi / 4)).mean() > 0.8:
        cube, what = Cube(focus, _most(distances)), "cameras that look at one place"
    else:
        middle = np.median(centres, 0)
        half = 3 * _most(np.linalg.norm(centres - middle, axis=1))
        if points is not None:
            half = np.percentile(np.abs(points - middle).max(1), 80)
        cube, what = Cube(middle, float(half)), "cameras that look around"
    outermost = float(np.abs(centres - cube.centre).max()) / FARTHEST
    half = max(cube.half, min(outermost, 2 * cube.half)) or outermost  # one stray camera may not shrink all the rest
    return Cube(cube.centre, half), what


def _most(distances: np.ndarray) -> float:
    """What 90 % of them stay under. None between two of them: of ten cameras, a stray one would count for a tenth."""
    return float(np.percentile(distances, 90, method="lower"))


def _slab(poses: np.ndarray, batch: CameraBatch, points: np.ndarray | None, depth_range: tuple[float, float] | None) -> Cube:
    """What cameras see that all look the same way: from the nearest content to the farthest, within limits."""
    middle = np.median(poses[:, :3, 3], 0)
    axis = _geometric_median(-poses[:, :3, 2])
    axis /= np.linalg.norm(axis)
    depths = np.zeros(0) if points is None else (points - middle) @ axis
    if (depths > 0).sum() >= 10:
        near, far = np.percentile(depths[depths > 0], [5, 90])
    elif depth_range is not None and 0 < depth_range[0] < depth_range[1] < np.inf:
        near, far = depth_range
    else:
        depth = (focus_point(poses) - middle) @ axis
        depth = depth if 1 < depth < 100 else 6.0  # nothing crosses: handheld photos step about a sixth of the distance
        near, far = depth / 2, depth * 2
    far = min(far, near * DEEPEST)
    depth = (near + far) / 2
    return Cube(middle + depth * axis, float(max((far - near) / 2, depth * np.median(_view_tangents(batch)))))


def _bounded_cube(poses: np.ndarray, batch: CameraBatch, points: np.ndarray | None, silhouettes: Silhouettes,
                  around: Cube) -> tuple[Cube, str]:
    """The cube that holds everything, and how it was found."""
    if len(silhouettes) >= 3:
        box = _carve(poses, batch, silhouettes, around)
        if box is not None:
            return _cube_of(*box), f"carved from {len(silhouettes)} silhouettes"
    elif points is not None:
        return _cube_of(*np.percentile(points, [1, 99], axis=0)), f"around {len(points)} points"
    focus = focus_point(poses)
    distance = np.median(np.linalg.norm(poses[:, :3, 3] - focus, axis=1))
    what = "the silhouettes have no place in common, so what the cameras look at" if silhouettes else "what the cameras look at"
    return Cube(focus, float(distance * np.median(_view_tangents(batch)))), what


def _cube_of(low: np.ndarray, high: np.ndarray) -> Cube:
    return Cube((low + high) / 2, float((high - low).max() / 2 * MARGIN))


def _carve(poses: np.ndarray, batch: CameraBatch, silhouettes: Silhouettes, around: Cube) -> tuple[np.ndarray, np.ndarray] | None:
    """The box (low [3], high [3]) of the cells that the silhouettes leave, or None when they leave nothing.

    Each round divides the box that the last one left, so that an object that is small among far cameras is found too.
    """
    order = np.argsort(np.arange(len(silhouettes)) * 0.618034 % 1)  # neighbours are alike: far apart views carve sooner
    distances = [(silhouettes[i][0], _distance_px(silhouettes[i][1])) for i in order]
    low, high = around.centre - 1.2 * around.half, around.centre + 1.2 * around.half
    for cells in ROUNDS:
        edge = (high - low) / cells
        steps = np.stack(np.meshgrid(*[np.arange(cells) + 0.5] * 3, indexing="ij"), -1).reshape(-1, 3)
        left = _uncarved(low + steps * edge, float(np.linalg.norm(edge) / 2), poses, batch, distances)
        if len(left) == 0:
            return None
        low, high = left.min(0) - edge / 2, left.max(0) + edge / 2
    return left.min(0), left.max(0)  # a cell is left when its ball is touched, so the centres reach far enough


def _uncarved(cells: np.ndarray, radius: float, poses: np.ndarray, batch: CameraBatch,
              distances: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Those of the cells [N, 3], balls of the radius, that enough views have in sight and hardly any of them denies."""
    judged, denied = np.zeros(len(cells), int), np.zeros(len(cells), int)
    for view, distance in distances:
        points = (cells - poses[view, :3, 3]) @ poses[view, :3, :3]
        is_judged, is_denied = _judge(points, radius, batch, view, distance)
        judged += is_judged
        denied += is_denied
        keep = denied <= DISAGREEING * len(distances)
        cells, judged, denied = cells[keep], judged[keep], denied[keep]
    return cells[(denied <= DISAGREEING * judged) & (judged >= max(3, SEEN_BY * len(distances)))]


def _judge(points: np.ndarray, radius: float, batch: CameraBatch, view: int,
           distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What one view says of balls around points [N, 3] in its camera's axes: is_judged, is_denied, each [N].

    It denies a ball when the silhouette lies farther away than the ball reaches in the picture. A silhouette that
    keeps clear of the picture's edge shows the whole object: it denies what is out of sight too. How far a ball
    reaches is found by projecting points beside its centre, which holds for any lens.
    """
    edge = np.array(distance.shape[::-1])[:, None]  # [2, 1] reduced width, height
    to_picture = edge / batch.size_px[view].cpu().numpy()[:, None]

    def project(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        indices = torch.full((len(points),), view, device=batch.kinds.device)
        x, y, is_seen = batch.project(indices, torch.from_numpy(points).to(batch.kinds.device))
        return torch.stack([x, y]).cpu().numpy() * to_picture, is_seen.cpu().numpy()

    pixels, is_seen = project(points)  # [2, N] x, y
    right, down = (np.abs(project(points + radius * np.eye(3)[axis])[0] - pixels) for axis in (0, 1))
    reach = np.maximum(np.maximum(*right), np.maximum(*down))
    column, row = np.clip(pixels, 0, edge - 1).astype(int)
    is_near = np.maximum(*np.abs(pixels - np.clip(pixels, 0, edge))) <= reach
    border = min(distance[0].min(), distance[-1].min(), distance[:, 0].min(), distance[:, -1].min())
    is_whole = border > distance.min() == 0  # an empty picture may look elsewhere
    is_judged = is_seen | is_whole
    return is_judged, is_judged & ~(is_near & (distance[row, column] <= np.ceil(reach)))


def _distance_px(opaque: np.ndarray) -> np.ndarray:
    """How far each pixel is from the silhouette, in steps to any of 8 neighbours: [h, w] int, REACH_PX + 1 and more as that."""
    grown = torch.from_numpy(np.asarray(opaque)).float()[None, None]
    distance = torch.zeros_like(grown)
    for _ in range(REACH_PX + 1):
        distance += 1 - grown
        grown = torch.nn.functional.max_pool2d(grown, 3, stride=1, padding=1)
    return distance[0, 0].numpy().astype(int)


def _view_tangents(batch: CameraBatch) -> np.ndarray:
    """[V] the tangent of each camera's half angle of view, mean of the four edges, at most 1 (45 degrees)."""
    cameras = torch.arange(len(batch.kinds), device=batch.kinds.device)
    angles = []
    for across, down in ((0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0)):
        width, height = batch.size_px.unbind(1)
        directions, is_valid = batch.directions(cameras, across * width, down * height)
        angle = torch.acos(-directions[:, 2].clamp(-1, 1)).clamp(max=np.pi / 4)
        angles.append(torch.where(is_valid, angle, np.pi / 4))
    return torch.tan(torch.stack(angles)).mean(0).cpu().numpy()


def _geometric_median(vectors: np.ndarray) -> np.ndarray:
    """The point [D] with the least sum of distances to the vectors [V, D] (Weiszfeld's iteration)."""
    point = vectors.mean(0)
    for _ in range(30):
        weights = 1 / np.maximum(np.linalg.norm(vectors - point, axis=1), 1e-6)
        point = weights @ vectors / weights.sum()
    return point
