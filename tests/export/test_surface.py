"""The surface is where the solid ends, whichever way it is found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf_app.errors import DataError, ResourceError
from nerf_app.export import surface
from nerf_app.export.crop import Box
from nerf_app.export.depth_views import depth_views
from nerf_app.export.surface import Grid, density_surface, tsdf_surface
from nerf_app.scene.camera import Camera
from tests.export.shape_run import CAMERA, CENTRE, ball, edge_counts, quiet, shape_run, views_around
from tests.export.stand_in import FISHEYE, pose_looking, views_at

WAYS = [tsdf_surface, density_surface]


def cube(half: float = 1.3, centre: np.ndarray = CENTRE, axes: np.ndarray | None = None) -> Box:
    return Box(centre, np.eye(3) if axes is None else axes, np.full(3, half))


def turned_axes() -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0].T


def volume(mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]] - CENTRE for k in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


@pytest.mark.parametrize("axes", [np.eye(3), turned_axes()], ids=["straight", "turned"])
@pytest.mark.parametrize("way", WAYS)
def test_a_ball_becomes_a_closed_ball_of_its_size_seen_from_outside(way, axes):
    axes = axes * np.sign(np.linalg.det(axes))
    mesh = way(shape_run(views_around(), ball()), cube(axes=axes), 40, quiet)
    out = mesh.vertices - CENTRE
    radii = np.linalg.norm(out, axis=1)
    assert np.abs(radii - 1.0).mean() < 0.02 and np.abs(radii - 1.0).max() < 0.065  # a voxel is 0.065
    assert (edge_counts(mesh.faces) == 2).all()
    assert 0.93 < volume(mesh) / (4 / 3 * np.pi) < 1.06  # positive: counter-clockwise from outside
    assert (mesh.normals * out / radii[:, None]).sum(1).mean() > 0.98


@pytest.mark.parametrize("way", WAYS)
def test_a_ring_keeps_its_hole(way):
    def ring(points):
        across = torch.linalg.vector_norm(points[:, :2], dim=1) - 0.5
        return torch.hypot(across, points[:, 2]) - 0.14
    mesh = way(shape_run(views_around(24), ring), cube(1.5), 48, quiet)
    edges = edge_counts(mesh.faces)
    assert (edges == 2).all() and len(mesh.vertices) - len(edges) + len(mesh.faces) == 0


def test_between_a_thing_and_what_lies_behind_it_nothing_is_drawn():
    near, far = ball(0.2, (0.0, 0.0, 0.5)), ball(0.35, (0.0, 0.0, -0.4))
    run = shape_run(views_around(8, lowest=0.6), lambda points: torch.minimum(near(points), far(points)))
    mesh = tsdf_surface(run, cube(1.8), 48, quiet)
    points = torch.from_numpy((mesh.vertices - CENTRE) * 0.5)
    assert torch.minimum(near(points), far(points)).abs().max() < 0.04  # scene units; a voxel is 0.0375
    assert (near(points).abs() < 0.04).any() and (far(points).abs() < 0.04).any()


def test_where_no_camera_looks_the_surface_stays_open():
    mesh = tsdf_surface(shape_run(views_around(10, lowest=0.8), ball()), cube(), 32, quiet)
    assert (edge_counts(mesh.faces) == 1).any()
    assert mesh.vertices[:, 2].min() > CENTRE[2] - 0.75 < mesh.vertices[:, 2].max() - 1.5


def test_depth_spread_is_small_where_views_agree_and_grows_where_they_do_not():
    steady = tsdf_surface(shape_run(views_around(), ball()), cube(), 32, quiet).depth_spread
    run = shape_run(views_around(), ball())
    views = list(run.views)
    moved = views[3].world_from_camera.copy()
    moved[:3, 3] += 0.15 * moved[:3, 2]  # this one stands a little farther away than it says
    wrong = surface.depths_over(run, Grid.over(cube(), 32), quiet)
    object.__setattr__(wrong[3], "world_from_camera", moved)
    grid = Grid.over(cube(), 32)
    places = surface._near_surface(grid, wrong)
    weight, mean, square, _ = surface._fuse(grid, wrong, places, 1).unbind(1)
    known = weight > 0
    spread = (square / weight - (mean / weight) ** 2).clamp(min=0)[known].sqrt() * surface.TRUNCATION * grid.edge
    assert 0 <= np.median(steady) < 0.05 and np.isfinite(steady).all()
    assert spread.max() > 3 * np.median(steady)


@pytest.mark.parametrize("camera", [FISHEYE, Camera(96, 48, 1.0, 1.0, 48.0, 24.0, type(FISHEYE.lens)("equirectangular"))],
                         ids=["fisheye", "panorama"])
def test_depth_is_seen_through_wide_lenses_too(camera):
    views = views_at([pose_looking(CENTRE + (2.5, 0.0, 0.2), CENTRE + (0.0, 1.0, 0.0))], camera)
    seen = depth_views(shape_run(views, ball()), views, lambda view: 30.0, cube(1.9), lambda done: None)
    points = np.concatenate([view.points() for view in seen])
    assert len(points) > 50
    misses = np.abs(np.linalg.norm(points - CENTRE, axis=1) - 1.0)
    assert misses.mean() < 0.02 and misses.max() < 0.1  # most where a ray grazes
    assert len(seen) == (6 if camera.lens.family == "equirectangular" else 5)  # sides of a cube; none behind the fisheye


def test_a_lens_that_looks_past_its_own_middle_is_followed_to_where_it_looks():
    aside = replace(FISHEYE, centre_x_px=2.0)  # of 64: all to the right
    views = views_at([pose_looking(CENTRE + (2.5, 0.0, 0.2), CENTRE + (2.5, -3.0, 0.2))], aside)
    seen = depth_views(shape_run(views, ball()), views, lambda view: 30.0, cube(1.9), lambda done: None)
    assert len(np.concatenate([view.points() for view in seen])) > 300


def test_in_a_place_without_end_three_pictures_must_agree_on_a_surface():
    """Two photos that see what no other does may show a ghost; of an object that was cut out one photo is enough."""
    views = views_at([pose_looking(CENTRE + (0.6 * x, -3.5, 0.0), CENTRE) for x in (-0.5, 0.5)])
    for count, is_bounded, is_there in ((2, False, True), (3, False, False), (3, True, True)):
        some = (*views, *views_at([pose_looking(CENTRE + (0.0, 3.5, 0.0), CENTRE + (0.0, 9.0, 0.0))] * (count - 2)))
        run = shape_run(some, ball(), is_bounded)
        if is_there:
            assert len(tsdf_surface(run, cube(), 32, quiet).faces) > 200
        else:
            with pytest.raises(DataError, match="no surface in the crop"):
                tsdf_surface(run, cube(), 32, quiet)


def test_light_that_leaves_the_box_goes_through():
    views = views_around(1)
    small = Box(CENTRE + 1.4 * views[0].world_from_camera[:3, 2], np.eye(3), np.full(3, 0.2))  # before the ball
    (seen,) = depth_views(shape_run(views, ball()), views, lambda view: 40.0, small, lambda done: None)
    assert np.isinf(seen.depth).all()


def test_neighbours_are_averaged_one_two_one():
    values = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    for axis in range(3):
        expected = values.copy()
        for index in np.ndindex(values.shape):
            if 0 < index[axis] < values.shape[axis] - 1:
                step = np.eye(3, dtype=int)[axis]
                expected[index] = sum(w * values[tuple(index + s * step)] for w, s in ((0.25, -1), (0.5, 0), (0.25, 1)))
        np.testing.assert_allclose(surface._smoothed(values, axis), expected, rtol=1e-6)


def test_steps_and_points_undo_each_other():
    axes = turned_axes()
    grid = Grid.over(Box(CENTRE, axes, np.array([1.0, 0.5, 0.7])), 20)
    points = CENTRE + np.random.default_rng(0).normal(size=(9, 3))
    np.testing.assert_allclose(grid.points(grid.steps(points)), points)
    assert grid.counts == (21, 11, 15)
    assert np.allclose(grid.points(np.zeros((1, 3))), CENTRE + np.array([-1.0, -0.5, -0.7]) @ axes)


def test_a_resolution_that_does_not_fit_is_refused_with_one_that_does(monkeypatch):
    monkeypatch.setattr(surface, "free_memory", lambda: 2 << 30)
    words = r"a resolution of 1000 needs 40\.\d GB of memory .*2\.1 GB are free: use --resolution"
    with pytest.raises(ResourceError, match=words) as error:
        Grid.over(cube(), 1000)
    Grid.over(cube(), int(str(error.value).split("--resolution ")[1].split(",")[0]))
    assert np.prod(Grid.over(cube(), None).counts) == pytest.approx(surface.VOXELS, rel=0.02)


def test_free_memory_is_less_than_the_machine_has():
    assert 0 < surface.free_memory() < 1 << 50


@pytest.mark.parametrize("way", WAYS)
def test_a_box_in_which_nothing_is_says_what_to_do(way):
    run = shape_run(views_around(4), ball())
    with pytest.raises(DataError, match="no training photo sees anything opaque in the crop .*: move or widen --crop"):
        way(run, cube(0.1, CENTRE + 1.4), 16, quiet)


def test_progress_counts_the_views():
    heard = []
    tsdf_surface(shape_run(views_around(5), ball()), cube(), 16, lambda done, total: heard.append((done, total)))
    assert heard == [(i + 1, 5) for i in range(5)]


def test_a_view_that_nobody_trained_on_has_no_say():
    views = [*views_around(6), *(type(view)(view.name, CAMERA, view.world_from_camera, "test") for view in views_around(3))]
    heard = []
    tsdf_surface(shape_run(views, ball()), cube(), 16, lambda done, total: heard.append(total))
    assert set(heard) == {6}
