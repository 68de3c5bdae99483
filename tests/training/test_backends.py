"""Every backend learns as much from the same steps."""

import pytest

from nerf_app.model import RadianceModel
from nerf_app.ops.backend import choose_backend
from nerf_app.training import loop
from nerf_app.training.batches import PixelBatches
from nerf_app.training.loop import Trainer
from nerf_app.training.schedule import Budget
from nerf_app.training.tiles import Tiles
from nerf_app.training.validation import Validation
from tests.requires import requires
from tests.sphere import SHARP, TINY_NERF, small_config, sphere_scene


@pytest.mark.parametrize("changes", [SHARP, TINY_NERF | {"training.learning_rate": 5e-3}], ids=["hashgrid", "frequency"])
@pytest.mark.parametrize("backend", [pytest.param("cpp", marks=requires("compiler"))])
def test_the_same_steps_bring_the_same_score_within_a_third_of_a_decibel(backend, changes, monkeypatch):
    """On the same rays: those that follow from errors, and how many there are, would be others after a few rounding errors."""
    monkeypatch.setattr(Tiles, "learn", lambda *_: None)
    monkeypatch.setattr(loop, "FEWEST_RAYS", 1024)
    monkeypatch.setattr(loop, "MOST_RAYS", 1024)
    scene, scores = sphere_scene(size=32), []
    for name in ("reference", backend):
        config = small_config(150, changes)
        model = RadianceModel(config, True, choose_backend(name, "cpu", 1))
        trainer = Trainer(model, PixelBatches(scene, model.ops), None, config)
        *_, last = loop.train(trainer, Budget(trainer.settings, 1))
        assert last.step == 150
        scores.append(Validation(scene).score(model)[0])
    assert scores[0] > 17.0
    assert scores[1] == pytest.approx(scores[0], abs=0.3), scores
