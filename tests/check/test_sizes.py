import dataclasses
import math

import numpy as np
import pytest
from PIL import ExifTags, Image

from nerf_app.check.sizes import bending, find_odd_lenses, fit_photos, with_sides_exchanged
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.listing import Frame, StatedCamera
from nerf_app.scene.sizes import PhotoHeader

CAMERA = StatedCamera(40, 30, 50.0, 51.0, 20.5, 14.5)


def frame(folder, camera, size=(40, 30), name="1.png", **tags):
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[getattr(ExifTags.Base, tag)] = value
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(folder / name, exif=exif)
    return Frame(name, folder / name, np.eye(4), camera)


def findings(*frames):
    sized, found = fit_photos(frames)
    return sized, found + find_odd_lenses(sized)


@pytest.mark.parametrize("centre", [(20.0, 15.0), (20.5, 14.5), (19.5, 15.5), (None, None)])
def test_a_principal_point_half_a_pixel_beside_the_middle_is_no_finding(tmp_path, centre):
    camera = dataclasses.replace(CAMERA, centre_x_px=centre[0], centre_y_px=centre[1])
    sized, found = findings(frame(tmp_path, camera))
    assert len(sized) == 1 and found == []


@pytest.mark.parametrize("size", [(40, 30), (20, 15), (400, 300)])  # also where the photos were reduced
@pytest.mark.parametrize("stated", [StatedCamera(30, 40, 50.0, 51.0, 20.5, 14.5), StatedCamera(30, 40, 51.0, 50.0, 14.5, 20.5)])
def test_exchanged_sides_are_found_and_mended_with_what_was_exchanged_along_with_them(tmp_path, size, stated):
    (one,), (finding,) = findings(frame(tmp_path, stated, size))
    assert finding.is_fault and finding.is_mended and finding.photos == ("1.png",)
    assert f"the photo is {size[0]}×{size[1]}, its camera says 30×40" in finding.evidence
    assert one.frame.camera == CAMERA
    assert (one.fit.camera.width, one.fit.camera.height) == size
    assert one.fit.camera.centre_x_px == pytest.approx(20.5 * size[0] / 40)


def test_sides_are_left_alone_where_exchanging_them_helps_nobody():
    assert with_sides_exchanged(StatedCamera(50, 40, 50.0), PhotoHeader(40, 30)) is None
    assert with_sides_exchanged(StatedCamera(None, 40, 50.0), PhotoHeader(40, 30)) is None


def test_a_photo_that_exif_turns_is_no_exchange(tmp_path):
    sized, found = findings(frame(tmp_path, StatedCamera(30, 40, 50.0), Orientation=6))
    assert sized[0].file.orientation == 6 and found == []


def test_sizes_that_no_exchange_mends_are_a_fault_with_the_loaders_words(tmp_path):
    sized, (finding,) = findings(frame(tmp_path, StatedCamera(50, 30, 50.0)))
    assert sized == [] and finding.is_fault and not finding.is_mended and "40×30 but its camera says 50×30" in finding.evidence


def test_photos_that_do_not_open_are_a_fault_where_they_are_many(tmp_path):
    frames = [frame(tmp_path, CAMERA, name=f"{i}.png") for i in range(12)]
    frames[3].path.write_bytes(b"nothing")
    sized, (finding,) = findings(*frames)
    assert len(sized) == 11 and not finding.is_fault and finding.is_mended and finding.photos == ("3.png",)
    frames[4].path.write_bytes(b"nothing")
    assert findings(*frames)[1][0].is_fault


@pytest.mark.parametrize("camera, size, tags, is_fault, words", [
    (StatedCamera(40, 30, 4.0), (40, 30), {}, True, "its camera sees 157° with a focal length of 4 px"),  # millimetres
    (StatedCamera(40, 30, 5e3), (40, 30), {}, True, "its camera sees 0.458°"),
    (StatedCamera(40, 30, 50.0), (40, 30), {"FocalLengthIn35mmFilm": 90}, False, "EXIF says 104 px, the scene's file 50 px"),
    (StatedCamera(40, 30, 50.0, centre_x_px=5.0), (40, 30), {}, False, r"\(5, 15\) in 40×30"),
    (StatedCamera(40, 30, 50.0, centre_y_px=1e6), (40, 30), {}, True, r"\(20, 1000000\) in 40×30"),
    (StatedCamera(40, 30, 50.0, focal_y_px=60.0), (40, 30), {}, False, "50 px across, 60 px down"),
    (StatedCamera(40, 30, 50.0, lens=Lens(radial=(1e6, 0.0, 0.0, 0.0))), (40, 30), {}, True, "looks 0.016 times as far aside"),
    (StatedCamera(40, 30, 50.0, lens=Lens(radial=(-1e6, 0.0, 0.0, 0.0))), (40, 30), {}, True, "100% of the picture lies where"),
    (StatedCamera(40, 30, 50.0, lens=Lens(tangential=(1e6, 0.0))), (40, 30), {}, True, "of the picture lies where"),
    (StatedCamera(40, 30, 50.0, lens=Lens(radial=(-1.2, 0.0, 0.0, 0.0))), (40, 30), {}, False, "% of the picture lies where"),
    (StatedCamera(40, 40, 50.0), (40, 40), {"Orientation": 6}, False, "40×40 is the stated one as it is stored")])
def test_numbers_that_no_camera_has_or_that_exif_denies_are_told(tmp_path, camera, size, tags, is_fault, words):
    import re
    _, (finding,) = findings(frame(tmp_path, camera, size, **tags))
    assert finding.is_fault == is_fault and re.search(words, finding.evidence)


@pytest.mark.parametrize("camera", [
    StatedCamera(40, 30, 20.0, lens=Lens(radial=(-0.27, 0.11, -0.02, 0.0))),  # an action camera, 90° wide
    StatedCamera(40, 30, 12.0, lens=Lens("fisheye", radial=(0.035, -0.012, 0.004, -0.001))),
    StatedCamera(40, 20, lens=Lens("equirectangular"))])
def test_wide_lenses_and_panoramas_are_no_finding(tmp_path, camera):
    assert findings(frame(tmp_path, camera, (camera.width, camera.height)))[1] == []


def test_how_far_a_lens_bends_is_what_its_formula_says():
    """At the corner: r = b (1 + k b²) of the plane at distance 1, with b = 0.5 there."""
    camera = Camera(80, 60, 50.0 / 0.5 * 1.1, 50.0 / 0.5 * 1.1, 40.0, 30.0, Lens(radial=(0.4, 0.0, 0.0, 0.0)))
    lost, inwards, outwards = bending(camera)
    radius = 50.0 / camera.focal_x_px  # of the corner
    assert lost == 0.0 and inwards * radius * (1.0 + 0.4 * (inwards * radius) ** 2) == pytest.approx(radius)
    assert inwards < outwards < 1.0


def test_a_focal_length_that_exif_confirms_is_no_finding(tmp_path):
    assert findings(frame(tmp_path, StatedCamera(40, 30, 40 * 26 / 36), FocalLengthIn35mmFilm=24))[1] == []
    assert math.isclose(findings(frame(tmp_path, CAMERA))[0][0].fit.camera.focal_x_px, 50.0)
