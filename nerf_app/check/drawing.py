"""A picture of cameras, points and box, from above and from the side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nerf_app.scene.camera import Camera
from nerf_app.scene.scene import Normalisation

PANEL, MARGIN, HEADING = 720, 40, 64  # pixels
FINE = 2  # drawn so much larger, then reduced: smooth lines
PAPER, INK, FAINT, POINT, BOX, GOOD, BAD = "#ffffff", "#222222", "#999999", "#8a7f70", "#2a6ea6", "#3c7a3c", "#c8402f"
LENGTH = 0.14  # of a camera's pyramid, in parts of the cameras' spread
MOST_POINTS = 20_000
EDGES = [(i, j) for i in range(8) for j in range(i) if bin(i ^ j).count("1") == 1]


@dataclass(frozen=True)
class Sketch:
    """What is drawn, in input coordinates."""

    poses: np.ndarray  # [V, 4, 4]
    cameras: Sequence[Camera]
    is_marked: np.ndarray  # [V] bool: a finding is about this photo
    up: np.ndarray  # [3] unit vector
    points: np.ndarray | None  # [M, 3]
    box: Normalisation | None  # whose cube is drawn


def draw(sketch: Sketch, title: str) -> np.ndarray:
    """[H, W, 3] uint8: above on the left, from the side on the right; up is up on the right."""
    east, north = _level_axes(sketch.up)
    image = Image.new("RGB", (2 * PANEL * FINE, (PANEL + HEADING) * FINE), PAPER)
    pen = ImageDraw.Draw(image)
    lines = _lines(sketch)
    ends = np.concatenate([places for places, _, _ in lines])
    middle = (ends.min(0) + ends.max(0)) / 2
    views = [(np.stack([east, -north]), "from above"), (np.stack([east, -sketch.up]), "from the side")]  # across, down the page
    reach = max(float(np.abs((ends - middle) @ axes.T).max()) for axes, _ in views) or 1.0
    scale = (PANEL / 2 - MARGIN) * FINE / reach
    for panel, (axes, name) in enumerate(views):
        centre = np.array([panel * PANEL + PANEL / 2, HEADING + PANEL / 2]) * FINE

        def to_page(places: np.ndarray, axes: np.ndarray = axes, centre: np.ndarray = centre) -> np.ndarray:
            return (places - middle) @ axes.T * scale + centre
        if sketch.points is not None and len(sketch.points):
            spots = to_page(sketch.points[::-(-len(sketch.points) // MOST_POINTS)])
            low, high = centre - PANEL / 2 * FINE, centre + PANEL / 2 * FINE
            for x, y in spots[((spots > low) & (spots < high)).all(1)]:
                pen.rectangle((x, y, x + FINE - 1, y + FINE - 1), POINT)
        for places, colour, width in lines:
            pen.line([tuple(place) for place in to_page(places)], colour, width * FINE)
        pen.text(((panel * PANEL + 12) * FINE, 38 * FINE), name, FAINT, ImageFont.load_default(15 * FINE))
    pen.line([(PANEL * FINE, HEADING * FINE), (PANEL * FINE, (PANEL + HEADING) * FINE)], FAINT, FINE)
    pen.text((12 * FINE, 10 * FINE), title, INK, ImageFont.load_default(18 * FINE))
    return np.asarray(image.resize((2 * PANEL, PANEL + HEADING), Image.Resampling.BOX))


def _level_axes(up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """East and north: level unit vectors, a right-handed frame with up; east is near the first axis that is level."""
    axis = next(axis for axis in np.eye(3) if abs(axis @ up) < 0.8)
    east = axis - (axis @ up) * up
    east /= np.linalg.norm(east)
    return east, np.cross(up, east)


def _lines(sketch: Sketch) -> list[tuple[np.ndarray, str, int]]:
    """(places [N, 3] in a row, colour, width) of box, cameras and axes."""
    lines = []
    if sketch.box is not None:
        corners = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)]) * 2.0 - 1.0
        corners = sketch.box.to_input(corners)
        lines += [(corners[[i, j]], BOX, 1) for i, j in EDGES]
    centres = sketch.poses[:, :3, 3]
    size = LENGTH * np.median(np.linalg.norm(centres - np.median(centres, 0), axis=1))
    for pose, camera, is_marked in zip(sketch.poses, sketch.cameras, sketch.is_marked, strict=True):
        x, y = (min(0.5 * side / focal, 1.0) for side, focal in ((camera.width, camera.focal_x_px),
                                                                 (camera.height, camera.focal_y_px)))
        rim = size * np.array([[-x, -y, -1.0], [x, -y, -1.0], [x, y, -1.0], [-x, y, -1.0]]) @ pose[:3, :3].T + pose[:3, 3]
        colour = BAD if is_marked else GOOD
        lines += [(np.stack([pose[:3, 3], corner]), colour, 1) for corner in rim]
        lines += [(rim[[0, 1]], colour, 1), (rim[[1, 2, 3, 0]], colour, 1)]
        lines.append((rim[[2, 3]], colour, 3))  # the picture's upper edge
    return lines
