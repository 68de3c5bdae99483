from dataclasses import replace

import pytest
import torch

from nerf_app.config import Config
from nerf_app.fields.settings import FieldSettings, FrequencySettings, HashGridSettings
from nerf_app.fields.shading import coded
from nerf_app.model import RadianceModel
from nerf_app.render import render_samples
from nerf_app.sampling.draws import Draws
from nerf_app.sampling.occupancy import OccupancySampler
from nerf_app.sampling.settings import SamplingSettings
from nerf_app.settings import MachineSettings
from tests.analytic import crossing_rays, free_rays, median_distance, reference_ops

SMALL = Config(
    sampling=SamplingSettings(steps=64, grid_resolution=8, coarse_samples=8, fine_samples=12),
    field=FieldSettings(hidden_width=16),
    encoding=HashGridSettings(levels=2, features=1, coarsest=2, finest=5, log2_entries=8),
    frequency=FrequencySettings(position_octaves=2, direction_octaves=1, layers=2, width=16),
)
KINDS = [(field, sampling) for field in ("hashgrid", "frequency") for sampling in ("occupancy", "coarse_to_fine")]


def make_model(field="hashgrid", sampling="occupancy", seed=0, is_bounded=True, appearance="plain"):
    config = replace(SMALL, field=replace(SMALL.field, kind=field, appearance=appearance),
                     sampling=replace(SMALL.sampling, kind=sampling),
                     machine=MachineSettings(seed=seed))
    return RadianceModel(config, is_bounded, reference_ops())


@pytest.mark.parametrize("field, sampling", KINDS)
@pytest.mark.parametrize("is_bounded", [True, False])
def test_every_pass_is_learned_from(field, sampling, is_bounded):
    model = make_model(field, sampling, is_bounded=is_bounded)
    model.parameters.flat.mul_(3.0)
    passes = list(model.passes(crossing_rays(30), Draws(model.ops, 0, 0)))
    assert len(passes) == (2 if sampling == "coarse_to_fine" else 1)
    sum(rendering.rgb.square().sum() for rendering in passes).backward()
    assert model.parameters.gradients.isfinite().all()
    assert (model.parameters.gradients != 0).float().mean() > 0.3


def test_each_of_two_passes_has_a_field_of_its_own():
    model = make_model("frequency", "coarse_to_fine")
    for turn, prefix in enumerate(("coarse", "field")):
        model.parameters.gradients.zero_()
        list(model.passes(crossing_rays(30), None))[turn].opacity.sum().backward()
        for name in ("coarse", "field"):
            assert bool(model.parameters[f"{name}.head.0"].grad.any()) == (name == prefix)


def test_the_tables_of_both_passes_lie_in_front():
    model = make_model("hashgrid", "coarse_to_fine")
    table_size, flat = model.parameters.table_size, model.parameters.flat
    assert 0 < table_size < len(flat)
    for prefix in ("coarse", "field"):
        model.parameters.fill(f"{prefix}.table", torch.full((8 + 128, 1), 7.0))
    assert int((flat[:table_size] == 7.0).sum()) == int((flat == 7.0).sum()) == 2 * (8 + 128)


@pytest.mark.parametrize("field, sampling", KINDS)
def test_a_model_goes_into_tensors_and_comes_back(field, sampling):
    model, other = make_model(field, sampling), make_model(field, sampling, seed=1)
    if model.grid is not None:
        model.grid.load(torch.rand(8, 8, 8) - 0.2)
    rays = crossing_rays(20)
    truth = model.render(rays)
    assert not torch.equal(other.render(rays).rgb, truth.rgb)
    other.load({name: tensor.clone() for name, tensor in model.tensors().items()})
    for name, value in vars(other.render(rays)).items():
        assert not torch.is_tensor(value) or torch.equal(value.nan_to_num(), getattr(truth, name).nan_to_num()), name


def test_the_seed_decides_the_first_parameters():
    first, again, other = (make_model(seed=seed).parameters.flat for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("field, sampling", KINDS)
def test_rays_that_meet_nothing_show_nothing(field, sampling):
    model = make_model(field, sampling)
    away = free_rays(torch.tensor([[0.0, 0.0, 3.0]] * 4), torch.randn(4, 3).abs())
    for with_normals in (False, True):
        seen = model.render(away, with_normals=with_normals)
        assert not seen.rgb.any() and not seen.opacity.any() and median_distance(seen).isnan().all()


@pytest.mark.parametrize("field, sampling", KINDS)
def test_what_a_reflective_field_shows_is_diffuse_and_mirrored_light_as_far_as_it_is_opaque(field, sampling):
    seen = make_model(field, sampling, appearance="reflective").render(crossing_rays(30))
    assert torch.allclose(seen.rgb, seen.opacity[:, None] * coded(seen.surface.diffuse + seen.surface.specular))
    assert torch.allclose(seen.normals, seen.opacity[:, None] * seen.surface.normals)
    assert torch.allclose(seen.surface.normals.norm(dim=1), torch.ones(30), atol=1e-5)


def test_a_reflective_field_shows_the_same_in_one_pass_and_op_by_op():
    model, rays = make_model(appearance="reflective"), crossing_rays(30)
    model.parameters.flat.mul_(3.0)
    samples = OccupancySampler(model.grid).sample(rays, None)
    moved = replace(rays, directions=rays.directions.clone().requires_grad_())
    whole, apart = (render_samples(each, samples, model.fields[0], model.space, model.ops) for each in (rays, moved))
    assert torch.allclose(whole.rgb, apart.rgb, atol=1e-6) and torch.allclose(whole.normals, apart.normals, atol=1e-5)


@pytest.mark.parametrize("field, sampling", KINDS)
def test_rays_show_the_colours_of_their_own_photos(field, sampling):
    model, rays = make_model(field, sampling), replace(crossing_rays(30), view_indices=torch.arange(30) % 3)
    model.parameters.flat.mul_(3.0)
    codes = torch.zeros(3, 16)
    codes[1] = 2.0
    *_, neutral = model.passes(rays, None, codes=torch.zeros(3, 16))
    *_, seen = model.passes(rays, None, codes=codes)
    assert torch.allclose(neutral.rgb, model.render(rays).rgb, atol=1e-6)
    differs, is_its = ((seen.rgb - neutral.rgb).abs() > 1e-5).any(1), rays.view_indices == 1
    assert differs[is_its].any() and not differs[~is_its].any() and torch.equal(seen.opacity, neutral.opacity)


def test_a_grid_of_fewer_levels_is_the_whole_one_with_zeros_in_the_others():
    model = make_model(appearance="reflective")
    field, unit = model.fields[0], torch.rand(20, 3)
    model.parameters.flat.mul_(3.0)
    first_of_fine = field.whole_encoding.levels[1].first
    field.use_levels(1)
    few = field.density(unit).density
    few.sum().backward()
    assert not field.whole_encoding.table.grad[first_of_fine:].any() and field.whole_encoding.table.grad[:first_of_fine].any()
    field.use_levels(2)
    assert not torch.equal(field.density(unit).density, few)
    with torch.no_grad():
        field.whole_encoding.table[first_of_fine:] = 0.0
    assert torch.allclose(field.density(unit).density, few)


def test_density_comes_without_gradients():
    assert not make_model().density(torch.rand(5, 3)).requires_grad
