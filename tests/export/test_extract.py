"""From a run to a mesh that is ready for its texture."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf_app.errors import DataError, UsageError
from nerf_app.export.clean import open_edges, with_faces
from nerf_app.export.extract import MeshPlan, extract_mesh
from nerf_app.scene.camera import Camera
from nerf_app.scene.scene import View
from tests.export.shape_run import CENTRE, SCALE, ball, edge_counts, quiet, shape_run, views_around


@pytest.mark.parametrize("method", ["tsdf", "density"])
def test_a_run_becomes_one_part_with_the_faces_asked_for(method):
    def with_crumb(points):
        return torch.minimum(ball(0.5)(points), ball(0.04, (0.0, 0.0, 0.7))(points))
    run = shape_run(views_around(), with_crumb)
    mesh = extract_mesh(run, MeshPlan(method=method, resolution=40, faces=900), quiet)
    assert 600 < len(mesh.faces) <= 900
    radii = np.linalg.norm(mesh.vertices - CENTRE, axis=1) * SCALE
    assert np.abs(radii - 0.5).max() < 0.035  # and so the crumb is gone
    assert mesh.views.shape == (len(mesh.vertices),) and mesh.views.dtype == np.int32 and mesh.views.max() <= 14
    assert np.median(mesh.views) >= 4
    assert (mesh.depth_spread is not None) == (method == "tsdf")


def test_photos_coarser_than_the_voxels_leave_no_holes_where_cameras_look_along_the_surface():
    coarse = Camera(14, 14, 18.0, 18.0, 7.0, 7.0)  # five voxels wide are its pixels there
    mesh = extract_mesh(shape_run(views_around(10, camera=coarse), ball()), MeshPlan(resolution=48), quiet)
    assert open_edges(mesh.faces) == 0
    assert np.abs(np.linalg.norm(mesh.vertices - CENTRE, axis=1) - 1.0).max() < 0.05


def test_two_things_of_like_size_both_stay():
    def two(points):
        return torch.minimum(ball(0.3, (0.5, 0.0, 0.0))(points), ball(0.25, (-0.5, 0.0, 0.0))(points))
    mesh = extract_mesh(shape_run(views_around(), two), MeshPlan(resolution=40), quiet)
    assert mesh.vertices[:, 0].min() < CENTRE[0] - 1 < CENTRE[0] + 1 < mesh.vertices[:, 0].max()


def test_min_views_trims_what_fewer_photos_saw():
    run = shape_run(views_around(12, lowest=0.1), ball())
    whole, part = (extract_mesh(run, MeshPlan(resolution=32, min_views=least), quiet) for least in (0, 5))
    assert len(part.faces) < len(whole.faces)
    assert part.views[part.faces].max(1).min() >= 5 > whole.views[whole.faces].max(1).min()
    with pytest.raises(DataError, match="no part of the mesh is seen by 13 training photos: use a lower --min-views"):
        extract_mesh(run, MeshPlan(resolution=32, min_views=13), quiet)


def test_watertight_means_that_every_edge_has_two_faces():
    run = shape_run(views_around(10, lowest=0.4), ball())
    assert (edge_counts(extract_mesh(run, MeshPlan(resolution=32), quiet).faces) == 1).any()
    mesh = extract_mesh(run, MeshPlan(resolution=32, is_watertight=True), quiet)
    assert (edge_counts(mesh.faces) == 2).all()


def test_the_crop_holds_the_mesh():
    low = CENTRE - (2.0, 2.0, 0.5)
    plan = MeshPlan(crop=" ".join(map(str, [*low, *(CENTRE + 2.0)])), resolution=40)
    mesh = extract_mesh(shape_run(views_around(), ball()), plan, quiet)
    assert mesh.vertices[:, 2].min() == pytest.approx(low[2], abs=0.11)


def test_a_run_without_training_photos_is_refused():
    views = [View(view.name, view.camera, view.world_from_camera, "test") for view in views_around(4)]
    with pytest.raises(DataError, match="run has no training photo"):
        extract_mesh(shape_run(views, ball()), MeshPlan(), quiet)


@pytest.mark.parametrize("wrong, message", [
    (dict(method="nerf"), "--method must be tsdf, density, blocks or poisson, got 'nerf'"),
    (dict(faces=0), "--faces must be at least 4, got 0"),
    (dict(min_views=-1), "--min-views must be at least 0, got -1"),
    (dict(resolution=2), "--resolution must be at least 8, got 2"),
])
def test_a_plan_that_cannot_be_meant_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        MeshPlan(**wrong)


def test_a_density_mesh_in_few_faces_is_watertight_too():
    """Joined edges leave some that three or four faces share, or two that run the same way."""
    def pierced(points):
        holes = torch.stack([ball(0.28, at)(points) for at in ((0.4, 0.0, 0.0), (0.0, 0.4, 0.1), (-0.3, -0.3, 0.0))]).amin(0)
        return torch.maximum(ball(0.5)(points).abs() - 0.03, -holes)
    run, plan = shape_run(views_around(), pierced), MeshPlan("density", resolution=24, faces=60)
    assert has_tangles(extract_mesh(run, plan, quiet).faces), "else this says nothing"
    mesh = extract_mesh(run, replace(plan, is_watertight=True), quiet)
    assert open_edges(mesh.faces) == 0 and len(mesh.faces) > 20


def has_tangles(faces: np.ndarray) -> bool:
    """Whether some side of a face is another's too, in the same direction."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return len(np.unique(sides, axis=0)) < len(sides)


def test_a_surface_of_which_nothing_can_be_closed_is_refused(monkeypatch):
    monkeypatch.setattr("nerf_app.export.extract.closed", lambda mesh: with_faces(mesh, np.zeros(len(mesh.faces), bool)))
    with pytest.raises(DataError, match="no part of the mesh can be made watertight: give more --faces"):
        extract_mesh(shape_run(views_around(), ball()), MeshPlan(resolution=24, is_watertight=True), quiet)
