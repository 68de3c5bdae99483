import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerf_app.scene import mirror_plane
from nerf_app.scene.flat_mirror import CELLS
from nerf_app.scene.load import load_scene
from nerf_app.scene.matching import Sights
from nerf_app.scene.mirror_search import search_mirror
from nerf_app.scene.mirrors import find_mirror
from nerf_app.scene.scene import Scene, View
from nerf_app.scene.vision import reversed_features
from tests.scene.test_mirrors import CENTRE, NORMAL, RIGHT, SHAPES, UP, cameras, in_input, masks_of, written

DATA = Path(__file__).resolve().parents[2] / "data"


def reflected(points: np.ndarray) -> np.ndarray:
    """In input coordinates."""
    return points - 2 * ((points - CENTRE) @ NORMAL)[:, None] * NORMAL


def photographed(folder: Path, shape: str, has_wall: bool = True) -> Scene:
    """Photos that agree on what is around the glass, if there is a wall, and never on what shows in it."""
    written(folder, masks_of(shape))
    rng = np.random.default_rng(0)
    for i, mask in enumerate(masks_of(shape)):
        photo = rng.integers(0, 255, (*mask.shape, 3), dtype=np.uint8)
        Image.fromarray(np.where((mask if has_wall else mask | True)[..., None], photo, np.uint8(128))).save(folder / f"{i}.png")
    return load_scene(folder)


def sights_in(scene: Scene, shape: str, count: int = 800, strangers: int = 0, dirt: int = 0, halves: bool = False) -> Sights:
    """Things before a mirror and in it; strangers are in it alone, dirt is on it; halves: as many are seen from behind."""
    rng, number = np.random.default_rng(0), len(scene.indices("train"))
    photos = rng.integers(0, number, count + strangers)
    eyes = np.stack([cameras()[i][:3, 3] for i in scene.indices("train")])[photos]
    x, y = rng.uniform(-0.8, 0.8, (2, 20 * len(photos)))
    some = np.flatnonzero(SHAPES[shape](x, y))[:len(photos)]
    on = CENTRE + x[some, None] * RIGHT + y[some, None] * UP
    beyond = eyes + (on - eyes) * rng.uniform(1.5, 2.5, (len(on), 1))
    looks = np.abs(rng.normal(size=(count + strangers + dirt, 128)))
    places = np.concatenate([beyond, reflected(beyond[:count]), on[:dirt]])
    eyes = np.concatenate([eyes, eyes[:count], eyes[:dirt]])
    looks = np.concatenate([looks[:count + strangers], reversed_features(looks[:count]), looks[count + strangers:]])
    photos = np.concatenate([photos, photos[:count], photos[:dirt]])
    if halves:
        places, eyes = np.concatenate([places, reflected(places)]), np.concatenate([eyes, reflected(eyes)])
        looks, photos = np.tile(looks, (2, 1)), np.tile(photos, 2)
    looks = (looks / np.linalg.norm(looks, axis=1, keepdims=True)).astype(np.float32)
    return Sights(scene.normalisation.to_scene(places), scene.normalisation.to_scene(eyes), photos, looks)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_glass_is_where_reflections_are_seen_as_far_as_photos_disagree(tmp_path, monkeypatch, shape):
    scene = photographed(tmp_path, shape)
    monkeypatch.setattr(mirror_plane, "find_sights", lambda *_: sights_in(scene, shape))
    found, why = search_mirror(scene)
    assert not why
    places, before = in_input(scene, found)
    assert np.abs(before).max() < 1e-3
    away = places - CENTRE
    is_glass = SHAPES[shape](away @ RIGHT, away @ UP)
    assert (is_glass & found.is_glass).sum() / (is_glass | found.is_glass).sum() > 0.93
    assert "720 of 720 features that 10 photos see in it" in found.words(scene.normalisation)


def test_what_shows_in_a_mirror_tells_its_plane_more_finely_than_masks_do(tmp_path, monkeypatch):
    scene = written(tmp_path, masks_of("a rectangle"))
    misses = []
    for count in (25, 800):  # too few to be asked, and enough
        monkeypatch.setattr(mirror_plane, "find_sights", lambda *_, count=count: sights_in(scene, "a rectangle", count))
        found = find_mirror(scene, tmp_path / "glass")
        misses.append(np.abs(in_input(scene, found)[1][found.is_glass]).max())
    assert misses[0] > 1e-3 and misses[1] < 1e-6


@pytest.mark.parametrize("words, sights", [
    ("hardly anything", {"count": 25}),
    ("in 10 photos, too few", {"count": 50}),
    ("symmetric, .* seen from the other side too", {"halves": True}),
    ("20% of what would be seen in it, too little", {"count": 200, "strangers": 800}),
    ("367 features lie, beside 720 that are seen through it", {"dirt": 400}),
])
def test_what_is_no_mirror_is_not_believed_and_why_is_said(tmp_path, monkeypatch, words, sights):
    scene = photographed(tmp_path, "a rectangle")
    monkeypatch.setattr(mirror_plane, "find_sights", lambda *_: sights_in(scene, "a rectangle", **sights))
    found, why = search_mirror(scene)
    assert found is None
    assert re.search(words, why), why


def test_a_mirror_without_an_end_is_not_believed(tmp_path, monkeypatch):
    scene = photographed(tmp_path, "a rectangle", has_wall=False)
    monkeypatch.setattr(mirror_plane, "find_sights", lambda *_: sights_in(scene, "a rectangle"))
    found, why = search_mirror(scene)
    assert found is None and re.search(r"photos agree on \d% of what would be around it", why)


@pytest.fixture(scope="module")
def room() -> Scene:
    return load_scene(DATA / "mirror")


@pytest.mark.slow
def test_the_mirror_of_the_bundled_room_is_found_where_it_hangs(room):
    found, _ = search_mirror(room)
    across = np.cross(*found.frame[1:])
    assert np.degrees(np.arccos(across / np.linalg.norm(across) @ [0, -1, 0])) < 0.1
    steps = (np.arange(CELLS) + 0.5) / CELLS
    places = room.normalisation.to_input(found.frame[0] + steps[:, None, None] * found.frame[2] + steps[:, None] * found.frame[1])
    assert np.abs(places[found.is_glass][:, 1] - 1.68).max() < 0.004  # metres: 0.2 % of the cameras' distance
    is_glass = (np.abs(places[..., 0]) < 0.85) & (np.abs(places[..., 2] - 1.25) < 0.7)
    cell = np.linalg.norm(across) / CELLS**2 / room.normalisation.scale**2
    both = (is_glass & found.is_glass).sum() * cell
    assert both / (1.7 * 1.4 + found.is_glass.sum() * cell - both) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", ["object", "room", "shiny"])
def test_no_mirror_is_found_where_there_is_none(name):
    found, why = search_mirror(load_scene(DATA / name))
    assert found is None and why


@pytest.mark.slow
def test_the_room_seen_from_where_its_mirror_does_not_show_has_none(room):
    views = tuple(replace(view, split="test") if np.asarray(mask_of(view)).any() else view for view in room.views)
    without = replace(room, views=views)
    assert len(without.indices("train")) > 15
    assert search_mirror(without)[0] is None


def mask_of(view: View) -> Image.Image:
    return Image.open(DATA / "mirror/mirror" / f"{Path(view.name).stem}.png")
