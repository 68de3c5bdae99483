"""A training step made of the Triton kernels, in Triton's interpreter: what it learns, and that it reads nothing."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nerf_app.model import RadianceModel
from nerf_app.ops import backend
from nerf_app.ops.backend import choose_backend
from nerf_app.sampling.draws import Draws
from nerf_app.scene import lenses
from nerf_app.scene.camera import Lens
from nerf_app.training import captured, loop
from nerf_app.training.batches import PixelBatches
from nerf_app.training.captured import CapturedStep
from nerf_app.training.loop import Trainer
from tests.requires import requires
from tests.sphere import CENTRE, small_config, sphere_scene

pytestmark = requires("triton")
STEPS, RAYS = 20, 64
SIZES = {"field.hidden_width": 16, "encoding.levels": 2, "sampling.steps": 32, "sampling.grid_resolution": 8,
         "encoding.finest": 24, "training.samples_per_step": 1024}


def interpreted_ops():
    """Triton's kernels, which Triton's interpreter runs on the CPU."""
    reference = choose_backend("reference", "cpu", 1)
    return dataclasses.replace(reference, name="triton", **backend.implementations("triton"))


def a_trainer(ops, monkeypatch, is_bounded=True, haze=None, scene=None, width=16):
    """On the analytic ball, 64 rays in every step; `haze` is the weight of all further terms, None what each has by itself."""
    monkeypatch.setattr(loop, "MOST_RAYS", RAYS)
    weights = {} if haze is None else dict.fromkeys(("losses.distortion", "losses.closeness", "losses.emptiness"), haze)
    config = small_config(STEPS, SIZES | weights | {"field.hidden_width": width})
    model = RadianceModel(config, is_bounded, ops)
    trainer = Trainer(model, PixelBatches(scene or sphere_scene(size=16), ops), None, config)
    trainer.pixels_drawn = trainer.batches.n_pixels  # so that late steps mind details
    return trainer


def losses(trainer, steps=STEPS, first=0):
    return [trainer.step(step / STEPS)[0] for step in range(first, first + steps)]


def changes_alike(trainers, start):
    """The cosine between what two trainings changed."""
    return torch.nn.functional.cosine_similarity(*(trainer.model.parameters.flat - start for trainer in trainers), dim=0)


def test_twenty_steps_follow_the_references_losses_within_a_hundredth(monkeypatch):
    trainers = [a_trainer(ops, monkeypatch) for ops in (choose_backend("reference", "cpu", 1), interpreted_ops())]
    start = trainers[0].model.parameters.flat.clone()
    truth, found = (losses(trainer) for trainer in trainers)
    assert isinstance(trainers[1].captured, CapturedStep)
    assert found == pytest.approx(truth, rel=0.01)
    assert changes_alike(trainers, start) > 0.98


def test_steps_of_nets_as_wide_as_long_trainings_have_them_are_the_references(monkeypatch):
    trainers = [a_trainer(ops, monkeypatch, width=64) for ops in (choose_backend("reference", "cpu", 1), interpreted_ops())]
    start = trainers[0].model.parameters.flat.clone()
    truth, found = (losses(trainer, 3) for trainer in trainers)
    assert isinstance(trainers[1].captured, CapturedStep) and found == pytest.approx(truth, rel=2e-3)
    assert changes_alike(trainers, start) > 0.99


def test_while_sparse_points_teach_steps_are_taken_op_by_op(monkeypatch):
    scene = sphere_scene(size=16)
    sightings = {view.name: np.arange(20) for view in scene.views}
    scene = dataclasses.replace(scene, is_bounded=False, points=CENTRE + 0.3 * np.random.default_rng(0).normal(size=(20, 3)),
                                sightings=sightings)
    reference = choose_backend("reference", "cpu", 1)
    trainers = [a_trainer(ops, monkeypatch, False, scene=scene) for ops in (reference, interpreted_ops())]
    truth, found = (losses(trainer, 2, STEPS // 2 - 2) for trainer in trainers)
    assert trainers[1].captured is None and found == pytest.approx(truth, rel=2e-3)
    losses(trainers[1], 1, STEPS // 2)
    assert isinstance(trainers[1].captured, CapturedStep)


@pytest.mark.parametrize("first", [0, STEPS - 5], ids=["one ray a pixel", "two rays a pixel"])
def test_haze_without_bounds_counts_as_the_reference_has_it(first, monkeypatch):
    """With weights that make it a good part of the loss, over steps of which each changes the next."""
    reference = choose_backend("reference", "cpu", 1)
    trainers = [a_trainer(ops, monkeypatch, False, 0.5) for ops in (reference, interpreted_ops())]
    start = trainers[0].model.parameters.flat.clone()
    truth, found = (losses(trainer, 5, first) for trainer in trainers)
    assert isinstance(trainers[1].captured, CapturedStep)
    assert trainers[1].captured.shape(first / STEPS).rays_of_pixel == (2 if first else 1)
    assert truth[0] > 1.3 * losses(a_trainer(reference, monkeypatch, False, 0.0), 1, first)[0]
    assert found == pytest.approx(truth, rel=2e-3)
    assert changes_alike(trainers, start) > 0.99


def refuse(*_, **__):
    raise AssertionError("the step read a number on the host")


class NobodyWaits(TorchDispatchMode):
    """Refuses what torch can do on a device only once all that was launched before is done: shapes would follow from values."""

    WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "repeat_interleave", "bincount", "equal"}

    def __torch_dispatch__(self, func, _types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        if name in self.WAITING or any(index is not None and index.dtype == torch.bool for index in indices):
            refuse()
        return func(*args, **(kwargs or {}))


def with_lenses(scene, *lenses):
    """The scene, as if its photos had been taken through these lenses, one after the other."""
    views = tuple(dataclasses.replace(view, camera=dataclasses.replace(view.camera, lens=lenses[place % len(lenses)]))
                  for place, view in enumerate(scene.views))
    return dataclasses.replace(scene, views=views)


LENSES = (Lens(), Lens(radial=(-0.1, 0.02, 0.0, 0.0), tangential=(0.01, 0.0)), Lens("fisheye"), Lens("fov", omega=0.9),
          Lens("equirectangular"))


@pytest.mark.parametrize("fraction", [0.1, 0.9])
@pytest.mark.parametrize("is_bounded, lenses", [(True, LENSES[:1]), (False, LENSES)])
def test_a_step_reads_nothing_on_the_host(is_bounded, lenses, fraction, monkeypatch):
    """Drawing rays and refreshing the grid included; nor is anything made of the host's numbers, which would be waited for."""
    trainer = a_trainer(interpreted_ops(), monkeypatch, is_bounded, scene=with_lenses(sphere_scene(size=16), *lenses))
    step = CapturedStep(trainer)
    step.step(0.0)  # kinds of lenses and tables of levels are read and made once
    trainer.steps_done = loop.STEPS_PER_REFRESH
    with monkeypatch.context() as patch, NobodyWaits():
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "new_tensor"):
            patch.setattr(torch.Tensor, name, refuse)
        for name in ("tensor", "as_tensor", "from_numpy"):
            patch.setattr(torch, name, refuse)
        step.launch(fraction)
    step.hear()
    assert 0.0 < step.heard[0] < 1.0 and trainer.steps_done == loop.STEPS_PER_REFRESH + 1


def test_a_step_whose_loss_is_no_number_changes_nothing_and_is_counted(monkeypatch):
    trainer = a_trainer(interpreted_ops(), monkeypatch)
    trainer.step(0.0)
    before, moments = trainer.model.parameters.flat.clone(), trainer.first.clone()
    trainer.batches.pixels = torch.full_like(trainer.batches.pixels, torch.nan, dtype=torch.float32)
    trainer.step(0.1)
    assert trainer.bad_steps == 1
    assert torch.equal(trainer.model.parameters.flat, before) and torch.equal(trainer.first, moments)
    assert not trainer.model.parameters.gradients.any()


def test_gradients_of_the_table_may_be_float16(monkeypatch):
    tables = []
    for dtype in (torch.float32, torch.float16):
        trainer = a_trainer(interpreted_ops(), monkeypatch)
        trainer.captured = CapturedStep(trainer)
        if dtype == torch.float16:
            trainer.captured.table_gradient = trainer.captured.table_gradient.to(dtype)
        monkeypatch.setattr(captured.CapturedStep, "optimise", lambda self, totals: None)
        trainer.captured.launch(0.1)
        tables.append(trainer.captured.table_gradient.float())
    assert float((tables[0] - tables[1]).norm()) < 2e-3 * float(tables[0].norm())  # 11 bits, summed a few times


def test_rays_follow_the_samples_that_came_back(monkeypatch):
    trainer = a_trainer(interpreted_ops(), monkeypatch)
    monkeypatch.setattr(loop, "MOST_RAYS", 1 << 16)
    trainer.hear(loss=0.1, samples=1000, rays=100, wanted=1500.0, is_sound=True)
    assert trainer.rays == 150.0
    trainer.hear(loss=0.1, samples=100, rays=100, wanted=1e6, is_sound=True)
    assert trainer.rays == 200.0  # at most twice as many
    trainer.hear(loss=0.0, samples=5000, rays=0, wanted=1500.0, is_sound=True)  # no pixel had room for all of its rays
    assert trainer.rays == loop.FEWEST_RAYS


def test_where_room_ends_whole_pixels_are_left_out(monkeypatch):
    trainer = a_trainer(interpreted_ops(), monkeypatch)
    step = trainer.captured = CapturedStep(trainer)
    step.step(0.9)
    *_, rays, samples = step.heard
    shape = dataclasses.replace(step.shape(0.9), samples=samples // 2)
    step.fill(shape, Draws(trainer.model.ops, 0, 1))
    step.numbers.zero_()
    step.work(shape)
    whole, counted = int(step.numbers[captured.RAYS]), int(step.numbers[captured.COUNTED])
    assert whole == 2 * counted and 0.25 * rays < whole < 0.75 * rays


def test_a_step_touches_nothing_but_its_device(monkeypatch):
    """On torch's device without memory, where nothing can be read or mixed with the CPU's; launches are looked at only."""
    from triton.runtime.interpreter import GridExecutor
    launched = set()

    def look(self, *args, **_):
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        assert all(tensor.device.type == "meta" and tensor.is_contiguous() for tensor in tensors), self.fn.__name__
        launched.add(self.fn.__name__)
    monkeypatch.setattr(GridExecutor, "__call__", look)
    trainer = a_trainer(dataclasses.replace(interpreted_ops(), device=torch.device("meta")), monkeypatch)
    vars(trainer.batches.cameras)["_kinds_present"] = [lenses.PINHOLE]  # read once, before
    step = CapturedStep(trainer)
    step.host = step.numbers.expand(captured.RING, -1).clone()  # the copy to the host is the only way out
    for fraction in (0.1, 0.1, 0.9):
        step.launch(fraction)
    assert {"march_fill", "show_and_compare", "hashgrid_backward", "adam", "occupancy_enter", "philox_words"} < launched
