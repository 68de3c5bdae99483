import base64
import io

import numpy as np
import pytest
from PIL import Image

from nerf_app.report.pictures import (
    LONGEST_SIDE,
    THUMBNAIL,
    compare,
    difference_colours,
    geometry,
    jpeg_uri,
    still,
    thumbnail,
)
from nerf_app.scene.camera import Camera
from tests.report.stand_in import a_run, a_scene
from tests.sphere import CENTRE, DISTANCE, RADIUS


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    scene = a_scene(folder)
    return a_run(folder, scene), scene


def test_equal_pictures_differ_by_white_and_the_ignored_is_grey():
    picture = np.random.default_rng(0).uniform(size=(4, 5, 3))
    ignored = np.zeros((4, 5), bool)
    ignored[1] = True
    colours = difference_colours(picture, picture, ignored)
    assert (colours[~ignored] == 255).all() and (colours[ignored] == 191).all()


def test_a_larger_difference_is_darker_and_a_quarter_is_black():
    photo = np.zeros((1, 4, 3))
    colours = difference_colours(photo, photo + np.array([0.0, 0.1, 0.2, 0.25])[None, :, None], np.zeros((1, 4), bool))
    assert (np.diff(colours.sum(2).astype(int)) < 0).all() and not colours[0, 3].any()


def test_pictures_stay_small_and_keep_their_shape():
    assert Camera(4000, 3000, 1.0, 1.0, 1.0, 1.0).within(LONGEST_SIDE).width == LONGEST_SIDE
    assert Camera(40, 30, 9.0, 9.0, 20.0, 15.0).within(LONGEST_SIDE) == Camera(40, 30, 9.0, 9.0, 20.0, 15.0)
    thin = Camera(10_000, 3, 9.0, 9.0, 20.0, 15.0).within(THUMBNAIL)
    assert (thin.width, thin.height) == (THUMBNAIL, 1)


def test_a_data_uri_holds_the_picture():
    uri = jpeg_uri(np.full((6, 9, 3), (200, 100, 50), np.uint8))
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as picture:
        assert picture.size == (9, 6) and np.abs(np.array(picture).astype(int) - (200, 100, 50)).max() < 6


def test_a_photo_stands_beside_what_is_rendered_in_its_place(world):
    run, scene = world
    found = compare(run, scene, 0, 21.0, 0.9)
    assert found.photo.shape == found.picture.shape == found.difference.shape == (40, 40, 3)
    assert (found.photo[0, 0] == 255).all() and (found.picture[0, 0] == 255).all() and (found.difference[0, 0] == 255).all()
    assert not (found.difference[20, 20] == 255).all()  # the run's ball is grey, the photo's is not


def test_depth_and_normals_are_those_of_the_ball(world):
    run, scene = world
    found = geometry(run, scene, 0)
    assert found.kind == "z" and DISTANCE - RADIUS - 0.1 < found.near < found.far < DISTANCE
    assert (found.depth[0, 0] == 255).all() and (found.normals[0, 0] == 255).all()
    towards = scene.views[0].world_from_camera[:3, 3] - CENTRE
    assert np.allclose(found.normals[20, 20] / 127.5 - 1.0, towards / np.linalg.norm(towards), atol=0.1)
    assert found.depth[20, 20].sum() > found.depth[20, 31].sum()  # nearer is brighter


def test_the_still_and_the_thumbnails_show_the_ball(world):
    run, scene = world
    picture = still(run)
    height, width = picture.pixels.shape[:2]
    assert np.abs(picture.pixels[height // 2, width // 2].astype(int) - 128).max() <= 1
    assert np.isclose(np.linalg.norm(picture.towards), 1.0)
    assert thumbnail(scene, 1).shape == (40, 40, 3)
