"""Scores of pictures that are wrong by a known measure."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nerf_app.scene.load import load_scene
from nerf_app.scene.settings import SceneSettings
from nerf_app.training.validation import on_white
from tools.score_views import MATERIALS, score

SCENE = Path(__file__).resolve().parents[2] / "data" / "shiny"


def test_every_kind_of_pixels_is_as_wrong_as_it_was_made():
    scene, truth, degrees = load_scene(SCENE, SceneSettings()), SCENE / "truth", np.radians(10.0)
    photos = {view.name: on_white(scene.photos.picture(i)[0]) for i, view in enumerate(scene.views) if view.split == "test"}

    def render(view, with_normals):
        depth, normals = (np.asarray(Image.open(truth / kind / f"{Path(view.name).stem}.png")) for kind in ("depth", "normal"))
        normals = normals / 127.5 - 1.0
        aside = np.cross(normals, [0.36, 0.48, 0.8])
        turned = np.cos(degrees) * normals + np.sin(degrees) * aside / np.linalg.norm(aside, axis=2, keepdims=True)
        unit = json.loads((truth / "depth.json").read_text())["depth_unit"]
        photo = photos[view.name]
        return SimpleNamespace(rgb=np.where(photo < 0.5, photo + 0.1, photo - 0.1), normals=turned,
                               z_depth=np.where(depth > 0, 1.02 * depth * unit, np.nan))
    scores = score(SimpleNamespace(config=SimpleNamespace(scene=SceneSettings()), render=render), SCENE)
    assert scores.keys() == {"everything", "surface", *MATERIALS}
    for kind, found in scores.items():
        assert found["psnr"] == pytest.approx(20.0, abs=1e-3)
        if kind != "everything":
            assert found["depth_percent"] == pytest.approx(2.0) and found["normal_degrees"] == pytest.approx(10.0, abs=0.3), kind
