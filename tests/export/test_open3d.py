"""Open3D's ways to a surface, and what is said where it is not installed."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from nerf_app.errors import BackendUnavailable, DataError
from nerf_app.export.crop import Box
from nerf_app.export.extract import MeshPlan, extract_mesh
from nerf_app.export.mesh_files import write_mesh
from nerf_app.export.open3d import blocks_surface, poisson_surface
from nerf_app.export.pointcloud import write_point_cloud
from tests.export.shape_run import CENTRE, ball, edge_counts, quiet, shape_run, views_around
from tests.export.test_surface import turned_axes, volume
from tests.requires import requires

WAYS = {"blocks": blocks_surface, "poisson": poisson_surface}


@requires("open3d")
@pytest.mark.parametrize("way", WAYS.values())
def test_a_ball_becomes_a_closed_ball_of_its_size_also_in_a_turned_box(way):
    axes = turned_axes()
    box = Box(CENTRE, axes * np.sign(np.linalg.det(axes)), np.full(3, 1.3))
    mesh = way(shape_run(views_around(), ball()), box, 40, quiet)
    out = mesh.vertices - CENTRE
    radii = np.linalg.norm(out, axis=1)
    assert np.abs(radii - 1.0).mean() < 0.025 and np.abs(radii - 1.0).max() < 0.065  # a voxel is 0.065
    assert (edge_counts(mesh.faces) == 2).all()
    assert 0.93 < volume(mesh) / (4 / 3 * np.pi) < 1.06  # positive: counter-clockwise from outside
    assert (mesh.normals * out / radii[:, None]).sum(1).mean() > 0.97


@requires("open3d")
@pytest.mark.parametrize("method", WAYS)
def test_what_leaves_the_crop_is_cut_off_and_what_no_camera_sees_is_not_made_up(method):
    low = CENTRE - (2.0, 2.0, 0.5)
    plan = MeshPlan(method, " ".join(map(str, [*low, *(CENTRE + 2.0)])), resolution=40, faces=900)
    mesh = extract_mesh(shape_run(views_around(), ball()), plan, quiet)
    assert len(mesh.faces) <= 900 and mesh.vertices[:, 2].min() == pytest.approx(low[2], abs=0.11)
    assert (edge_counts(mesh.faces) == 1).any()


@requires("open3d")
@pytest.mark.parametrize("way", WAYS.values())
def test_a_crop_with_nothing_in_it_is_refused(way):
    with pytest.raises(DataError, match="crop"):
        way(shape_run(views_around(), ball()), Box(CENTRE + 1.7, np.eye(3), np.full(3, 0.1)), 16, quiet)


@pytest.mark.parametrize("way", WAYS.values())
def test_without_open3d_it_is_named_before_anything_is_rendered(way, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(BackendUnavailable, match=r"need Open3D .*pip install open3d, or use --method tsdf"):
        way(None, None, None, quiet)


@requires("open3d")
def test_open3d_reads_our_points_and_meshes_back(tmp_path):
    import open3d

    run = shape_run(views_around(), ball())
    cloud = write_point_cloud(run, tmp_path / "points.ply", quiet, count=500)
    points = open3d.io.read_point_cloud(str(tmp_path / "points.ply"))
    np.testing.assert_allclose(points.points, cloud.points)
    np.testing.assert_allclose(points.normals, cloud.normals, atol=1e-6)
    np.testing.assert_allclose(points.colors, cloud.colours, atol=0.6 / 255)
    mesh = extract_mesh(run, MeshPlan(resolution=24), quiet)
    mesh = replace(mesh, colours=np.full((len(mesh.vertices), 3), [10, 200, 30], np.uint8))
    write_mesh(mesh, tmp_path / "mesh.ply", run.up)
    found = open3d.io.read_triangle_mesh(str(tmp_path / "mesh.ply"))
    np.testing.assert_allclose(found.vertices, mesh.vertices)
    np.testing.assert_array_equal(found.triangles, mesh.faces)
    np.testing.assert_allclose(np.asarray(found.vertex_colors)[0] * 255, [10, 200, 30], atol=0.6)
