import numpy as np
import pytest
import torch

from nerf_app import picture
from nerf_app.model import RadianceModel
from nerf_app.picture import Window, render_picture, unseen_pixels
from nerf_app.rays import cast_rays, view_rays
from nerf_app.render import distance_of_light, over
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.lenses import CameraBatch
from tests.analytic import AnalyticModel, ball, reference_ops
from tests.sphere import look_at, small_config

CAMERA = Camera(18, 14, 20.0, 20.0, 9.0, 7.0)
POSE = look_at(np.array([2.0, 1.5, 1.0]), np.zeros(3))
BLIND = Camera(30, 30, 12.0, 12.0, 15.0, 15.0, Lens(radial=(-0.3, 0.0, 0.0, 0.0)))  # sees nothing in its corners


@pytest.fixture
def model():
    return AnalyticModel(ball(0.7, 500.0, 0.01), reference_ops())


def test_a_picture_is_what_each_of_its_pixels_shows_alone(model):
    whole = render_picture(model, CAMERA, POSE, background=(0.2, 0.4, 0.8), are_edges_smooth=False)
    batch, poses = CameraBatch.from_cameras([CAMERA]), torch.from_numpy(POSE)[None]
    for row, column in [(0, 0), (7, 9), (5, 12), (13, 17)]:
        rays = view_rays(batch, poses, 0, torch.tensor([row]), torch.tensor([column]))
        seen = model.render(rays)
        rgb = over(seen, torch.tensor([0.2, 0.4, 0.8]))[0].numpy()
        assert np.allclose(whole.rgb[row, column], rgb, atol=1e-6)
        assert np.isclose(whole.alpha[row, column], float(seen.opacity), atol=1e-6)
        assert np.isclose(whole.range[row, column], float(distance_of_light(seen, picture.FRONT, model.ops)), equal_nan=True)


def test_where_neighbours_differ_a_pixel_is_the_mean_of_five_rays_and_elsewhere_it_is_one(model):
    paper, single = (0.2, 0.4, 0.8), render_picture(model, CAMERA, POSE, background=(0.2, 0.4, 0.8), are_edges_smooth=False)
    smooth = render_picture(model, CAMERA, POSE, background=paper)
    batch, poses, seen_at_edges = CameraBatch.from_cameras([CAMERA]), torch.from_numpy(POSE)[None], 0
    colours = np.concatenate([single.rgb, single.alpha[..., None]], 2)
    for row, column in np.ndindex(single.alpha.shape):
        around = colours[max(row - 1, 0):row + 2, max(column - 1, 0):column + 2]
        truth = colours[row, column]
        if (around.max((0, 1)) - around.min((0, 1))).max() > picture.EDGE:
            offsets = torch.tensor([(0.0, 0.0), *picture.AROUND])
            x, y = (middle + 0.5 + offset for middle, offset in zip((column, row), offsets.T))
            rays = cast_rays(batch, poses, torch.zeros(len(offsets), dtype=torch.int64), x, y)
            seen = model.render(rays)
            truth = torch.cat([over(seen, torch.tensor(paper)), seen.opacity[:, None]], 1).mean(0).numpy()
            seen_at_edges += 1
        assert np.allclose(smooth.rgb[row, column], truth[:3], atol=1e-6) and np.isclose(smooth.alpha[row, column], truth[3])
    assert 50 < seen_at_edges < single.alpha.size - 50
    for name in ("z_depth", "range", "mean_range", "confidence", "is_seen"):
        assert np.array_equal(getattr(smooth, name), getattr(single, name), equal_nan=True), name


@pytest.mark.parametrize("camera", [CAMERA, BLIND, Camera(24, 12, 0.0, 0.0, 0.0, 0.0, Lens("equirectangular"))])
def test_a_window_shows_a_part_of_the_picture(model, camera):
    window = Window(3, 2, 7, 9)
    whole, part = (render_picture(model, camera, POSE, with_normals=True, are_edges_smooth=False, window=shown)
                   for shown in (None, window))
    for name in ("rgb", "alpha", "is_seen", "z_depth", "range", "mean_range", "confidence", "normals"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[2:11, 3:10], equal_nan=True), name


@pytest.mark.parametrize("degrees", [0, 45, 90, 135])
def test_the_rays_of_a_pixel_lie_on_either_side_of_edges_of_any_usual_way(degrees):
    across = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    along = np.sort(np.array([(0.0, 0.0), *picture.AROUND]) @ across)
    assert along[0] < -0.1 and along[-1] > 0.1 and abs(along.mean()) < 1e-9


def test_smooth_edges_cover_what_the_ball_covers(model):
    """Of the area of each pixel, from 32 rays a side."""
    def alpha(camera, **how):
        return render_picture(model, camera, POSE, **how).alpha
    fine = alpha(Camera(18 * 32, 14 * 32, 640.0, 640.0, 288.0, 224.0), are_edges_smooth=False)
    fine = fine.reshape(14, 32, 18, 32).mean((1, 3))
    errors = [np.abs(alpha(CAMERA, are_edges_smooth=is_smooth) - fine).mean() for is_smooth in (True, False)]
    assert errors[0] < 0.6 * errors[1]


@pytest.mark.parametrize("chunk", [1, 50, 10_000])
def test_chunks_do_not_show(model, chunk, monkeypatch):
    truth = render_picture(model, CAMERA, POSE, with_normals=True)
    monkeypatch.setattr(picture, "CHUNK", chunk)
    for name, value in vars(render_picture(model, CAMERA, POSE, with_normals=True)).items():
        if name != "parts":  # a field without a shading has none
            assert np.allclose(value, getattr(truth, name), atol=1e-6, equal_nan=True), name


def test_a_picture_of_a_reflective_field_knows_its_parts(monkeypatch):
    config = small_config(1, {"field.appearance": "reflective"})
    model = RadianceModel(config, True, reference_ops())
    truth = render_picture(model, CAMERA, POSE).parts
    monkeypatch.setattr(picture, "CHUNK", 50)
    for name, value in vars(render_picture(model, CAMERA, POSE, with_normals=True).parts).items():
        assert value.shape == ((14, 18) if name == "roughness" else (14, 18, 3)) and value.dtype == np.float32
        assert value.min() >= 0 and value.max() <= 1 and np.allclose(value, getattr(truth, name), atol=1e-6), name


def test_a_picture_has_the_shapes_and_the_type_it_promises(model):
    seen = render_picture(model, CAMERA, POSE, with_normals=True)
    shapes = {"rgb": (14, 18, 3), "alpha": (14, 18), "z_depth": (14, 18), "range": (14, 18), "normals": (14, 18, 3)}
    assert seen.is_seen.shape == (14, 18) and seen.is_seen.dtype == bool and seen.is_seen.all()
    for name, shape in shapes.items():
        assert getattr(seen, name).shape == shape and getattr(seen, name).dtype == np.float32, name


def test_what_was_not_asked_for_is_none_and_changes_nothing_else(model):
    whole = vars(render_picture(model, CAMERA, POSE, with_normals=True))
    colours = vars(render_picture(model, CAMERA, POSE, with_depths=False))
    depths = {"z_depth", "range", "mean_range", "confidence"}
    assert {name for name, value in colours.items() if value is None} == depths | {"normals", "parts"}
    for name in ("rgb", "alpha", "is_seen"):
        assert np.array_equal(colours[name], whole[name]), name


def test_depths_are_known_exactly_where_more_than_half_is_stopped_and_normals_are_unit_vectors_there(model):
    seen = render_picture(model, CAMERA, POSE, with_normals=True)
    is_known = seen.alpha >= 0.5
    assert 0.1 < is_known.mean() < 0.9
    for depth in (seen.z_depth, seen.range):
        assert np.array_equal(np.isnan(depth), ~is_known)
    lengths = np.linalg.norm(seen.normals, axis=-1)
    assert np.allclose(lengths, is_known, atol=1e-5)


def test_depths_lead_to_the_ball(model):
    seen = render_picture(model, CAMERA, POSE, scene_units_per_unit=0.25)
    middle = np.linalg.norm(POSE[:3, 3]) - 0.7
    rows, columns = np.nonzero(seen.alpha > 0.9)
    x, y = (columns + 0.5 - 9.0) / 20.0, -(rows + 0.5 - 7.0) / 20.0
    z = seen.z_depth[rows, columns].astype(np.float64) * 0.25  # the picture's unit is a quarter of a scene unit
    points = np.stack([x * z, y * z, -z], 1) @ POSE[:3, :3].T + POSE[:3, 3]
    assert np.allclose(np.linalg.norm(points, axis=1), 0.7, atol=0.05)  # its skin is soft
    assert np.allclose(seen.range[rows, columns] * 0.25, z * np.sqrt(1 + x**2 + y**2), rtol=1e-5)
    assert np.nanmin(seen.range) * 0.25 == pytest.approx(middle, abs=0.03)


def test_normals_are_those_of_the_world(model):
    seen = render_picture(model, CAMERA, POSE, with_normals=True)
    towards_camera = POSE[:3, 3] / np.linalg.norm(POSE[:3, 3])
    assert np.allclose(seen.normals[6:8, 8:10].mean((0, 1)), towards_camera, atol=0.05)


@pytest.mark.parametrize("paper", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.25, 0.5, 0.75)])
def test_what_the_lens_does_not_see_and_where_nothing_is_shows_the_background(model, paper):
    rows, columns = torch.arange(900) // 30, torch.arange(900) % 30
    rays = view_rays(CameraBatch.from_cameras([BLIND]), torch.from_numpy(POSE)[None], 0, rows, columns)
    is_valid = rays.is_valid.view(30, 30).numpy()
    assert not is_valid[0, 0] and is_valid[15, 15]
    inside = AnalyticModel(ball(10.0), reference_ops())  # opaque wherever one looks
    seen = render_picture(inside, BLIND, POSE, background=paper, with_normals=True)
    np.testing.assert_array_equal(seen.is_seen, is_valid)
    assert np.allclose(seen.rgb[~is_valid], paper)
    assert not seen.alpha[~is_valid].any() and not seen.normals[~is_valid].any()
    assert np.isnan(seen.z_depth[~is_valid]).all() and np.isnan(seen.range[~is_valid]).all()
    assert np.allclose(render_picture(model, CAMERA, POSE, background=paper).rgb[0, 0], paper, atol=1e-6)


def test_a_pixel_beyond_the_lens_counts_as_unseen():
    folding = Camera(40, 30, 20.0, 20.0, 20.0, 15.0, Lens(radial=(-0.4, 0.0, 0.0, 0.0)))
    unseen = unseen_pixels(folding)
    assert unseen.shape == (30, 40) and unseen[0, 0] and not unseen[15, 20]
    assert not unseen_pixels(Camera(40, 30, 20.0, 20.0, 20.0, 15.0)).any()
