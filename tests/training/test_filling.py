"""How a reflective field begins."""

from types import SimpleNamespace

import pytest
import torch

from nerf_app.fields.radiance import FIELDS
from nerf_app.training import filling
from tests.fields.test_radiance import make_field, make_plan, unit_vectors
from tests.sphere import sphere_scene
from tests.training.test_loop import make_trainer

REFLECTIVE = {"field.appearance": "reflective"}


def test_while_it_is_filled_opacity_counts_more_than_colour():
    batch = SimpleNamespace(alpha=torch.tensor([1.0, 0.0]), counts=torch.tensor([True, True]))
    truth = torch.full((2, 3), 0.5)

    def loss(opacity, off):
        return float(filling.filling_loss(SimpleNamespace(opacity=torch.tensor(opacity)), truth + off, truth, batch))
    assert loss([1.0, 0.0], 0.0) == 0.0
    assert loss([0.95, 0.05], 0.0) / loss([1.0, 0.0], 0.05) == pytest.approx(filling.OUTLINES / (1 - filling.OUTLINES))


@pytest.mark.parametrize("kind", FIELDS)
def test_a_field_that_is_softened_keeps_its_form_and_its_colours(kind):
    field, _ = make_field(kind, make_plan(appearance="reflective"), torch.float64)
    points, directions = torch.rand(50, 3, dtype=torch.float64), unit_vectors(50).double()
    before = field.density(points)
    colours = field.colour(before.features, directions)
    filling.end_filling([field])
    after = field.density(points)
    density, softer = ((before.density.log(), after.density.log()) if kind == "hashgrid" else
                       (before.density.expm1().log(), after.density.expm1().log()))  # the number that becomes the density
    assert torch.allclose(softer, filling.SOFTER * density, atol=1e-9)
    assert torch.allclose(field.colour(after.features, directions), colours, atol=1e-9)


@pytest.mark.parametrize("changes, is_cut_out, fills", [(REFLECTIVE, True, True), (REFLECTIVE, False, False), ({}, True, False)])
def test_what_mirrors_is_filled_where_photos_tell_things_from_what_is_behind(changes, is_cut_out, fills):
    scene = sphere_scene()
    if not is_cut_out:
        scene.photos.pixels[:, 3] = 255
    assert make_trainer(10, changes, scene).is_filling == fills


def test_filling_ends_once_and_a_state_knows_whether_it_has(monkeypatch):
    ends = []
    monkeypatch.setattr(filling, "end_filling", ends.append)
    trainer = make_trainer(10, REFLECTIVE, sphere_scene())
    for fraction in (0.0, 0.9 * filling.ENDS):
        trainer.step(fraction)
    assert trainer.progress()["is_filling"] == 1.0 and not ends
    for fraction in (filling.ENDS, 0.5, 0.0):  # back to the beginning, where a finished run gets a larger budget
        trainer.step(fraction)
    assert trainer.progress()["is_filling"] == 0.0 and ends == [trainer.model.fields]
