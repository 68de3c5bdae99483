import math

import pytest
import torch

from nerf_app.fields.encodings import Frequency
from nerf_app.fields.encodings.hashgrid import hash_levels
from nerf_app.fields.parameters import Parameters
from nerf_app.fields.radiance import FIELDS
from nerf_app.fields.settings import FieldPlan, FieldSettings, FrequencySettings, HashGridSettings
from tests.analytic import reference_ops

GRID = HashGridSettings(levels=2, features=4, coarsest=4, finest=8, log2_entries=9)
KINDS = [("hashgrid", "octaves"), ("frequency", "octaves"), ("frequency", "gaussian")]


def make_plan(encoding="octaves", appearance="plain"):
    frequency = FrequencySettings(encoding=encoding, position_octaves=3, direction_octaves=2, gaussian_features=6,
                                  gaussian_sigma=0.5, layers=3, width=16)
    return FieldPlan(FieldSettings(hidden_width=16, appearance=appearance), GRID, frequency)


def make_field(kind, plan, dtype=torch.float32):
    """A field with parameters of order one: those near zero, with which training begins, hide faults. With its parameters."""
    generator = torch.Generator().manual_seed(0)
    shapes = FIELDS[kind].shapes(plan, "field")
    if dtype == torch.float32:
        parameters = Parameters({}, shapes, torch.device("cpu"))
    else:
        parameters = {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}
    with torch.no_grad():
        for name, values in FIELDS[kind].start_values(plan, "field", generator):
            parameters[name].copy_(1e4 * values if name.endswith(".table") else values)
    return FIELDS[kind](plan, parameters, reference_ops(), "field"), parameters


def unit_vectors(count, dtype=torch.float32):
    return torch.nn.functional.normalize(torch.randn(count, 3, dtype=dtype), dim=1)


def test_the_parameters_of_a_hash_grid_field_keep_their_names_shapes_and_order():
    assert list(FIELDS["hashgrid"].shapes(make_plan(), "field").items()) == [
        ("field.table", (64 + 512, 4)),
        ("field.density_net.0", (16, 8)), ("field.density_net.1", (16, 16)),
        ("field.colour_net.0", (16, 32)), ("field.colour_net.1", (16, 16)), ("field.colour_net.2", (16, 16))]


def test_the_parameters_of_a_frequency_field_keep_their_names_shapes_and_order():
    assert list(FIELDS["frequency"].shapes(make_plan(), "coarse").items()) == [
        ("coarse.lower.0", (16, 21)), ("coarse.lower.1", (16, 16)),
        ("coarse.lower.0.bias", (16,)), ("coarse.lower.1.bias", (16,)),
        ("coarse.upper.0", (16, 37)), ("coarse.upper.0.bias", (16,)),
        ("coarse.head.0", (17, 16)), ("coarse.head.0.bias", (17,)),
        ("coarse.branch.0", (8, 31)), ("coarse.branch.1", (3, 8)),
        ("coarse.branch.0.bias", (8,)), ("coarse.branch.1.bias", (3,))]


@pytest.mark.parametrize("kind, encoding", KINDS)
def test_start_values_come_for_all_parameters_in_order_from_the_seed_alone(kind, encoding):
    plan = make_plan(encoding)
    shapes = FIELDS[kind].shapes(plan, "field")
    starts = [dict(FIELDS[kind].start_values(plan, "field", torch.Generator().manual_seed(seed))) for seed in (5, 5, 6)]
    assert [(name, tuple(values.shape)) for name, values in starts[0].items()] == list(shapes.items())
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in shapes)
    assert not torch.equal(*(start[next(iter(shapes))] for start in starts[1:]))
    for name, values in starts[0].items():
        limit = 1e-4 if name.endswith(".table") else math.sqrt(6 / sum(values.shape)) if values.ndim == 2 else 0.0
        assert values.abs().max() <= limit
        assert limit == 0.0 or values.abs().max() > 0.8 * limit


@pytest.mark.parametrize("kind, encoding", KINDS)
@pytest.mark.parametrize("count", [0, 1, 37])
def test_density_is_not_negative_and_colours_are_colours(kind, encoding, count):
    field, _ = make_field(kind, make_plan(encoding))
    output = field.density(torch.rand(count, 3))
    colours = field.colour(output.features, unit_vectors(count))
    assert output.density.shape == (count,) and (output.density >= 0).all()
    assert colours.shape == (count, 3) and ((colours > 0) & (colours < 1)).all()


def test_a_frequency_field_is_the_net_of_the_paper():
    field, values = make_field("frequency", make_plan(), torch.float64)
    unit, directions = torch.rand(9, 3, dtype=torch.float64), unit_vectors(9, torch.float64)
    for name, value in values.items():
        value += 0.1 * torch.randn_like(value) * name.endswith(".bias")

    def dense(name, x):
        return x @ values[f"field.{name}"].T + values[f"field.{name}.bias"]

    encoded = Frequency(3, 3)(2 * unit - 1)
    halfway = torch.relu(dense("lower.1", torch.relu(dense("lower.0", encoded))))
    hidden = dense("head.0", torch.relu(dense("upper.0", torch.cat([halfway, encoded], 1))))
    output, codes, seen_from = field.density(unit), torch.randn(9, 16, dtype=torch.float64), Frequency(3, 2)(directions)
    assert torch.allclose(output.density, torch.log1p(hidden[:, 0].exp()))
    for code, moved in ((None, seen_from), (codes, seen_from + codes[:, :seen_from.shape[1]])):
        rgb = torch.sigmoid(dense("branch.1", torch.relu(dense("branch.0", torch.cat([hidden[:, 1:], moved], 1)))))
        assert torch.allclose(field.colour(output.features, directions, code), rgb)


def test_a_hash_grid_field_is_a_table_and_two_nets():
    field, values = make_field("hashgrid", make_plan(), torch.float64)
    unit, directions = torch.rand(9, 3, dtype=torch.float64), unit_vectors(9, torch.float64)
    ops = reference_ops()
    x = ops.hashgrid.encode(unit, values["field.table"], hash_levels(GRID, 3))
    hidden = torch.relu(x @ values["field.density_net.0"].T) @ values["field.density_net.1"].T
    output, codes = field.density(unit), torch.randn(9, 16, dtype=torch.float64)
    assert torch.allclose(output.density, hidden[:, 0].exp())
    seen_from = ops.spherical_harmonics.spherical_harmonics(directions)
    for code, moved in ((None, seen_from), (codes, seen_from + codes)):
        seen = torch.cat([hidden, moved], 1)
        for layer in range(2):
            seen = torch.relu(seen @ values[f"field.colour_net.{layer}"].T)
        rgb = torch.sigmoid((seen @ values["field.colour_net.2"].T)[:, :3])
        assert torch.allclose(field.colour(output.features, directions, code), rgb)


@pytest.mark.parametrize("kind, encoding", KINDS)
def test_all_parameters_are_learned_and_their_gradients_lie_in_one_buffer(kind, encoding):
    field, parameters = make_field(kind, make_plan(encoding))
    output = field.density(torch.rand(500, 3))
    (output.density.sum() + field.colour(output.features, unit_vectors(500)).square().sum()).backward()
    for name in FIELDS[kind].shapes(make_plan(encoding), "field"):
        assert parameters[name].grad.untyped_storage().data_ptr() == parameters.gradients.untyped_storage().data_ptr()
        assert (parameters[name].grad != 0).any(), name


@pytest.mark.parametrize("kind, encoding", KINDS)
def test_density_and_colour_have_the_right_gradient_by_place_and_direction(kind, encoding):
    field, _ = make_field(kind, make_plan(encoding), torch.float64)
    unit = (0.05 + 0.9 * torch.rand(6, 3, dtype=torch.float64)).requires_grad_()
    directions = unit_vectors(6, torch.float64).requires_grad_()

    def seen(unit, directions):
        output = field.density(unit)
        return output.density, field.colour(output.features, directions)

    assert all(value.dtype == torch.float64 for value in seen(unit, directions))
    assert torch.autograd.gradcheck(seen, (unit, directions), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("kind", FIELDS)
def test_only_a_plain_field_looks_at_the_direction(kind):
    for appearance in ("plain", "diffuse", "reflective"):
        field, _ = make_field(kind, make_plan(appearance=appearance))
        output = field.density(torch.rand(50, 3))
        colours = [field.colour(output.features, unit_vectors(50)) for _ in range(2)]
        assert colours[0].shape == (50, 16 if appearance == "reflective" else 3)
        assert torch.equal(*colours) != (appearance == "plain")


@pytest.mark.parametrize("kind", FIELDS)
def test_a_reflective_field_has_a_net_more_than_others(kind):
    plain, reflective = (FIELDS[kind].shapes(make_plan(appearance=appearance), "field") for appearance in ("plain", "reflective"))
    assert list(reflective)[:len(plain)] == list(plain)
    assert dict(list(reflective.items())[len(plain):]) == {
        "field.shading_net.0": (64, 80), "field.shading_net.1": (64, 64), "field.shading_net.2": (16, 64)}


@pytest.mark.parametrize("kind, encoding", KINDS)
def test_a_slope_and_what_a_loss_of_it_teaches_are_those_of_differentiating_twice(kind, encoding):
    field, parameters = make_field(kind, make_plan(encoding, "reflective"), torch.float64)
    leaves = [parameter.requires_grad_() for parameter in parameters.values()]
    unit = (0.02 + 0.96 * torch.rand(40, 3, dtype=torch.float64)).requires_grad_()
    density = field.density(unit).density
    rises = density.log() if kind == "hashgrid" else density.expm1().log()  # the number that becomes the density
    (twice,) = torch.autograd.grad(rises.sum(), unit, create_graph=True)
    features, slope = field.slope(unit.detach())
    assert torch.equal(features, field.density(unit).features)
    assert torch.allclose(slope, twice, rtol=1e-9, atol=1e-12)
    taught = [torch.autograd.grad(torch.nn.functional.normalize(one, dim=1)[:, 0].sum() + one.square().sum(), leaves,
                                  allow_unused=True, materialize_grads=True) for one in (slope, twice)]
    for name, mine, truth in zip(parameters, *taught, strict=True):
        assert torch.allclose(mine, truth, rtol=1e-8, atol=1e-10 * (1 + float(truth.abs().max()))), name


@pytest.mark.parametrize("value", [-200.0, -3.0, 2.0, 14.9, 15.1, 40.0, 1e4])
def test_density_is_an_exponential_that_stops_at_15_while_its_gradient_goes_on(value):
    plan = make_plan()
    shapes = FIELDS["hashgrid"].shapes(plan, "field")
    parameters = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
    parameters["field.table"] += 1.0  # so every feature is 1
    parameters["field.density_net.0"] += 1 / 8
    parameters["field.density_net.1"] += value / 16  # so h is `value`
    parameters["field.density_net.1"].requires_grad_()
    field = FIELDS["hashgrid"](plan, parameters, reference_ops(), "field")
    density = field.density(torch.rand(1, 3, dtype=torch.float64)).density
    density.sum().backward()
    assert float(density.detach()) == pytest.approx(math.exp(min(value, 15.0)))
    gradient = parameters["field.density_net.1"].grad[0]  # of h by its 16 weights: 1
    assert torch.allclose(gradient, torch.full_like(gradient, math.exp(min(value, 15.0))))
