"""One pinhole for photos through any lenses."""

import dataclasses
import math

import numpy as np
import pytest

from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.straight import common_pinhole, part_seen, straightened

PLAIN = Camera(80, 60, 50.0, 50.0, 40.0, 30.0)


def test_of_pinholes_it_is_the_narrowest_view_as_fine_as_the_middle_one():
    narrow, middle, wide = (dataclasses.replace(PLAIN, focal_x_px=focal, focal_y_px=focal) for focal in (60.0, 50.0, 40.0))
    found = common_pinhole([wide, narrow, middle])
    assert (found.focal_x_px, found.width, found.height) == (50.0, 66, 50)  # 80 and 60 times 50 / 60, even
    assert part_seen(found, [found]) == 1.0
    assert part_seen(found, [middle]) == pytest.approx(66 * 50 / 4800, abs=0.05)


def test_a_centre_aside_leaves_what_lies_on_both_sides_of_it():
    found = common_pinhole([dataclasses.replace(PLAIN, centre_x_px=30.0)])
    assert (found.width, found.height) == (60, 44) and found.centre_x_px == 30.0  # of the photo's shape


@pytest.mark.parametrize("lens", [Lens("equirectangular"), Lens("fisheye")])
def test_of_very_wide_views_the_middle_120_degrees_are_drawn(lens):
    found = common_pinhole([Camera(400, 200, 100.0, 100.0, 200.0, 100.0, lens)])
    assert 2.0 * math.degrees(math.atan(0.5 * found.width / found.focal_x_px)) <= 120.0


def test_a_pinhole_drawn_for_itself_is_the_photo():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    np.testing.assert_array_equal(straightened(pixels, PLAIN, PLAIN), pixels)


def test_what_is_transparent_lends_no_colour_to_its_neighbours():
    """Half a pixel to the side: between an opaque red pixel and a transparent green one lies red, half opaque."""
    pixels = np.zeros((60, 80, 4), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = (200, 0, 0, 255), (0, 255, 0, 0)
    drawn = straightened(pixels, PLAIN, Camera(20, 20, 50.0, 50.0, 10.5, 10.0))
    assert set(map(tuple, drawn.reshape(-1, 4)[:, :3])) == {(200, 0, 0)} and np.isin(drawn[..., 3], (127, 128)).all()


def test_nothing_in_common_is_none():
    assert common_pinhole([dataclasses.replace(PLAIN, centre_x_px=-300.0)]) is None
