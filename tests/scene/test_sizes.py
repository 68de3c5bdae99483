import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.listing import StatedCamera
from nerf_app.scene.sizes import PhotoHeader, fit_camera, focal_from_35mm, same_shape

STATED = StatedCamera(width=800, height=600, focal_x_px=500.0, focal_y_px=510.0, centre_x_px=410.0, centre_y_px=290.0)


def test_a_photo_of_the_stated_size_keeps_its_numbers():
    fit = fit_camera("a.png", STATED, PhotoHeader(800, 600))
    assert fit.camera == Camera(800, 600, 500.0, 510.0, 410.0, 290.0)
    assert (fit.orientation, fit.remarks) == (1, ())


def test_a_smaller_photo_scales_its_intrinsics():
    fit = fit_camera("a.png", STATED, PhotoHeader(200, 150))
    assert fit.camera == Camera(200, 150, 125.0, 127.5, 102.5, 72.5)
    assert fit.remarks == ("intrinsics scaled from 800×600 to 200×150",)


@given(st.integers(8, 4000), st.integers(8, 4000), st.integers(1, 16))
def test_a_photo_rounded_to_whole_pixels_still_has_the_stated_shape(width, height, factor):
    small = max(1, round(width / factor)), max(1, round(height / factor))
    assert same_shape(small, (width, height)) and same_shape((width, height), small)


def test_shapes_more_than_one_percent_apart_differ():
    assert same_shape((1000, 1000), (1009, 1000))
    assert not same_shape((1000, 1000), (1012, 1000))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_photo_stored_lying_and_stated_standing_is_turned(orientation):
    stated = StatedCamera(width=600, height=800, focal_x_px=500.0)
    fit = fit_camera("a.jpg", stated, PhotoHeader(800, 600, orientation))
    assert (fit.orientation, fit.camera.width, fit.camera.height) == (orientation, 600, 800)
    assert fit.remarks == ("turned as EXIF says",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_that_agrees_as_stored_is_never_turned(orientation):
    assert fit_camera("a.jpg", STATED, PhotoHeader(800, 600, orientation)).orientation == 1


@pytest.mark.parametrize("orientation, size, is_said", [
    (1, (800, 600), False), (3, (800, 600), True), (6, (800, 600), False), (6, (700, 700), True)])
def test_a_turn_that_the_stated_size_does_not_decide_is_said(orientation, size, is_said):
    fit = fit_camera("a.jpg", StatedCamera(*size, 1000.0), PhotoHeader(*size, orientation))
    assert fit.orientation == 1 and any("left as stored" in remark for remark in fit.remarks) == is_said


def test_swapped_sides_without_exif_name_both_sizes():
    with pytest.raises(DataError, match=r"a\.jpg is 600×800 but its camera says 800×600"):
        fit_camera("a.jpg", STATED, PhotoHeader(600, 800))


@pytest.mark.parametrize("orientation, size", [(1, (640, 480)), (3, (640, 480)), (6, (480, 640))])
def test_without_a_stated_size_the_turned_file_counts(orientation, size):
    fit = fit_camera("a.jpg", StatedCamera(focal_x_px=500.0), PhotoHeader(640, 480, orientation))
    assert (fit.camera.width, fit.camera.height) == size
    assert (fit.camera.centre_x_px, fit.camera.centre_y_px) == (size[0] / 2, size[1] / 2)
    assert fit.orientation == orientation and fit.camera.focal_y_px == 500.0


def test_one_stated_side_gives_the_other_from_the_photo():
    fit = fit_camera("a.png", StatedCamera(width=1600, focal_x_px=1000.0), PhotoHeader(800, 600))
    assert fit.camera == Camera(800, 600, 500.0, 500.0, 400.0, 300.0)


@given(st.floats(0.01, 3.1))
def test_the_angle_of_view_and_the_focal_length_say_the_same(angle):
    camera = fit_camera("a.png", StatedCamera(angle_x=angle), PhotoHeader(400, 300)).camera
    assert 2 * math.atan(200 / camera.focal_x_px) == pytest.approx(angle)
    assert camera.focal_y_px == camera.focal_x_px


def test_a_vertical_angle_alone_gives_both_focal_lengths():
    camera = fit_camera("a.png", StatedCamera(angle_y=math.pi / 2), PhotoHeader(400, 300)).camera
    assert camera.focal_x_px == camera.focal_y_px == pytest.approx(150.0)


def test_a_stated_focal_length_wins_over_an_angle():
    assert fit_camera("a.png", StatedCamera(focal_x_px=7.0, angle_x=1.0), PhotoHeader(40, 30)).camera.focal_x_px == 7.0


def test_exif_helps_when_nothing_is_stated_and_says_so():
    fit = fit_camera("a.jpg", StatedCamera(), PhotoHeader(3000, 4000, focal_35mm=27.0))
    assert fit.camera.focal_x_px == fit.camera.focal_y_px == pytest.approx(27 * 5000 / math.hypot(36, 24))
    assert fit.remarks == ("no focal length stated: 3120 px taken from EXIF",)


@pytest.mark.parametrize("size, focal_px", [((3600, 2400), 2800.0), ((2400, 3600), 2800.0), ((4032, 3024), 3261.6),
                                            ((4032, 2268), 3261.6), ((3024, 3024), 3261.6)])
def test_what_a_focal_length_of_a_35_mm_film_is_in_pixels(size, focal_px):
    assert focal_from_35mm(28.0, *size) == pytest.approx(focal_px, abs=0.1)


def test_no_focal_length_anywhere_hints_at_colmap():
    with pytest.raises(DataError, match="find the cameras with COLMAP"):
        fit_camera("a.jpg", StatedCamera(), PhotoHeader(3000, 4000))


def test_a_panorama_needs_no_focal_length():
    fit = fit_camera("a.jpg", StatedCamera(lens=Lens(family="equirectangular")), PhotoHeader(400, 200))
    assert (fit.camera.width, fit.camera.height, fit.remarks) == (400, 200, ())


@pytest.mark.parametrize("stated", [
    StatedCamera(focal_x_px=0.0), StatedCamera(focal_x_px=-5.0), StatedCamera(focal_x_px=math.inf),
    StatedCamera(focal_x_px=100.0, focal_y_px=math.nan), StatedCamera(angle_x=0.0), StatedCamera(angle_x=50.0),
    StatedCamera(angle_y=math.nan), StatedCamera(width=0, height=-1, focal_x_px=1.0)])
def test_impossible_numbers_end_with_one_line(stated):
    with pytest.raises(DataError) as caught:
        fit_camera("a.jpg", stated, PhotoHeader(400, 300))
    assert "a.jpg" in str(caught.value) and "\n" not in str(caught.value)
