"""A mirror goes along with a run: found when it begins, kept in its scene file, needed by nobody else."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from nerf_app import run as runs
from nerf_app.checkpoint import CURRENT, load
from nerf_app.config import Config, with_overrides
from nerf_app.errors import DataError, UsageError
from nerf_app.scene.mirrors import find_mirror
from nerf_app.training.events import Note
from tests.scene.test_mirrors import NORMAL, masks_of, written

TINY = {"training.steps": 4, "training.minutes": None, "training.samples_per_step": 2048, "sampling.steps": 24,
        "sampling.grid_resolution": 8, "encoding.levels": 2, "encoding.log2_entries": 8, "machine.threads": 1}


def config(**more: object) -> Config:
    return with_overrides(Config(), TINY | {"scene.mirror": "glass"} | more)


def test_a_run_keeps_its_mirror_and_goes_on_without_the_masks(tmp_path):
    scene = written(tmp_path, masks_of("a disc"))
    notes = [event.text for event in runs.train_events(scene, config(), tmp_path / "run") if isinstance(event, Note)]
    assert any(note.startswith("mirror    flat, 1.2") for note in notes)
    list(runs.train_events(scene, config(**{"training.steps": 8}), tmp_path / "whole"))
    shutil.rmtree(tmp_path / "glass")
    run = runs.open_run(tmp_path / "run")
    assert run.model.mirror.normal.double().numpy() @ NORMAL > 0.999
    assert np.isfinite(run.render(run.views[0]).rgb).all()
    list(runs.resume(tmp_path / "run", None, {"training.steps": 8}))
    again, whole = (load(tmp_path / name)[0] for name in ("run", "whole"))
    assert again.keys() == whole.keys() >= {"model.mirror", "model.glass"}
    for name in ("model.mirror", "model.glass"):
        assert again[name].equal(whole[name])


def test_a_run_keeps_to_the_mirror_it_began_with(tmp_path):
    scene = written(tmp_path, masks_of("a disc"))
    list(runs.train_events(scene, config(), tmp_path / "run"))
    with pytest.raises(UsageError, match="scene.mirror cannot be changed once a run has begun"):
        list(runs.resume(tmp_path / "run", None, {"scene.mirror": "none"}))


def test_a_mirror_that_photos_show_is_kept_as_one_of_masks_is(tmp_path, monkeypatch):
    scene = written(tmp_path, masks_of("a disc"))
    monkeypatch.setattr(runs, "search_mirror", lambda scene: (find_mirror(scene, tmp_path / "glass"), ""))
    auto = config(**{"scene.mirror": "auto"})
    notes = [event.text for event in runs.train_events(scene, auto, tmp_path / "run") if isinstance(event, Note)]
    assert any(note.startswith("mirror    flat, 1.2") for note in notes)
    list(runs.train_events(scene, config(), tmp_path / "masked"))
    again, masked = (load(tmp_path / name)[0] for name in ("run", "masked"))
    assert again.keys() == masked.keys() and all(again[name].equal(masked[name]) for name in again)
    assert load(tmp_path / "run")[1].config["scene.mirror"] == "auto"
    monkeypatch.undo()
    list(runs.resume(tmp_path / "run", None, {"training.steps": 8}))
    assert load(tmp_path / "run")[0]["model.mirror"].equal(masked["model.mirror"])


def test_a_run_for_which_no_mirror_is_found_says_so_and_goes_on_as_one_without(tmp_path):
    scene = written(tmp_path, masks_of("a disc"))
    auto, none = (config(**{"scene.mirror": mirror}) for mirror in ("auto", "none"))
    notes = [event.text for event in runs.train_events(scene, auto, tmp_path / "run") if isinstance(event, Note)]
    assert any(re.match("mirror    none was found: .*--mirror MASKS", note) for note in notes)
    list(runs.train_events(scene, none, tmp_path / "plain"))
    again, plain = (load(tmp_path / name)[0] for name in ("run", "plain"))
    assert again.keys() == plain.keys() and all(again[name].equal(plain[name]) for name in again)
    assert runs.open_run(tmp_path / "run").config.scene.mirror == "none"


def test_a_mirror_that_cannot_be_found_leaves_no_run_behind(tmp_path):
    scene = written(tmp_path, [np.zeros((72, 96), bool)] * 12)
    with pytest.raises(DataError, match="masks must be white where the mirror is seen"):
        list(runs.train_events(scene, config(), tmp_path / "run"))
    with pytest.raises(UsageError, match="none, auto, or a folder of masks"):
        list(runs.train_events(scene, config(**{"scene.mirror": "gone"}), tmp_path / "run"))
    assert not Path(tmp_path / "run" / CURRENT).exists() and not (tmp_path / "run").exists()
