import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerf_app.errors import DataError, UsageError
from nerf_app.picture import pixel_directions
from nerf_app.scene import mirrors
from nerf_app.scene.camera import Camera
from nerf_app.scene.flat_mirror import CELLS, FlatMirror
from nerf_app.scene.load import load_scene
from nerf_app.scene.mirror_plane import Vote
from nerf_app.scene.mirrors import find_mirror, mirror_folder
from nerf_app.scene.scene import Scene

WIDTH, HEIGHT, FOCAL = 96, 72, 60.0
CENTRE, NORMAL = np.array([0.3, 2.0, 1.2]), np.array([0.28, -0.96, 0.0])  # of the glass, in input coordinates
RIGHT, UP = np.array([0.96, 0.28, 0.0]), np.array([0.0, 0.0, 1.0])
SHAPES = {  # of places [N], [N] to the right and upwards of the centre
    "a rectangle": lambda x, y: (np.abs(x) < 0.8) & (np.abs(y) < 0.5),
    "a disc": lambda x, y: np.hypot(x, y) < 0.6,
    "an L": lambda x, y: (np.abs(x) < 0.8) & (np.abs(y) < 0.6) & ((x < 0) | (y < 0)),
}


def cameras(count: int = 12) -> list[np.ndarray]:
    """Poses [4, 4] from half round, that look somewhere at the glass."""
    rng, poses = np.random.default_rng(0), []
    for turn in np.linspace(-1.0, 1.0, count):
        eye = CENTRE + 2.2 * (np.cos(turn) * NORMAL + np.sin(turn) * RIGHT) + rng.uniform(-0.4, 0.4) * UP
        back = eye - (CENTRE + rng.uniform(-0.5, 0.5) * RIGHT)
        back /= np.linalg.norm(back)
        right = np.cross(UP, back) / np.linalg.norm(np.cross(UP, back))
        poses.append(np.vstack([np.column_stack([right, np.cross(back, right), back, eye]), [0, 0, 0, 1]]))
    return poses


def masks_of(shape: str, has_post: bool = False) -> list[np.ndarray]:
    """[H, W] bool for each camera: where the glass shows, or a post before it, half a unit away, does not hide it."""
    directions, masks = pixel_directions(Camera(WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)), []
    for pose in cameras():
        rays, eye = directions @ pose[:3, :3].T, pose[:3, 3]
        distance = ((CENTRE - eye) @ NORMAL) / (rays @ NORMAL)
        places = eye + distance[..., None] * rays - CENTRE
        nearer = eye + (distance * (1 - 0.5 / ((eye - CENTRE) @ NORMAL)))[..., None] * rays - CENTRE
        is_hidden = np.abs(nearer @ RIGHT) < 0.1 if has_post else False
        masks.append((distance > 0) & SHAPES[shape](places @ RIGHT, places @ UP) & ~is_hidden)
    return masks


def written(folder: Path, masks: list[np.ndarray]) -> Scene:
    """A scene of grey photos, and masks beside them in "glass"."""
    frames = []
    (folder / "glass").mkdir()
    for i, (pose, mask) in enumerate(zip(cameras(), masks)):
        Image.new("RGB", (WIDTH, HEIGHT), (i, 128, 128)).save(folder / f"{i}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "glass" / f"{i}.png")
        frames.append({"file_path": f"{i}.png", "transform_matrix": pose.tolist()})
    words = {"fl_x": FOCAL, "fl_y": FOCAL, "w": WIDTH, "h": HEIGHT, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(words))
    return load_scene(folder)


def in_input(scene: Scene, found: FlatMirror) -> tuple[np.ndarray, np.ndarray]:
    """[CELLS, CELLS, 3] middles of the cells in input coordinates, and how far they lie before the true plane."""
    steps = (np.arange(CELLS) + 0.5) / CELLS
    corner, right, up = found.frame
    places = scene.normalisation.to_input(corner + steps[:, None, None] * up + steps[:, None] * right)
    return places, (places - CENTRE) @ NORMAL


@pytest.mark.parametrize("shape, has_post", [("a rectangle", False), ("a rectangle", True), ("a disc", True), ("an L", False)])
def test_the_plane_of_a_mirror_is_found_from_its_outlines_to_less_than_a_pixel(tmp_path, shape, has_post):
    scene = written(tmp_path, masks_of(shape, has_post))
    found = find_mirror(scene, tmp_path / "glass")
    across = np.cross(*found.frame[1:])  # towards the front
    assert np.degrees(np.arccos(across / np.linalg.norm(across) @ NORMAL)) < 1.6  # over its half width that is half a pixel
    places, before = in_input(scene, found)
    assert np.abs(before[found.is_glass]).max() < 0.8 * 2.2 / FOCAL  # a pixel's size on it is 0.037
    away = places - CENTRE
    is_glass = SHAPES[shape](away @ RIGHT, away @ UP)
    both, one = (is_glass & found.is_glass).sum(), (is_glass | found.is_glass).sum()
    assert both / one > (0.93 if has_post else 0.96)
    assert "seen in 10 photos" in found.evidence  # two are kept for the test


def test_a_mirror_is_upright_and_says_how_large_it_is(tmp_path):
    scene = written(tmp_path, masks_of("a rectangle"))
    found = find_mirror(scene, tmp_path / "glass")
    assert np.allclose(found.frame[2] / np.linalg.norm(found.frame[2]), scene.up, atol=0.03)
    assert np.allclose(np.cross(found.frame[1], found.frame[2]) @ NORMAL, np.linalg.norm(found.frame[1]) ** 2, rtol=0.01)
    assert found.words(scene.normalisation).startswith("flat, 1.6")


def test_masks_of_test_photos_are_not_looked_at(tmp_path):
    scene = written(tmp_path, masks_of("a disc"))
    found = find_mirror(scene, tmp_path / "glass")
    for i in scene.indices("test"):
        (tmp_path / "glass" / scene.views[i].name).unlink()
    again = find_mirror(scene, tmp_path / "glass")
    assert np.array_equal(found.frame, again.frame) and np.array_equal(found.is_glass, again.is_glass)


def test_masks_that_show_no_one_flat_mirror_are_refused_with_the_cure(tmp_path):
    rng, masks = np.random.default_rng(1), np.zeros((12, HEIGHT, WIDTH), bool)
    for mask in masks:
        row, column = rng.integers(0, HEIGHT - 20), rng.integers(0, WIDTH - 20)
        mask[row:row + 20, column:column + 20] = True
    scene = written(tmp_path, list(masks))
    with pytest.raises(DataError, match="do not fit one flat mirror.* Mark one mirror alone"):
        find_mirror(scene, tmp_path / "glass")


def test_masks_that_show_nothing_or_belong_to_nobody_are_refused_with_the_cure(tmp_path):
    scene = written(tmp_path, [np.zeros((HEIGHT, WIDTH), bool)] * 12)
    with pytest.raises(DataError, match="show a mirror in 0 photos, .*: masks must be white where the mirror is seen"):
        find_mirror(scene, tmp_path / "glass")
    for i in range(12):
        (tmp_path / "glass" / f"{i}.png").rename(tmp_path / "glass" / f"other{i}.png")
    with pytest.raises(DataError, match="masks for 0 of 10 training photos.*: name masks as their photos, such as 1.png"):
        find_mirror(scene, tmp_path / "glass")


def test_a_mask_of_another_shape_is_refused(tmp_path):
    scene = written(tmp_path, masks_of("a disc"))
    name = scene.views[scene.indices("train")[0]].name
    Image.new("L", (50, 50), 255).save(tmp_path / "glass" / name)
    with pytest.raises(DataError, match="50×50 but its photo .* is 96×72: a mask must have its photo's shape"):
        find_mirror(scene, tmp_path / "glass")


def test_a_folder_of_masks_lies_here_or_in_the_scene(tmp_path):
    (tmp_path / "glass").mkdir()
    assert mirror_folder("glass", (tmp_path,)) == tmp_path / "glass"
    with pytest.raises(UsageError, match="none, auto, or a folder of masks, white where the mirror shows; gone is none of these"):
        mirror_folder("gone", (tmp_path,))


@pytest.mark.parametrize("behind, is_taken", [(0.0005, True), (0.2, False)])
def test_features_move_the_plane_only_to_where_masks_agree(tmp_path, monkeypatch, behind, is_taken):
    """Another mirror, a little behind, may show more of them."""
    scene = written(tmp_path, masks_of("a rectangle"))
    by_masks = find_mirror(scene, tmp_path / "glass").frame
    everyone = np.ones(100, bool)
    monkeypatch.setattr(mirrors, "seen_reversed", lambda scene: ([], None, np.zeros((100, 2), int)))
    monkeypatch.setattr(mirrors, "refined", lambda sights, pairs, normal, offset:
                        Vote(normal, offset - behind, everyone, ~everyone))
    moved = np.linalg.norm(find_mirror(scene, tmp_path / "glass").frame[0] - by_masks[0])
    assert (moved > 0.5 * behind) == is_taken and moved < 2 * behind
