import functools
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from nerf_app.errors import DataError, UsageError
from nerf_app.export.scale import (
    Sightings,
    earth_places,
    fitted_scale,
    meeting_points,
    scale_from,
    scale_from_marker,
    triangulated_square,
)
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import View
from nerf_app.scene.vision import find_markers
from tests.export.stand_in import pose_looking

OFFSET = np.array([4e3, -7e3, 50.0])  # input coordinates
SIDE = 0.37  # input units
CAMERA = Camera(320, 240, 330.0, 325.0, 158.0, 123.0)
BENT = Camera(320, 240, 300.0, 300.0, 160.0, 120.0, Lens(radial=(-0.15, 0.03, 0.0, 0.0), tangential=(1e-3, -2e-3)))
FISHEYE = Camera(320, 240, 220.0, 220.0, 160.0, 120.0, Lens("fisheye", (0.02, -0.01, 0.0, 0.0)))
QUIET = lambda done, total: None  # noqa: E731


def printed(number=7, family=cv2.aruco.DICT_4X4_50, cells=6):
    """A marker of side 1 in the middle of white paper of side 1.5, [600, 600] uint8."""
    marker = cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(family), number, cells)
    return np.pad(cv2.resize(marker, (400, 400), interpolation=cv2.INTER_NEAREST), 100, constant_values=255)


@functools.cache
def rays(camera):
    """Unit directions [9, H · W, 3], camera axes, of 3 × 3 places in every pixel."""
    rows, columns = np.divmod(np.arange(camera.height * camera.width), camera.width)
    places = [(columns + (i + 0.5) / 3, rows + (j + 0.5) / 3) for i, j in np.ndindex(3, 3)]
    x, y = torch.from_numpy(np.concatenate(places, 1))
    directions, _ = CameraBatch.from_cameras([camera]).directions(torch.zeros(len(x), dtype=torch.int64), x, y)
    return directions.numpy().reshape(9, -1, 3)


@functools.cache
def photographed(camera, place, papers):
    """A uint8 [H, W, 3] photo, from one of POSES, of papers that lie on a grey floor."""
    pose = POSES[place]
    total = np.zeros(camera.height * camera.width)
    origin = pose[:3, 3] - OFFSET
    for inside in rays(camera):
        directions = inside @ pose[:3, :3].T
        floor = origin[:2] - directions[:, :2] * (origin[2] / np.where(directions[:, 2] < 0, directions[:, 2], np.nan))[:, None]
        shade = np.full(len(inside), 120.0)
        for paper, middle_x, middle_y, side in PAPERS[papers]:
            u, v = ((floor - (middle_x, middle_y)) / side * (400.0, -400.0) + 300.0).T
            is_on = (u >= 0) & (u < 600) & (v >= 0) & (v < 600)
            shade[is_on] = paper[v[is_on].astype(int), u[is_on].astype(int)]
        total += shade / 9
    return np.repeat(np.round(total).astype(np.uint8).reshape(camera.height, camera.width, 1), 3, 2)


POSES = [pose_looking(OFFSET + 1.6 * np.array([0.7 * np.cos(a), 0.7 * np.sin(a), 0.8 + 0.05 * a]), OFFSET + [0.03 * a, 0.0, 0.0])
         for a in np.linspace(0.0, 4.0, 9)]
OTHER = printed(3, cv2.aruco.DICT_APRILTAG_36h11, cells=8)
PAPERS = {"one": [(printed(), 0.05, -0.04, SIDE)],  # picture, x and y of its middle, side of the marker
          "alike": [(printed(), -0.3, 0.0, SIDE), (OTHER, 0.35, 0.0, SIDE)],
          "unlike": [(printed(), -0.3, 0.0, SIDE), (OTHER, 0.35, 0.0, 0.7 * SIDE)]}


def scene_of(cameras, places, papers="one", split="train"):
    views = [View(f"{place}.png", cameras[i % len(cameras)], POSES[place], split) for i, place in enumerate(places)]
    pictures = [torch.from_numpy(photographed(view.camera, place, papers)) for view, place in zip(views, places, strict=True)]
    return SimpleNamespace(views=views, photos=SimpleNamespace(picture=lambda i: (pictures[i], None)),
                           indices=lambda split: [i for i, view in enumerate(views) if view.split == split])


def corners_of(x, y, side):
    return OFFSET + side * np.array([[-0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.5, -0.5, 0.0], [-0.5, -0.5, 0.0]]) + [x, y, 0.0]


@pytest.mark.parametrize("text", ["0 0 0 3 4 0 0.30", " 0,0,0  3,4,0  0.3 ", "0 0 0; 3 4 0; .3"])
def test_two_points_and_their_distance_give_metres_per_unit(text):
    scale = scale_from(text, None, QUIET)
    assert scale.metres_per_unit == pytest.approx(0.06) and scale.error is None
    assert scale.how == "two points 5 units apart are 0.3 m apart: one unit is 0.06 m"


@pytest.mark.parametrize("text", ["", "1 2 3", "0 0 0 1 1 1", "0 0 0 1 1 1 -2", "0 0 0 1 1 1 nan", "a b c d e f g",
                                  "0 0 0 1 1 1 1 1", "aruco", "aruco 0", "aruco five", "marker 0.05"])
def test_what_cannot_be_meant_is_refused_with_the_two_forms(text):
    with pytest.raises(UsageError, match=r"--scale-from .* cannot be meant: give two points .*, a printed marker's side"):
        scale_from(text, None, QUIET)


def test_two_points_at_one_place_are_refused():
    with pytest.raises(UsageError, match="the two points of --scale-from are the same"):
        scale_from("1 2 3 1 2 3 0.5", None, QUIET)


@pytest.mark.parametrize("cameras", [(CAMERA,), (BENT,), (FISHEYE,), (FISHEYE, CAMERA, BENT)])
def test_a_marker_in_photos_of_any_lens_gives_the_scale_to_half_a_percent(cameras):
    told = []
    scene = scene_of(cameras, (0, 3, 6, 8))
    scale = scale_from("aruco 0.05", lambda: scene, lambda *state: told.append(state))
    assert scale.metres_per_unit == pytest.approx(0.05 / SIDE, rel=5e-3)
    assert 0.0 < scale.error < 0.01
    assert told == [(i + 1, 4) for i in range(4)]
    assert scale.how.startswith("4X4 number 7: 4 sides of 0.3") and "are 0.05 m: one unit is 0.13" in scale.how


def test_corners_are_found_where_they_are_to_a_fraction_of_a_pixel():
    pose, photo = POSES[3], photographed(CAMERA, 3, "one")
    marker, = find_markers(photo[..., 0])
    inside = (corners_of(0.05, -0.04, SIDE) - pose[:3, 3]) @ pose[:3, :3]
    x, y, _ = CameraBatch.from_cameras([CAMERA]).project(torch.zeros(4, dtype=torch.int64), torch.from_numpy(inside))
    np.testing.assert_allclose(marker.corners, np.stack([x, y], 1), atol=0.2)


def test_two_photos_are_enough_and_held_out_ones_are_not_looked_at():
    scale = scale_from_marker(scene_of((CAMERA,), (0, 6)), 0.2, QUIET)
    assert scale.metres_per_unit == pytest.approx(0.2 / SIDE, rel=0.01)
    with pytest.raises(DataError, match="none was seen in any"):
        scale_from_marker(scene_of((CAMERA,), (0, 6), split="test"), 0.2, QUIET)


def test_several_markers_of_one_size_count_together_and_of_two_sizes_are_refused():
    scale = scale_from_marker(scene_of((CAMERA,), (0, 3, 6), "alike"), 0.05, QUIET)
    assert scale.metres_per_unit == pytest.approx(0.05 / SIDE, rel=5e-3)
    assert "8 sides" in scale.how and "APRILTAG_36h11 number 3" in scale.how
    with pytest.raises(DataError, match=r"the markers differ in size.*4X4 number 7 0\.3\d+ units.*number 3 0\.2\d+ units"):
        scale_from_marker(scene_of((CAMERA,), (0, 3, 6), "unlike"), 0.05, QUIET)


def sightings(poses, corners, noise=0.0):
    to = corners - np.array([pose[:3, 3] for pose in poses])[:, None]
    to += noise * np.linalg.norm(to, axis=2, keepdims=True) * np.random.randn(*to.shape)
    return Sightings(np.array([pose[:3, 3] for pose in poses]), to / np.linalg.norm(to, axis=2, keepdims=True),
                     np.full(len(poses), 1 / 300))


def test_rays_meet_at_the_corners_they_came_from():
    corners = corners_of(0.1, 0.2, SIDE)
    np.testing.assert_allclose(meeting_points(sightings(POSES[:5], corners)), corners, atol=1e-9)


def test_photos_that_saw_something_else_are_outvoted():
    corners, wrong = corners_of(0.0, 0.0, SIDE), corners_of(0.4, 0.3, 2 * SIDE)
    good, bad = sightings(POSES, corners, 1e-4), sightings(POSES[:7], wrong, 0.05)
    mixed = Sightings(*(np.concatenate([getattr(bad, name), getattr(good, name)]) for name in vars(good)))
    np.testing.assert_allclose(triangulated_square(mixed), corners, atol=1e-3)


def test_photos_from_one_place_things_that_are_no_square_and_disagreement_measure_nothing():
    corners = corners_of(0.0, 0.0, SIDE)
    place = POSES[0]
    near = [place, place + np.pad([[0.005], [0.0], [0.0]], ((0, 1), (3, 0)))]
    assert triangulated_square(sightings(near, corners)) is None
    assert triangulated_square(sightings(near[:1] * 2, corners)) is None
    oblong = corners.copy()
    oblong[:2, 1] += 0.3 * SIDE
    assert triangulated_square(sightings(POSES[:5], oblong)) is None
    assert triangulated_square(sightings(POSES[:5], corners, noise=0.2)) is None


def test_a_transparent_photo_lies_on_white_and_a_picture_without_markers_has_none():
    photo = photographed(CAMERA, 0, "one")[..., :1]
    alpha = np.where(photo == 255, 0, 255).astype(np.uint8)  # the paper's white was cut out
    holes = np.concatenate([np.repeat(np.where(alpha == 0, 0, photo), 3, 2), alpha], 2)
    scene = scene_of((CAMERA,), (0, 6))
    pictures = [torch.from_numpy(holes), scene.photos.picture(1)[0]]
    scene.photos.picture = lambda i: (pictures[i], None)
    assert scale_from_marker(scene, 0.2, QUIET).metres_per_unit == pytest.approx(0.2 / SIDE, rel=0.01)
    assert find_markers(np.random.randint(0, 255, (240, 320), np.uint8)) == []


# Places by EXIF

def placed(count=30, size=40.0, noise=0.0, seed=0):
    """Cameras [V, 3] in units of 2.5 m, turned and far away, and their places as degrees and metres [V, 3], which miss."""
    rng = np.random.default_rng(seed)
    metres = rng.uniform(-size / 2, size / 2, (count, 3)) * [1.0, 1.0, 0.2]
    north, east = 48.2, 16.4
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    missed = metres + rng.normal(0.0, noise, metres.shape)
    degrees = np.degrees(missed[:, :2] / [[6.383e6 * np.cos(np.radians(north)), 6.3695e6]])  # radii of curvature at 48.2 degrees
    return metres @ turn.T / 2.5 + OFFSET, np.stack([north + degrees[:, 1], east + degrees[:, 0], 170.0 + missed[:, 2]], 1)


def scene_at(centres, places):
    poses = [np.pad(np.eye(4)[:, :3], ((0, 0), (0, 1))) for _ in centres]
    for pose, centre in zip(poses, centres, strict=True):
        pose[:, 3] = [*centre, 1.0]
    views = [SimpleNamespace(world_from_camera=pose) for pose in poses]
    files = [SimpleNamespace(header=SimpleNamespace(place=place)) for place in places]
    return SimpleNamespace(views=views, photos=SimpleNamespace(files=files))


def test_places_on_the_earth_are_as_far_apart_as_they_are():
    degree = np.linalg.norm(np.diff(earth_places(np.array([[44.5, 7.0, 0.0], [45.5, 7.0, 0.0]])), axis=0))
    assert degree == pytest.approx(111_131.7, rel=2e-4)  # of a meridian's arc there; a chord is a hair shorter
    assert np.linalg.norm(earth_places(np.array([[90.0, 12.0, 100.0]]))) == pytest.approx(6_356_852.314, abs=1e-2)
    np.testing.assert_allclose(earth_places(np.array([[0.0, 90.0, 3.0]])), [[0.0, 6_378_140.0, 0.0]], atol=1e-6)


def test_gps_gives_the_scale():
    scale = scale_from("gps", lambda: scene_at(*placed()), QUIET)
    assert scale.metres_per_unit == pytest.approx(2.5, rel=1e-3) and scale.error < 1e-3 and "30 photos" in scale.how


@pytest.mark.parametrize("line", [False, True])
def test_the_error_of_a_scale_from_places_is_what_it_says(line):
    wrong, said = [], []
    for seed in range(60):
        centres, places = placed(12, noise=1.0, seed=seed)
        if line:
            centres, places = placed(12, 40.0, seed=seed)
            middle, along = OFFSET, (centres - OFFSET)[:, :1]
            centres = middle + along * np.array([0.6, 0.0, 0.8])  # one strip, which leaves the turn about itself open
            metres = 2.5 * along * np.array([0.28, 0.96, 0.0]) + np.random.default_rng(seed).normal(0.0, 1.0, (12, 3))
        else:
            metres = earth_places(places)
        scale, error, _ = fitted_scale(centres, metres)
        wrong.append(scale / 2.5 - 1.0)
        said.append(error)
    assert 0.6 < np.std(wrong) / np.mean(said) < 1.6


def test_places_far_off_do_not_count():
    centres, places = placed(noise=0.2)
    places[[3, 9, 20]] += [[0.01, 0.0, 0.0], [0.0, 0.02, 50.0], [0.003, 0.003, 0.0]]
    assert scale_from("GPS", lambda: scene_at(centres, places), QUIET).metres_per_unit == pytest.approx(2.5, rel=0.03)


def test_places_that_say_too_little_are_refused():
    centres, places = placed(size=2.0, noise=4.0)  # a telephone round a thing on a table
    with pytest.raises(DataError, match="30 photos .* miss those of the cameras by .* m: a scale would be wrong by .*two points"):
        scale_from("gps", lambda: scene_at(centres, places), QUIET)
    with pytest.raises(DataError, match="wrong by"):
        scale_from("gps", lambda: scene_at(centres, places[:1].repeat(30, 0)), QUIET)  # one place, said again and again
    with pytest.raises(DataError, match="3 of 30 photos say in their EXIF .* how high .* 4 are needed"):
        scale_from("gps", lambda: scene_at(centres, [*places[:3], *[None] * 27]), QUIET)
