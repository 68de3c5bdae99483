"""Training, rendering and export keep to their device, on a GPU that is pretended (tests/pretended_gpu.py): nothing of this says
how a real one computes."""

import numpy as np
import pytest
import torch

from nerf_app import picture
from nerf_app.cli import main
from nerf_app.model import RadianceModel
from nerf_app.ops import backend, field_step
from nerf_app.ops.backend import choose_backend
from nerf_app.training import loop, schedule
from nerf_app.training.batches import PixelBatches
from nerf_app.training.events import Note, Stepped
from nerf_app.training.loop import Trainer, train
from nerf_app.training.schedule import Budget
from tests.pretended_gpu import GPU, Graph, OnGpu, pretended_gpu
from tests.requires import requires
from tests.sphere import SHARP, SMALL, TINY_NERF, small_config, sphere_scene, write_blender

pytestmark = requires("triton")
TINY = {"field.hidden_width": 16, "encoding.levels": 2, "sampling.steps": 24, "sampling.grid_resolution": 8,
        "encoding.finest": 24, "training.samples_per_step": 256}
STEPS = 5


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(backend.gpu_choice, "examined", lambda name, device: (None, 1.0))
    monkeypatch.setattr(schedule, "STRIDES", ())  # of one length, or no two of so few steps have the same shape
    with pretended_gpu(monkeypatch) as launched:
        yield launched


def flags(settings):
    return [part for name, value in settings.items() for part in ("--set", f"{name}={'null' if value is None else value}")]


def a_trainer(name, is_bounded=True):
    config = small_config(STEPS, TINY)
    ops = choose_backend(name, "cuda", 1)
    trainer = Trainer(RadianceModel(config, is_bounded, ops), PixelBatches(sphere_scene(size=8), ops), None, config)
    trainer.pixels_drawn = trainer.batches.n_pixels  # so that late steps mind details: the last two have one shape
    return trainer


def losses(trainer):
    """Of steps of one shape: the first is launched kernel by kernel, the second captured, the others are replayed."""
    return [trainer.step(0.5)[0] for _ in range(STEPS)]


def test_what_is_mixed_up_is_found(gpu):
    here, there = torch.ones(3), torch.ones(3, device=GPU)
    assert isinstance(there, OnGpu) and (there + 1.0 + torch.tensor(2.0)).device == GPU
    assert (there + 1.0).cpu().tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(RuntimeError, match="on the same device"):
        there + here
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()


def test_without_triton_the_references_compute_on_the_gpu(gpu, monkeypatch):
    monkeypatch.setattr(backend.gpu_choice, "_import_failure", lambda library, cure: f"{library} is not there: {cure}")
    trainer = a_trainer("auto")
    ops = trainer.model.ops
    assert (ops.name, ops.device.type) == ("reference", "cuda") and "no triton: triton is not there: pip install" in ops.why
    assert np.isfinite(trainer.step(0.5)[0]) and trainer.captured is None


@pytest.mark.slow
def test_a_replayed_graph_does_what_its_kernels_do_one_by_one(gpu, monkeypatch):
    """Without bounds, where a step launches all that there is."""
    monkeypatch.setattr(loop, "MOST_RAYS", 64)
    captured = a_trainer("triton", is_bounded=False)
    found = losses(captured)
    (graph,) = captured.captured.graphs.values()
    assert isinstance(graph, Graph) and {"march_fill", "show_and_compare", "distortion_backward", "adam"} < set(gpu)
    launched_singly = a_trainer("triton", is_bounded=False)
    launched_singly.has_graphs = False
    assert found == pytest.approx(losses(launched_singly), rel=1e-4)
    assert not launched_singly.captured.graphs and not captured.notes


def refusing(error):
    """In place of torch.cuda.graph, which fails as it ends."""
    class Refuses:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            raise error

        def __exit__(self, *_):
            pass
    return Refuses


def test_where_no_graph_can_be_made_steps_go_on_and_it_is_said_once(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "graph", refusing(torch.AcceleratorError("CUDA error: operation not permitted")))
    monkeypatch.setattr(loop.CapturedStep, "work", lambda self, shape: self.numbers.copy_(torch.ones(6)))
    restored = []
    monkeypatch.setattr(torch.cuda, "set_stream", restored.append)
    trainer = a_trainer("triton")
    events = list(train(trainer, Budget(trainer.settings, 1)))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) == 1 and "AcceleratorError: CUDA error: operation not permitted" in notes[0] and "one by one" in notes[0]
    assert len([event for event in events if isinstance(event, Stepped)]) == STEPS and len(restored) == 1


def test_a_capture_for_which_memory_has_no_room_is_a_step_that_had_none(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "graph", refusing(torch.OutOfMemoryError("CUDA out of memory")))
    monkeypatch.setattr(loop.CapturedStep, "work", lambda self, shape: self.numbers.copy_(torch.ones(6)))
    monkeypatch.setattr(loop, "FEWEST_SAMPLES", 1)
    trainer = a_trainer("triton")
    events = list(train(trainer, Budget(trainer.settings, 1)))
    assert trainer.has_graphs and trainer.halved and [type(event) for event in events].count(Note) == 1


def test_where_the_kernels_of_a_whole_step_do_not_compile_steps_are_taken_op_by_op(gpu, monkeypatch):
    def broken(self, shape):
        raise ValueError("out of resource: shared memory\nand more")
    monkeypatch.setattr(loop.CapturedStep, "work", broken)
    monkeypatch.setattr(field_step.IMPLEMENTATIONS["triton"](), "see", field_step.IMPLEMENTATIONS["reference"]().see)
    trainer = a_trainer("triton")
    trainer.settings = small_config(1, TINY).training
    first, *_, last = train(trainer, Budget(trainer.settings, 1))
    assert "the kernels of a whole step failed (ValueError: out of resource: shared memory)" in first.text
    assert last.step > 0 and trainer.captured is None and np.isfinite(trainer.loss)


def test_a_picture_for_which_memory_has_no_room_is_made_of_smaller_pieces(gpu, monkeypatch):
    model = RadianceModel(small_config(1, TINY), True, choose_backend("reference", "cuda", 1))
    view = sphere_scene(size=12).views[0]
    truth = picture.render_picture(model, view.camera, view.world_from_camera)
    render, asked = model.render, []

    def cramped(rays, **options):
        asked.append(rays.count)
        if rays.count > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return render(rays, **options)
    monkeypatch.setattr(model, "render", cramped)
    monkeypatch.setattr(picture, "CHUNK", 8)
    found = picture.render_picture(model, view.camera, view.world_from_camera, are_edges_smooth=False)
    assert asked[0] == 144 and max(asked[-4:]) <= 40
    np.testing.assert_allclose(found.alpha, truth.alpha, atol=1e-6)


def test_a_picture_by_the_kernels_is_that_by_the_references(gpu):
    view, pictures = sphere_scene(size=8).views[0], []
    for name in ("reference", "triton"):
        model = RadianceModel(small_config(1, TINY), True, choose_backend(name, "cuda", 1))
        pose = sphere_scene(size=8).normalisation.pose_to_scene(view.world_from_camera)
        pictures.append(picture.render_picture(model, view.camera, pose, with_normals=True))
    assert {"march_fill", "hashgrid_slopes", "accumulate_forward", "distances_of_light"} < set(gpu)
    for name in ("rgb", "alpha", "range", "confidence", "normals"):
        np.testing.assert_allclose(*(getattr(one, name) for one in pictures), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [["--appearance", "reflective"], ["--exposure", "affine", "--set", "scene.space=unbounded"],
                                  flags(TINY_NERF)])
def test_training_rendering_and_export_keep_to_their_device(tmp_path, gpu, kind):
    write_blender(sphere_scene(n_views=12, size=12), tmp_path / "ball")
    run, where = str(tmp_path / "run"), ["--device", "cuda", "--backend", "reference"]
    sizes = SMALL | SHARP
    sizes.pop("field.appearance")
    for command in (["train", str(tmp_path / "ball"), "--out", run, "--steps", "10", *flags(sizes), *kind],
                    ["resume", run, "--steps", "12"], ["eval", run, "--json"],
                    ["render", run, "--path", "orbit", "--fps", "1", "--seconds", "1", "--size", "16x16"],
                    ["export", run, "depth"], ["export", run, "cameras"]):
        assert main([*command, *where]) == 0, command
