"""One box, given, found, or refused."""

import numpy as np
import pytest
import torch

from nerf_app.errors import DataError, UsageError
from nerf_app.export.crop import Box, parse_crop
from tests.export.shape_run import CENTRE, SCALE, ball, shape_run, views_around
from tests.export.stand_in import pose_looking, views_at


def on_a_floor(points: torch.Tensor) -> torch.Tensor:
    """A ball of radius 0.3 that stands on a slope, scene units."""
    slope = points @ points.new_tensor(UP) + 0.3
    return torch.minimum(ball(0.3)(points), slope)


UP = np.array([0.2, 0.0, 1.0]) / np.linalg.norm([0.2, 0.0, 1.0])


def test_six_numbers_are_the_two_corners():
    run = shape_run(views_around(3), ball())
    points = np.random.default_rng(0).uniform(-2, 4, (500, 3))
    low, high = np.array([-1, 0, 1.5]), np.array([1, 2.5, 3])
    for text in ("-1 0 1.5 1 2.5 3", "-1, 0, 1.5, 1, 2.5, 3"):
        expected = ((points >= low) & (points <= high)).all(1)
        np.testing.assert_array_equal(parse_crop(text, run).contains(points), expected)


@pytest.mark.parametrize("text", ["", "1 2 3", "0 0 0 1 1 nan", "0 0 0 1 1 0", "a b c d e f", "0 0 0 1 1 1 1", "object"])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match="--crop must be auto or six numbers x0 y0 z0 x1 y1 z1"):
        parse_crop(text, shape_run(views_around(3), ball()))


def test_a_turned_box_holds_what_lies_between_its_sides():
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    box = Box(CENTRE, axes, np.array([1.0, 2.0, 0.5]))
    inside = CENTRE + np.array([[0.99, -1.99, 0.49], [1.01, 0, 0], [0, 2.01, 0], [0, 0, -0.51]]) @ axes
    assert box.contains(inside).tolist() == [True, False, False, False]
    assert str(box) == "box of 2 × 4 × 1 input units around (10, -4, 2)"


@pytest.mark.parametrize("text", [None, "auto"])
def test_a_bounded_scenes_box_fits_what_is_there(text):
    box = parse_crop(text, shape_run(views_around(12), ball(0.4, (0.1, 0.0, -0.2))))
    np.testing.assert_allclose(box.centre, CENTRE + np.array([0.1, 0.0, -0.2]) / SCALE, atol=0.04)
    np.testing.assert_allclose(box.half_sizes, 0.4 / SCALE * 1.06, rtol=0.05)
    assert box.contains(box.centre + 0.4 / SCALE * np.vstack([np.eye(3), -np.eye(3)])).all()


def test_an_unbounded_scenes_box_stays_in_its_cube():
    box = parse_crop(None, shape_run(views_around(10, lowest=0.2), on_a_floor, is_bounded=False))
    assert (np.abs(box.centre - CENTRE) + box.half_sizes < 1.15 / SCALE).all()
    assert box.half_sizes[:2].min() > 0.8 / SCALE  # the floor goes on to its end


def test_auto_finds_the_thing_and_leaves_out_what_it_stands_on():
    box = parse_crop("auto", shape_run(views_around(24, lowest=0.25), on_a_floor, is_bounded=False))
    directions = np.random.default_rng(0).normal(size=(2000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    upper = CENTRE + 0.3 / SCALE * directions[directions @ UP > -0.6]
    assert box.contains(upper).all()
    across = np.linalg.svd(UP[None])[2][1:]
    floor = CENTRE - 0.3 / SCALE * UP + np.random.default_rng(1).uniform(-2, 2, (2000, 2)) @ across
    assert not box.contains(floor).any()
    assert box.half_sizes.max() < 0.45 / SCALE
    np.testing.assert_allclose(np.abs(box.axes @ UP).max(), 1.0, atol=2e-3)
    np.testing.assert_allclose(box.axes @ box.axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(box.axes) > 0


def test_auto_takes_the_thing_in_the_middle_and_not_its_neighbour():
    def two(points):
        return torch.minimum(ball(0.25)(points), ball(0.3, (0.75, 0.0, 0.0))(points))
    box = parse_crop("auto", shape_run(views_around(16), two))
    assert np.abs(box.centre - CENTRE).max() < 0.1 and box.half_sizes.max() < 0.32 / SCALE


def test_auto_needs_cameras_that_look_at_one_thing():
    poses = [pose_looking(CENTRE + 0.2 * np.array([np.cos(a), np.sin(a), 0]), CENTRE + 3 * np.array([np.cos(a), np.sin(a), 0.1]))
             for a in 2 * np.pi * np.arange(8) / 8]
    with pytest.raises(DataError, match="--crop auto needs cameras that look at one thing, and only 0 % of these do: give"):
        parse_crop("auto", shape_run(views_at(poses), ball()))


@pytest.mark.parametrize("text", [None, "auto"])
def test_an_empty_field_says_so(text):
    with pytest.raises(DataError, match="run shows nothing opaque to any training photo: train longer"):
        parse_crop(text, shape_run(views_around(4), lambda points: 1.0 + 0.0 * points[:, 0]))
