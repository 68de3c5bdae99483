from pathlib import Path

import numpy as np
from PIL import Image

from nerf_app.scene.load import load_scene
from nerf_app.scene.matching import LEAST_ANGLE, MISS, crossing, features_within, find_sights
from nerf_app.scene.vision import find_features, match_features, reversed_features

DATA = Path(__file__).resolve().parents[2] / "data"


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_rays_to_one_place_cross_there():
    eyes, places = np.array([[0.1, 0.0, 0.2], [2.0, 0.3, 0.0]]), np.random.default_rng(0).uniform(-1, 1, (50, 3)) + [0, 0, 5]
    far, is_met = crossing(eyes[1] - eyes[0], *(unit(places - eye) for eye in eyes))
    assert np.allclose(far, np.linalg.norm(places[:, None] - eyes, axis=2), rtol=1e-6)
    assert is_met.all()


def test_rays_that_pass_each_other_or_meet_behind_or_run_along_do_not_cross():
    eye, place = np.array([1.0, 0.0, 0.0]), np.array([0.5, 0.0, 4.0])
    first, second = unit(place), unit(place - eye)
    aside, near = (unit(place + [0, np.linalg.norm(place) * angle, 0]) for angle in (1.2 * MISS, 0.8 * MISS))
    distant = np.array([0.0, 0.0, 1 / np.tan(LEAST_ANGLE)])
    rays = np.array([[first, second], [aside, second], [near, second], [-first, -second],
                     [unit(1.1 * distant), unit(1.1 * distant - eye)], [unit(0.9 * distant), unit(0.9 * distant - eye)]])
    assert crossing(eye, rays[:, 0], rays[:, 1])[1].tolist() == [True, False, True, False, False, True]


def test_features_of_a_picture_in_a_mirror_are_at_the_mirrored_places_and_reversed():
    picture = np.asarray(Image.open(DATA / "room/images/frame_00001.jpg").convert("L"))
    found, flipped = find_features(picture, 400), find_features(picture[:, ::-1], 400)
    places = flipped.places * [-1, 1] + [picture.shape[1], 0]
    apart = np.linalg.norm(found.places[:, None] - places, axis=2)
    same = apart.min(1) < 0.01
    assert same.sum() > 200
    turned, there = reversed_features(found.descriptors[same]), flipped.descriptors[apart[same].argmin(1)]
    misses = [np.linalg.norm(values - there, axis=1) for values in (turned, found.descriptors[same])]
    assert np.median(misses[0]) < 0.15 * np.median(misses[1])  # the grid is not quite symmetric, and a place may have two
    assert np.array_equal(reversed_features(reversed_features(there)), there)


def test_places_of_features_are_in_pixels_of_the_picture_whatever_it_was_reduced_to():
    picture = Image.open(DATA / "room/images/frame_00001.jpg").convert("L")
    whole, reduced = (features_within(picture, side, 900) for side in (max(picture.size), max(picture.size) // 2))
    same = match_features(whole, reduced)
    assert len(same) > 30
    assert np.linalg.norm(np.median(whole.places[same[:, 0]] - reduced.places[same[:, 1]], axis=0)) < 0.1


def test_sights_lie_on_what_photos_show():
    scene = load_scene(DATA / "object")
    sights = find_sights(scene, scene.indices("train")[:6], most=200)
    assert len(sights.places) == 200 and sights.descriptors.shape == (200, 128)
    assert np.allclose(np.linalg.norm(sights.descriptors, axis=1), 1, atol=1e-3)
    assert (np.abs(sights.places).max(1) < 1).mean() > 0.9  # the thing fills the cube
