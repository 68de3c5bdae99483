"""Held to a ball, whose areas and directions are known."""

import math

import numpy as np
import pytest

from nerf_app.export.mesh import Mesh
from nerf_app.report.coverage import BANDS, BINS, SECTORS, corner_areas, coverage, map_axes
from tests.report.stand_in import a_run, a_scene, ball
from tests.sphere import CENTRE, RADIUS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coverage")
    return a_run(folder, a_scene(folder))


def seen_by(views) -> Mesh:
    """The ball, each corner seen by as many photos as `views` says of its normal."""
    vertices, faces, normals = ball(60)
    return Mesh(vertices, faces, normals, views=np.broadcast_to(views(normals), len(vertices)).astype(np.int32))


def test_corners_share_the_whole_area():
    mesh = seen_by(lambda normals: 0)
    assert math.isclose(corner_areas(mesh).sum(), 4.0 * math.pi * RADIUS**2, rel_tol=2e-3)


def test_parts_are_those_of_the_area_not_of_the_corners(run):
    edge = math.cos(math.radians(58.5))  # between two rings of corners, of which there are as many near the pole as anywhere
    cap = (1.0 - edge) / 2.0
    found = coverage(run, seen_by(lambda normals: np.where(normals[:, 2] > edge, 0, 7)))
    assert np.allclose(found.parts, [cap, 0.0, 0.0, 0.0, 1.0 - cap, 0.0], atol=1e-3)
    assert math.isclose(found.few, cap, abs_tol=1e-3)


@pytest.mark.parametrize("views, place", [(0, 0), (1, 1), (2, 2), (3, 3), (5, 3), (6, 4), (10, 4), (11, 5), (100_000, 5)])
def test_a_number_of_photos_falls_into_the_bin_that_names_it(run, views, place):
    assert math.isclose(coverage(run, seen_by(lambda normals: views)).parts[place], 1.0)
    assert len(BINS) == 6


@pytest.mark.parametrize("direction, band", [((0, 0, -1), "from below"), ((0, 0, 1), "from above"), ((1, 0, 0.2), "at eye level"),
                                             ((0, -1, 0.2), "at eye level"), ((-1, 0, -0.3), "from low down"),
                                             ((0, 1, 1), "from higher up")])
def test_advice_names_the_way_that_the_unseen_surface_faces(run, direction, band):
    unit = np.array(direction) / np.linalg.norm(direction)
    found = coverage(run, seen_by(lambda normals: np.where(normals @ unit > 0.99, 1, 20)))
    assert found.advice[0].band == band
    if band not in ("from below", "from above"):
        off = found.advice[0].azimuth - math.atan2(unit[1], unit[0])
        assert abs(math.remainder(off, 2 * math.pi)) < 0.2
        near = next(view for view in run.views if view.name == found.advice[0].near)
        train = [view for view in run.views if view.split == "train"]
        turned = [(view.world_from_camera[:3, 3] - CENTRE) @ unit for view in train]
        assert near in train and (near.world_from_camera[:3, 3] - CENTRE) @ unit > max(turned) - 0.6
        assert int(np.argmax(found.map.missing)) == int(math.atan2(unit[1], unit[0]) % (2 * math.pi) / (2 * math.pi) * SECTORS)


def test_there_is_no_advice_where_all_is_seen(run):
    found = coverage(run, seen_by(lambda normals: 3))
    assert found.advice == () and found.few == 0.0 and not found.map.missing.any() and not found.map.is_thin.any()


def test_the_map_shows_cameras_where_they_stand_and_look(run):
    seen = coverage(run, seen_by(lambda normals: 3)).map
    assert np.allclose(np.linalg.norm(seen.cameras, axis=1).max(), 1.0) and seen.is_inward
    assert (np.sum(seen.cameras * seen.looks, axis=1) < 0).all()  # inwards
    assert np.abs(seen.surface).max() < 0.3  # the ball is a fifth of the cameras' distance


@pytest.mark.parametrize("up", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, -1), (0.6, 0.0, 0.8), (-1, 0, 0)])
def test_the_maps_axes_are_right_handed_whatever_is_up(up):
    axes = map_axes(np.array(up, float))
    assert np.allclose(axes @ axes.T, np.eye(3)) and np.isclose(np.linalg.det(axes), 1.0) and np.allclose(axes[2], up)


def test_bands_cover_all_elevations_without_a_gap():
    assert BANDS[0][1] == -90 and BANDS[-1][2] == 90
    assert all(below[2] == above[1] for below, above in zip(BANDS, BANDS[1:]))
