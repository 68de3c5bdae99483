import numpy as np

from nerf_app.check.drawing import HEADING, PANEL, Sketch, draw
from nerf_app.scene.camera import Camera
from nerf_app.scene.scene import Normalisation
from tests.check.test_conventions import ring

CAMERA = Camera(60, 40, 60.0, 60.0, 30.0, 20.0)
UP = np.array([0.0, 0.0, 1.0])


def inked(picture, colour):
    """[H, W] bool: pixels in which one of red, green, blue is clearly the strongest."""
    values = picture.astype(int)
    others = [i for i in range(3) if i != colour]
    return values[..., colour] - values[..., others].max(-1) > 25


def test_cameras_points_and_box_lie_where_they_should_from_above_and_from_the_side():
    poses = ring()
    box = Normalisation(np.array([0.0, 0.0, 0.0]), 1.0)
    is_marked = np.arange(12) == 0
    picture = draw(Sketch(poses, [CAMERA] * 12, is_marked, UP, None, box), "a title")
    assert picture.shape == (PANEL + HEADING, 2 * PANEL, 3)
    above, side = picture[HEADING:, :PANEL], picture[HEADING:, PANEL + 2:]
    rows, columns = np.nonzero(inked(above, 2))  # the box seen from above is a square in the middle
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1 and abs(rows.mean() - PANEL / 2) < 12
    rows, columns = np.nonzero(inked(above, 0))  # the marked camera stands east: on the right
    assert columns.min() > 0.75 * PANEL and abs(rows.mean() - PANEL / 2) < 0.1 * PANEL
    rows, _ = np.nonzero(inked(side, 1))
    assert rows.mean() < np.nonzero(inked(side, 2))[0].mean()  # cameras stand above the box's middle, up is up


def test_a_scene_without_a_box_or_with_points_is_drawn_too():
    def drawn(points):
        return draw(Sketch(poses, [CAMERA] * 12, np.zeros(12, bool), UP, points, None), "")
    poses, points = ring(), np.random.uniform(-1, 1, (500, 3))
    plain = drawn(None)
    assert not inked(plain, 2).any() and (plain != drawn(points)).any(-1).sum() > 400
    assert (plain == drawn(points[:0])).all()  # a COLMAP model may have none
