"""Photos that disagree with one another, and what fitting their exposures and poses makes of it, from photos to run folder."""

import dataclasses

import numpy as np
import pytest
import torch

from nerf_app import checkpoint
from nerf_app import run as runs
from nerf_app.settings import MachineSettings
from tests.sphere import SHARP, small_config, sphere_scene

SCENE = sphere_scene(n_views=24, size=32)
TRAIN = SCENE.indices("train")


def trained(scene, folder, changes, steps=200):
    for _ in runs.train_events(scene, small_config(steps, SHARP | changes), folder):
        pass
    return runs.open_run(folder, MachineSettings(backend="reference", threads=1))


def with_exposures(scene):
    """The scene with training photos that are lighter or darker, redder or bluer, and in the mean as they were."""
    photos, generator = scene.photos, np.random.default_rng(0)
    gains = 1.0 + 0.35 * generator.uniform(-1.0, 1.0, (len(TRAIN), 3))
    gains += 1.0 - gains.mean(0)
    pixels = photos.pixels.clone()
    for index, gain in zip(TRAIN, gains, strict=True):
        rows = slice(int(photos.offsets[index]), int(photos.offsets[index]) + 32 * 32)
        pixels[rows, :3] = torch.from_numpy(np.clip(pixels[rows, :3].numpy() * gain, 0, 255).round().astype(np.uint8))
    return dataclasses.replace(scene, photos=dataclasses.replace(photos, pixels=pixels))


def with_wrong_poses(scene, degrees):
    """The scene with each training photo's pose turned a little about its own axis."""
    generator, views = np.random.default_rng(1), list(scene.views)
    for index in TRAIN:
        turn = generator.normal(size=3)
        turn *= np.radians(degrees) / np.linalg.norm(turn)
        x, y, z = turn
        pose = views[index].world_from_camera.copy()
        pose[:3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])).numpy() @ pose[:3, :3]
        views[index] = dataclasses.replace(views[index], world_from_camera=pose)
    return dataclasses.replace(scene, views=tuple(views))


def angles(views):
    """Degrees between the training photos' poses and the true ones, after the turn that they have in common."""
    turns = np.stack([views[i].world_from_camera[:3, :3] @ SCENE.views[i].world_from_camera[:3, :3].T for i in TRAIN])
    u, _, v = np.linalg.svd(turns.sum(0))
    return np.degrees(np.arccos(np.clip((np.trace(turns @ (u @ v).T, axis1=1, axis2=2) - 1) / 2, -1, 1)))


@pytest.mark.slow
def test_photos_of_different_exposures_are_told_apart_from_what_they_show(tmp_path):
    scene = with_exposures(SCENE)
    plain, *fitted = (runs.evaluate(trained(scene, tmp_path / kind, {"photos.exposure": kind}), SCENE)["psnr"]
                      for kind in ("none", "affine", "code"))
    assert min(fitted) > plain + 1.0, (plain, fitted)


@pytest.mark.slow
def test_wrong_poses_are_mended_and_the_run_tells_of_both(tmp_path):
    scene = with_wrong_poses(SCENE, degrees=2.0)
    changes = {"photos.refine_poses": True}
    run = trained(scene, tmp_path / "run", changes, steps=240)
    assert np.median(angles(run.views)) < 0.6 * np.median(angles(scene.views))
    held_out = [i for i in range(len(scene.views)) if i not in TRAIN]
    assert all(np.array_equal(run.views[i].world_from_camera, scene.views[i].world_from_camera) for i in held_out)
    assert checkpoint.scene_facts(scene)["views"] == run.header.views, "what was given stays known"
    refined = runs.as_refined(run, scene)
    assert runs.changes_since(run.header, scene) is None and runs.changes_since(run.header, refined) is None
    assert all(np.array_equal(a.world_from_camera, b.world_from_camera) for a, b in zip(refined.views, run.views))
    centres = [np.mean([views[i].world_from_camera[:3, 3] for i in TRAIN], 0) for views in (run.views, scene.views)]
    assert centres[0] == pytest.approx(centres[1], abs=1e-9), "input coordinates stay where they were"
