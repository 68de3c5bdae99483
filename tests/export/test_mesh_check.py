from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf_app.config import with_overrides
from nerf_app.errors import DataError
from nerf_app.export.mesh_check import check_mesh, photograph
from nerf_app.training.metrics import psnr
from nerf_app.training.validation import on_white
from tests import sphere
from tests.export.sheets import run_of
from tests.export.test_visibility import ball


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def coloured_ball(centre=sphere.CENTRE):
    mesh = ball(5, sphere.RADIUS, centre)
    return replace(mesh, colours=(255 * sphere._colour(mesh.vertices)).round().astype(np.uint8))


@pytest.fixture(scope="module")
def scene():
    return sphere.sphere_scene(17, 64)


def test_the_true_surface_shows_the_photos(scene):
    found = check_mesh(run_of(scene), scene, coloured_ball())
    assert found["split"] == "test" and found["psnr"] > 35 and found["silhouette_iou"] > 0.985
    assert [photo["path"] for photo in found["photos"]] == ["photos/000.png", "photos/008.png", "photos/016.png"]
    assert found["psnr"] == pytest.approx(np.mean([photo["psnr"] for photo in found["photos"]]))


def test_the_score_is_that_of_the_picture_on_white_over_all_pixels(scene):
    run, mesh = run_of(scene), coloured_ball()
    picture, coverage = photograph(mesh, scene.views[8].camera, scene.views[8].world_from_camera, run.backend)
    photo = scene.photos.picture(8)[0]
    assert check_mesh(run, scene, mesh)["photos"][1]["psnr"] == pytest.approx(psnr(picture, on_white(photo)))
    assert (picture[coverage == 0] == 1).all() and np.abs(coverage - photo[..., 3].numpy() / 255).mean() < 0.01


def test_large_photos_are_compared_on_as_many_pixels_as_training_saw(scene):
    run, mesh, view = run_of(scene), coloured_ball(), scene.views[8]
    run = replace(run, config=with_overrides(run.config, {"scene.longest_side": 32}))
    small = view.camera.within(32)
    picture, _ = photograph(mesh, small, view.world_from_camera, run.backend)
    photo = on_white(scene.photos.picture(8, (32, 32))[0])
    found = check_mesh(run, scene, mesh)
    assert found["photos"][1]["psnr"] == pytest.approx(psnr(picture, photo)) and found["psnr"] > 30
    assert found["silhouette_iou"] > 0.95


def test_a_shifted_mesh_fares_worse_by_as_much_as_it_is_off(scene):
    found = check_mesh(run_of(scene), scene, coloured_ball(sphere.CENTRE + [0.0, 0.0, 0.6]))
    assert found["psnr"] < 15 and found["silhouette_iou"] < 0.8


def test_texture_and_vertex_colours_show_the_same_where_they_say_the_same(scene):
    run, view, mesh = run_of(scene), scene.views[0], coloured_ball()
    even = replace(mesh, colours=np.full_like(mesh.colours, [10, 100, 200]))
    texture = np.full((8, 8, 3), [10, 100, 200], np.uint8)
    flat = replace(mesh, colours=None, texture=texture, uvs=np.full((len(mesh.vertices), 2), 0.3, np.float32))
    pictures = [photograph(one, view.camera, view.world_from_camera, run.backend)[0] for one in (even, flat)]
    assert np.abs(pictures[0] - pictures[1]).max() < 1e-6


def test_the_first_row_of_a_texture_is_on_top(scene):
    run, view, mesh = run_of(scene), scene.views[0], coloured_ball()
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32], texture[32:] = [255, 0, 0], [0, 0, 255]  # red above, blue below
    heights = (mesh.vertices[:, 2] - sphere.CENTRE[2]) / sphere.RADIUS
    mesh = replace(mesh, texture=texture, uvs=np.stack([np.full_like(heights, 0.5), 0.5 + 0.5 * heights], 1).astype(np.float32))
    picture, coverage = photograph(mesh, view.camera, view.world_from_camera, run.backend)
    rows = (coverage == 1).any(1).nonzero()[0]
    assert picture[rows[0] + 1, 32].argmax() == 0 and picture[rows[-1] - 1, 32].argmax() == 2


def test_without_alpha_only_what_the_mesh_covers_is_compared(scene):
    """A photo of a place shows more than the mesh is of, and what lies around it may be anything."""
    pixels = scene.photos.pixels[:, :3].clone()
    pixels[scene.photos.pixels[:, 3] == 0] = torch.tensor([255, 0, 255], dtype=torch.uint8)
    plain = replace(scene, photos=replace(scene.photos, pixels=pixels))
    found = check_mesh(run_of(plain), plain, coloured_ball())
    assert found["psnr"] > 30 and found["silhouette_iou"] is None


def test_ignored_pixels_count_neither_for_colour_nor_for_silhouette(scene):
    ignored = torch.zeros(17, 64, 64, dtype=torch.bool)
    ignored[:, :, 20:44] = True
    pixels = scene.photos.pixels.clone()
    pixels[ignored.flatten()] = torch.tensor([255, 0, 0, 0], dtype=torch.uint8)
    masked = replace(scene, photos=replace(scene.photos, pixels=pixels, ignored=ignored.flatten()))
    found = check_mesh(run_of(masked), masked, coloured_ball())
    assert found["psnr"] > 33 and found["silhouette_iou"] > 0.97
    everything = replace(masked, photos=replace(masked.photos, ignored=torch.ones_like(masked.photos.ignored)))
    assert check_mesh(run_of(masked), everything, coloured_ball())["silhouette_iou"] is None


def test_validation_photos_stand_in_for_test_photos_and_none_at_all_is_refused(scene):
    def with_splits(change):
        return replace(scene, views=tuple(replace(view, split=change.get(view.split, view.split)) for view in scene.views))
    found = check_mesh(run_of(scene), with_splits({"test": "train"}), coloured_ball())
    assert found["split"] == "val" and len(found["photos"]) == 1
    with pytest.raises(DataError, match="kept out of training"):
        check_mesh(run_of(scene), with_splits({"test": "train", "val": "train"}), coloured_ball())
