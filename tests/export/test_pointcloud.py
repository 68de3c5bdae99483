import dataclasses
import os

import numpy as np
import pytest
import trimesh

from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.export.pointcloud import PointCloud, fuse_points, write_ply, write_point_cloud
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.scene import View
from tests.analytic import UNBOUNDED, AnalyticField, fog
from tests.export.analytic_run import CENTRE, SCALE, field_run
from tests.export.stand_in import ring

CAMERA = Camera(60, 60, 110.0, 110.0, 30.0, 30.0)
FISHEYE = Camera(60, 60, 100.0, 100.0, 30.0, 30.0, Lens("fisheye", (0.05, 0.0, 0.0, 0.0)))
QUIET = lambda done, total: None  # noqa: E731


def around(camera=CAMERA, split="train"):
    poses = [pose for height in (-0.6, 0.5) for pose in ring(8, elevation=height, centre=CENTRE)]
    return [View(f"{i:02}.png", camera, pose, split) for i, pose in enumerate(poses)]


@pytest.fixture(scope="module", params=[CAMERA, FISHEYE], ids=["pinhole", "fisheye"])
def cloud(request):
    return fuse_points(field_run(around(request.param), samples=400), 5000, None, QUIET)


def test_points_lie_on_the_ball_all_round_with_outward_normals_and_its_colours(cloud):
    out = cloud.points - CENTRE
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1.0, atol=0.015)
    assert (cloud.normals * out).sum(1).min() > 0.9 and (cloud.normals * out).sum(1).mean() > 0.995
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(cloud.colours, 0.5 + 0.4 * np.sin(3.0 * SCALE * out), atol=0.08)
    octants = np.unique((out > 0) @ [4, 2, 1])
    assert len(octants) == 8


def test_there_are_about_as_many_points_as_were_asked_for_evenly_spread_and_each_seen_by_three_views(cloud):
    assert 3500 <= len(cloud.points) <= 5000
    assert cloud.views.min() >= 3 and cloud.views.max() <= 16
    in_pieces = np.unique(np.floor((cloud.points - CENTRE) / 0.25), axis=0, return_counts=True)[1]
    assert np.median(in_pieces) > 10 and in_pieces.max() < 8 * np.median(in_pieces)


def test_the_same_run_gives_the_same_cloud_and_fewer_points_when_fewer_are_asked_for():
    run = field_run(around(), samples=100)
    first, again = (fuse_points(run, 300, None, QUIET) for _ in range(2))
    np.testing.assert_array_equal(first.points, again.points)
    assert 150 <= len(first.points) <= 300


class Deluded:
    """A run in which one camera sees everything nearer than it is."""

    def __init__(self, run, view):
        self.run, self.wrong = run, view.world_from_camera

    def __getattr__(self, name):
        return getattr(self.run, name)

    def render(self, camera, world_from_camera, *args, **flags):
        picture = self.run.render(camera, world_from_camera, *args, **flags)
        factor = 0.8 if world_from_camera is self.wrong else 1.0
        return dataclasses.replace(picture, range=picture.range * np.float32(factor))


def test_what_one_view_alone_sees_is_no_point():
    run = field_run(around(), samples=200)
    points = fuse_points(Deluded(run, run.views[3]), 3000, None, QUIET).points
    np.testing.assert_allclose(np.linalg.norm(points - CENTRE, axis=1), 1.0, atol=0.02)


class Half:
    """A crop: beyond x = CENTRE."""

    def contains(self, points):
        return points[:, 0] > CENTRE[0]


def test_a_crop_keeps_what_it_contains_and_an_empty_one_is_an_error():
    run = field_run(around(), samples=100)
    points = fuse_points(run, 1000, Half(), QUIET).points
    assert len(points) > 500 and points[:, 0].min() > CENTRE[0]
    nowhere = Half()
    nowhere.contains = lambda points: np.zeros(len(points), bool)
    with pytest.raises(DataError, match="no point inside the crop is seen by 3 training views at one place"):
        fuse_points(run, 1000, nowhere, QUIET)


def test_an_empty_field_has_no_points_and_says_so():
    with pytest.raises(DataError, match="no point is seen by 3 training views at one place: train longer"):
        fuse_points(field_run(around(), fog(0.0), 10), 1000, None, QUIET)


def test_what_lies_outside_the_cube_of_an_unbounded_scene_is_there_too():
    shell = AnalyticField(lambda points: 300.0 * (points.norm(dim=1) > 4.0), lambda points: 0.0 * points + 0.5, UNBOUNDED)
    wide = Camera(40, 40, 20.0, 20.0, 20.0, 20.0)
    views = [dataclasses.replace(view, camera=wide) for view in around()]
    cloud = fuse_points(field_run(views, shell, 400), 3000, None, QUIET)
    np.testing.assert_allclose(np.linalg.norm(cloud.points - CENTRE, axis=1), 4.0 / SCALE, rtol=0.02)
    assert (cloud.normals * (CENTRE - cloud.points)).sum(1).min() > 0.0


def some(count, offset=0.0):
    normals = np.random.randn(count, 3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return PointCloud(np.random.randn(count, 3) + offset, normals.astype(np.float32),
                      np.random.rand(count, 3).astype(np.float32), np.random.randint(3, 90, count).astype(np.int32))


@pytest.mark.parametrize("count", [1, 1000])
def test_trimesh_reads_every_point_colour_normal_and_confidence_back(tmp_path, count):
    cloud = some(count, offset=4e6)  # input coordinates of a map: float32 would lose half a unit
    write_ply(cloud, tmp_path / "deep/cloud.ply")
    loaded = trimesh.load(tmp_path / "deep/cloud.ply")
    np.testing.assert_array_equal(loaded.vertices, cloud.points)
    np.testing.assert_array_equal(loaded.colors[:, :3], np.floor(cloud.colours * np.float32(255) + np.float32(0.5)))
    raw = loaded.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_array_equal(np.stack([raw[name] for name in ("nx", "ny", "nz")], -1).reshape(-1, 3), cloud.normals)
    np.testing.assert_array_equal(raw["confidence"].ravel(), cloud.views)
    assert os.listdir(tmp_path / "deep") == ["cloud.ply"]


def test_the_command_writes_the_cloud_tells_how_far_it_is_and_refuses_impossible_counts(tmp_path):
    told, run = [], field_run(around(), samples=50)
    cloud = write_point_cloud(run, tmp_path / "cloud.ply", lambda *state: told.append(state), count=200)
    assert len(trimesh.load(tmp_path / "cloud.ply").vertices) == len(cloud.points)
    assert told == [(i + 1, 32) for i in range(32)]
    for count in (0, -3, 10**9):
        with pytest.raises(UsageError, match=f"--points must be 1 to 10000000, got {count}"):
            write_point_cloud(run, tmp_path / "cloud.ply", QUIET, count=count)


def test_no_room_is_said_and_nothing_half_is_left(tmp_path):
    (tmp_path / "cloud.ply").mkdir()
    with pytest.raises(ResourceError, match="cannot write .*give another --out"):
        write_ply(some(3), tmp_path / "cloud.ply")
    assert os.listdir(tmp_path) == ["cloud.ply"]
