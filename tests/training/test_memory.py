"""A step that does not fit into the GPU's memory, and a GPU that is lost; both put on here."""

import pytest
import torch

from nerf_app.errors import ResourceError
from nerf_app.model import RadianceModel
from nerf_app.ops.backend import choose_backend
from nerf_app.training.batches import PixelBatches
from nerf_app.training.events import Finished, Note, Stepped
from nerf_app.training.loop import Trainer, train
from nerf_app.training.schedule import Budget
from tests.sphere import small_config, sphere_scene


def events(monkeypatch, failing):
    """Four steps, of which some fail: (number of the attempt, samples wanted) -> what is raised, or None."""
    config = small_config(4)
    model = RadianceModel(config, True, choose_backend("reference", "cpu", 1))
    trainer, attempts, step = Trainer(model, PixelBatches(sphere_scene(size=8), model.ops), None, config), [], Trainer.step

    def attempt(self, fraction):
        attempts.append(self.settings.samples_per_step)
        error = failing(len(attempts), attempts[-1])
        if error is not None:
            raise error
        return step(self, fraction)
    monkeypatch.setattr(Trainer, "step", attempt)
    return trainer, train(trainer, Budget(config.training, 1)), attempts


def test_training_goes_on_with_half_the_samples_and_says_so_once(monkeypatch):
    trainer, found, attempts = events(monkeypatch, lambda number, samples: torch.OutOfMemoryError() if number in (2, 4) else None)
    monkeypatch.setattr("nerf_app.training.loop.FEWEST_SAMPLES", 128)
    found = list(found)
    assert attempts == [512, 512, 256, 256, 128, 128]
    assert len([event for event in found if isinstance(event, Note)]) == 1
    assert [event.step for event in found if isinstance(event, Stepped)] == [1, 2, 3, 4]
    assert isinstance(found[-1], Finished)


def test_where_nothing_fits_it_says_what_to_do(monkeypatch):
    _, found, _ = events(monkeypatch, lambda number, samples: torch.OutOfMemoryError())
    with pytest.raises(ResourceError, match="no room for a step of 256 samples: close other programs"):
        list(found)


@pytest.mark.parametrize("error, said", [
    (torch.AcceleratorError("CUDA error: gone"), "AcceleratorError: CUDA error: gone"),
    (RuntimeError("Triton Error [CUDA]: unspecified launch failure"), r"RuntimeError: Triton Error \[CUDA\]: unspecified .*")])
def test_a_lost_gpu_ends_training_with_the_way_on(monkeypatch, error, said):
    _, found, _ = events(monkeypatch, lambda number, samples: error if number == 3 else None)
    with pytest.raises(ResourceError, match=rf"the GPU failed in step 3 \({said}\): .* nerf-app resume"):
        list(found)


def test_what_is_not_the_gpus_fault_is_not_laid_on_it(monkeypatch):
    _, found, _ = events(monkeypatch, lambda number, samples: RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(found)
