import gc
import weakref
from dataclasses import replace

import pytest
import torch

from nerf_app.ops import field_step
from nerf_app.ops.composite import reference as composite
from nerf_app.ops.field_step import HashGridNets
from nerf_app.ops.hashgrid import level_table
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.samples import Samples
from nerf_app.training.losses import HUBER
from tests.ops.test_composite import random_samples
from tests.parity import assert_close, runnable, sized, value_and_gradients
from tests.requires import requires

SIZES = [(1, 1), (3, 0), (7, 63), (40, 300), (40, 1000), (300, 4000)]
GEOMETRY, HARMONICS = 16, 16


def random_field(features=4, width=32, colour_layers=2, density=1.0):
    """Parameters of order 1: with those of a start, a test proves nothing."""
    levels = level_table(3, 4, 30, 10, 3)
    colour = [GEOMETRY + HARMONICS, *[width] * colour_layers, 16]
    return {"table": density * torch.randn(sum(level.entries for level in levels), features),
            "density": [torch.randn(width, 3 * features) / 3, torch.randn(GEOMETRY, width) / 3],
            "colour": [torch.randn(out, wide) / 3 for wide, out in zip(colour[:-1], colour[1:], strict=True)]}, levels


def random_rays(n_rays, n_samples, unused=0):
    samples = random_samples(n_rays, n_samples, unused)
    counts = torch.bincount(samples["ray_indices"], minlength=n_rays + 1)[:n_rays]
    packed = Samples(samples["t_starts"], samples["t_ends"], samples["ray_indices"], counts.cumsum(0) - counts, counts, n_rays)
    return torch.randn(n_rays, 3), torch.nn.functional.normalize(torch.randn(n_rays, 3), dim=1), packed


def seen_by(module, rays, space, levels, is_view_dependent, *least_light):
    def see(table, density, colour):
        nets = HashGridNets(table, levels, tuple(density), tuple(colour), is_view_dependent)
        return module.see(*rays, space, nets, *least_light)
    return see


@pytest.mark.parametrize("backend, n_rays, n_samples", sized(field_step.IMPLEMENTATIONS, SIZES))
@pytest.mark.parametrize("is_bounded, is_view_dependent", [(True, True), (False, False)])
def test_every_backend_agrees_with_the_small_references(backend, n_rays, n_samples, is_bounded, is_view_dependent):
    field, levels = random_field()
    rays = random_rays(n_rays, n_samples, unused=3)
    cases = [value_and_gradients(seen_by(field_step.IMPLEMENTATIONS[name](), rays, Space(is_bounded), levels, is_view_dependent),
                                 field) for name in ("reference", backend)]
    assert cases[0].keys() == cases[1].keys() and len(cases[0]) == 8
    for name, truth in cases[0].items():
        assert_close(cases[1][name], truth, name, tolerance=1e-4)  # one rounding of a place, times slopes of order 30, in exp


@pytest.mark.parametrize("backend", runnable(field_step.IMPLEMENTATIONS))
@pytest.mark.parametrize("features, width, colour_layers", [(1, 16, 1), (2, 64, 3), (8, 128, 0)])
def test_every_backend_takes_fields_of_other_sizes(backend, features, width, colour_layers):
    field, levels = random_field(features, width, colour_layers)
    rays = random_rays(40, 700)
    cases = [value_and_gradients(seen_by(field_step.IMPLEMENTATIONS[name](), rays, Space(True), levels, True), field)
             for name in ("reference", backend)]
    for name, truth in cases[0].items():
        assert_close(cases[1][name], truth, name, tolerance=1e-4)


@pytest.mark.parametrize("backend", runnable(field_step.IMPLEMENTATIONS))
def test_what_lies_in_the_dark_is_neither_seen_nor_changed(backend):
    """A ray's samples stand one behind the other in a field so dense that only the first few get light."""
    field, levels = random_field(density=0.0)
    field["density"][1].zero_()
    field["density"] = [torch.ones(32, 12), torch.full((GEOMETRY, 32), 0.1)]
    field["table"].fill_(0.12)  # exp(0.1 · 32 · 12 · 0.12) = 100 per scene unit
    origins, directions, n = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]), 40
    t = torch.arange(n + 1) * 0.02
    samples = Samples(t[:-1], t[1:], torch.zeros(n, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.tensor([n]), 1)
    see = seen_by(field_step.IMPLEMENTATIONS[backend](), (origins, directions, samples), Space(True), levels, True)
    leaf = field["table"].requires_grad_()
    sums, weights = see(**field | {"table": leaf})
    loss, sums, weights = sums.sum(), sums.detach(), weights.detach()
    lit = int((weights > 0).sum())
    assert 3 <= lit <= 6 and not weights[lit:].any()
    assert float(sums[0, 3]) == pytest.approx(1.0, abs=1e-4)
    mean = float((weights * (t[:-1] + t[1:]) / 2).sum() / weights.sum())
    assert float(sums[0, 4] / sums[0, 3]) == pytest.approx(mean, rel=1e-5)
    loss.backward()
    fewer = Samples(t[:lit], t[1:lit + 1], samples.ray_indices[:lit], samples.ray_starts, torch.tensor([lit]), 1)
    again = field["table"].detach().clone().requires_grad_()
    cut, _ = seen_by(field_step.IMPLEMENTATIONS[backend](), (origins, directions, fewer), Space(True), levels, True)(
        **field | {"table": again})
    cut.sum().backward()
    assert torch.equal(cut, sums) and torch.equal(leaf.grad != 0, again.grad != 0)
    assert_close(leaf.grad, again.grad, "gradient")  # torch's product of more rows may round otherwise, by where they lie


@pytest.mark.parametrize("backend", runnable(field_step.IMPLEMENTATIONS))
def test_a_leafs_gradient_is_added_to(backend):
    field, levels = random_field()
    rays = random_rays(9, 100)
    see = seen_by(field_step.IMPLEMENTATIONS[backend](), rays, Space(True), levels, True)
    leaf = field["table"].requires_grad_()
    for _ in range(2):
        see(**field | {"table": leaf})[0].sum().backward()
    twice = leaf.grad.clone()
    leaf.grad = torch.ones_like(leaf)
    see(**field | {"table": leaf})[0].sum().backward()
    assert_close(leaf.grad - 1.0, twice / 2, "gradient", tolerance=1e-5)


@pytest.mark.parametrize("backend", runnable(field_step.IMPLEMENTATIONS))
@pytest.mark.parametrize("log_density", [-200.0, -80.0, -30.0, -1.0, 0.0, 0.1, 5.0, 14.9, 20.0])
def test_what_samples_of_any_length_stop_is_that_of_the_closed_form(backend, log_density):
    field, levels = random_field(width=16)
    for values in (field["table"], *field["density"]):
        values.fill_(1.0)
    field["density"][0] /= field["density"][0].shape[1]
    field["density"][1] *= log_density / 16
    lengths = torch.logspace(-30, 8, 400)
    ones = torch.ones(len(lengths), dtype=torch.int64)
    samples = Samples(torch.zeros_like(lengths), lengths, torch.arange(len(lengths)), ones.cumsum(0) - 1, ones, len(lengths))
    rays = torch.zeros(len(lengths), 3), torch.eye(3)[ones], samples
    _, weights = seen_by(field_step.IMPLEMENTATIONS[backend](), rays, Space(False), levels, True)(**field)
    depth = torch.exp(torch.tensor(min(log_density, 15.0), dtype=torch.float64)) * lengths.double()
    close = {"rtol": 1e-6 * (1 + abs(log_density)), "atol": 1e-29}
    if backend == "triton":  # knows the net's numbers to float16, and takes what is left from 1
        close = {"rtol": 2e-2, "atol": 2e-7}
    torch.testing.assert_close(weights.double(), -torch.expm1(-depth.clamp(max=64.0)), **close)


@pytest.mark.parametrize("backend", runnable(field_step.IMPLEMENTATIONS))
def test_a_number_that_is_none_shows_in_what_is_seen(backend):
    field, levels = random_field()
    field["table"].fill_(float("nan"))
    sums, _ = seen_by(field_step.IMPLEMENTATIONS[backend](), random_rays(9, 100), Space(True), levels, True)(**field)
    assert sums.isnan().any()


@pytest.mark.parametrize("backend", runnable(field_step.IMPLEMENTATIONS))
def test_there_may_be_unused_entries_and_no_rays(backend):
    field, levels = random_field()
    none = torch.zeros(3)
    samples = Samples(none, none, torch.zeros(3, dtype=torch.int64), none[:0].long(), none[:0].long(), 0)
    rays = torch.zeros(0, 3), torch.zeros(0, 3), samples
    sums, weights = seen_by(field_step.IMPLEMENTATIONS[backend](), rays, Space(True), levels, True)(**field)
    assert sums.shape == (0, 5) and not weights.any()


@pytest.mark.parametrize("backend", runnable(field_step.IMPLEMENTATIONS))
def test_nothing_of_a_step_outlives_it(backend):
    field, levels = random_field()
    see = seen_by(field_step.IMPLEMENTATIONS[backend](), random_rays(9, 100), Space(True), levels, True)
    gc.disable()
    try:
        sums, weights = see(**field | {"table": field["table"].requires_grad_()})
        watched = weakref.ref(weights)
        sums.sum().backward()
        del sums, weights
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("backend", runnable(field_step.IMPLEMENTATIONS))
def test_where_nothing_flows_back_rays_may_be_left_when_they_are_dim(backend):
    field, levels = random_field(density=0.1)
    rays = random_rays(10, 4000)
    see = seen_by(field_step.IMPLEMENTATIONS[backend](), rays, Space(True), levels, True, field_step.DIM)
    sums, weights = (values.detach() for values in see(**field))
    with torch.no_grad():
        fewer_sums, fewer_weights = see(**field)
    ahead = (weights.cumsum(0) - weights).double()
    left = 1.0 - (ahead - ahead[rays[2].ray_starts[rays[2].ray_indices]])
    is_bright, is_dim = left > 1.01 * field_step.DIM, left < 0.99 * field_step.DIM
    assert_close(fewer_weights[is_bright], weights[is_bright], "weights")
    assert is_bright.sum() > 100 and (weights[is_dim] > 0).sum() > 20
    assert (fewer_sums - sums)[:, :4].abs().max() <= field_step.DIM
    assert backend != "cpp" or not fewer_weights[is_dim].any()


@requires("triton")
@pytest.mark.parametrize("n_rays, n_samples", [(1, 1), (3, 0), (7, 200)])
def test_leaving_rays_that_are_dark_changes_nothing(n_rays, n_samples):
    kernels = field_step.IMPLEMENTATIONS["triton"]()
    field, levels = random_field()
    rays = random_rays(n_rays, n_samples, unused=3)
    see = seen_by(kernels, rays, Space(True), levels, True)
    with torch.no_grad():
        found = see(**field)
    for value, truth in zip(found, see(**field), strict=True):
        assert_close(value, truth, "sums or weights")  # products of matrices are summed by the place in a tile


@requires("triton")
def test_of_samples_in_the_dark_the_field_is_not_asked(monkeypatch):
    """A wall from the fourth sample on stops one of two rays; the other has nothing before it."""
    kernels, asked = field_step.IMPLEMENTATIONS["triton"](), []
    forward = kernels.FieldKernels.forward

    def counted(self, origins, directions, samples, space, count):
        asked.append(len(samples.t_starts))
        passed = forward(self, origins, directions, samples, space, count)
        is_wall = (samples.ray_indices == 0) & (samples.t_starts > 0.3)
        return replace(passed, density=torch.where(is_wall, 1e3, 0.0))
    monkeypatch.setattr(kernels.FieldKernels, "forward", counted)
    field, levels = random_field()
    n = 60
    t = (0.1 * torch.arange(n)).repeat(2)
    samples = Samples(t, t + 0.1, torch.arange(2).repeat_interleave(n), torch.tensor([0, n]), torch.tensor([n, n]), 2)
    with torch.no_grad():
        sums, weights = seen_by(kernels, (torch.zeros(2, 3), torch.eye(3)[:2], samples), Space(True), levels, True)(**field)
    assert asked == [2 * 8, 16, 32, 4]  # stretches of 8, 16, 32 and the rest
    assert sums[:, 3].tolist() == [1.0, 0.0] and not weights[5:n].any()


def shown(density, rgb, samples, space, background, truth, costs, counts, distortion):
    """What training/losses.py and the references make of densities and colours: loss, squared errors [R] of pixels."""
    n_rays, along = samples.n_rays, (samples.t_starts, samples.t_ends)
    weights = composite.render_weights(density, *along, samples.ray_indices, n_rays)
    values = torch.cat([rgb * (weights > field_step.SEEN)[:, None], torch.ones_like(rgb[:, :1])], 1)
    sums = composite.accumulate(weights, values, samples.ray_indices, n_rays)
    sums = sums.view(len(truth), -1, 4).mean(1)  # of the rays of a pixel
    seen = sums[:, :3] + (1.0 - sums[:, 3:]) * background
    places = (space.lattice_at(t) / space.lattice_length for t in along)
    spread = composite.distortion(weights, *places, samples.ray_indices, n_rays)
    losses = torch.nn.functional.huber_loss(seen, truth, reduction="none", delta=HUBER).mean(1) + costs * sums[:, 3]
    spread = spread.view(len(truth), -1).sum(1)
    return ((losses + distortion * spread) * counts).sum(), (seen.detach() - truth).square().mean(1) * counts


@requires("triton")
@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("n_pixels, n_samples", [(1, 1), (3, 0), (7, 63), (40, 300)])
@pytest.mark.parametrize("distortion", [0.0, 0.7])
def test_compositing_loss_and_way_back_in_one_are_those_of_the_references(n_pixels, n_samples, distortion, each):
    kernels, space, scale = field_step.IMPLEMENTATIONS["triton"](), Space(False), 128.0
    n_rays = each * n_pixels
    origins, directions, samples = random_rays(n_rays, n_samples, unused=3)
    density = (10.0 * torch.rand(n_samples + 3)).requires_grad_()
    rgb = torch.rand(n_samples + 3, 3).requires_grad_()
    background, truth, counts = torch.rand(n_pixels, 3), torch.rand(n_pixels, 3), torch.rand(n_pixels) < 0.8
    costs = torch.rand(n_pixels) * (torch.rand(n_pixels) < 0.5)
    loss, squares = shown(density, rgb, samples, space, background, truth, costs, counts, distortion)
    d_density, d_rgb = torch.autograd.grad(scale * loss, [density, rgb])
    passed = kernels.Passed(directions, samples.ray_indices, *[None] * 3, density.detach(), rgb.detach())
    of_rays = counts.repeat_interleave(each)
    spread, pull = kernels.spread_and_learn(kernels.weights_along(passed, samples), samples, space, of_rays, scale * distortion)
    totals, found, lit, gradients = kernels.show_and_learn(passed, samples, background, truth, costs, counts, scale, HUBER,
                                                           pull if distortion else None)
    assert_close(totals[0] + distortion * spread, loss, "loss", tolerance=1e-5)
    assert_close(totals[1:], torch.stack([squares.sum(), counts.sum()]), "squared errors, rays that count", tolerance=1e-5)
    assert_close(found, squares, "squares", tolerance=1e-5)
    assert_close(gradients[0], d_density * density, "gradient by the logarithm of the density", tolerance=1e-5)
    assert_close(gradients[1], d_rgb, "gradient by the colour", tolerance=1e-5)
    index, count = kernels.lit_samples(samples.ray_starts, lit, n_samples + 3)
    weights = composite.render_weights(density, samples.t_starts, samples.t_ends, samples.ray_indices, n_rays)
    is_lit = (weights > 0) & torch.nn.functional.pad(of_rays, (0, 1))[samples.ray_indices]
    assert index[:count].tolist() == is_lit.nonzero()[:, 0].tolist()


@requires("triton")
@pytest.mark.parametrize("size", [1e2, 1e4, 1e5, 1e6])
def test_what_float16_cannot_hold_never_reaches_the_table_alone(size):
    """Whether a step is sound is read from the gradients of the nets: where these are finite, the table's must be."""
    kernels = field_step.IMPLEMENTATIONS["triton"]()
    field, levels = random_field()
    field["density"][0] *= 30.0
    origins, directions, samples = random_rays(7, 60)
    nets = HashGridNets(field["table"], levels, tuple(field["density"]), tuple(field["colour"]), True)
    half = kernels.FieldKernels(nets, field["table"].half(), True)
    passed = half.forward(origins, directions, samples, Space(True), torch.tensor(60, dtype=torch.int32))
    d_table, d_matrices = torch.zeros_like(nets.table), [torch.zeros_like(matrix) for matrix in half.matrices]
    half.backward(passed, torch.arange(60, dtype=torch.int32), torch.tensor(60, dtype=torch.int32),
                  (size * torch.rand(60), torch.zeros(60, 3)), d_table, d_matrices)
    assert d_table.isfinite().all() or not all(matrix.isfinite().all() for matrix in d_matrices)
