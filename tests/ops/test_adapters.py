"""tinycudann's and nerfacc's adapters against stand-ins. They check shapes, dtypes and layout only: no machine with the real
libraries has been there, and the golden files that would hold their numbers are absent (tools/make_golden.py makes them)."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from nerf_app.ops import backend
from nerf_app.ops.composite import nerfacc as composite
from nerf_app.ops.field_step import reference as field_step_reference
from nerf_app.ops.field_step import tcnn as field_step
from nerf_app.ops.hashgrid import level_table
from nerf_app.ops.hashgrid import reference as grid_reference
from nerf_app.ops.hashgrid import tcnn as grid
from nerf_app.ops.march import nerfacc as march
from nerf_app.ops.mlp import reference as mlp_reference
from nerf_app.ops.mlp import tcnn as mlp
from nerf_app.sampling.contraction import Space
from tests.ops.test_composite import random_samples
from tests.ops.test_field_step import random_field, random_rays, seen_by
from tests.parity import assert_close, value_and_gradients
from tools import make_golden


class StandInEncoding(torch.nn.Module):
    """Takes what tinycudann.Encoding takes; computes with our reference from one flat buffer."""

    def __init__(self, dimensions, config, dtype):
        super().__init__()
        assert dtype == torch.float32 and config["otype"] == "HashGrid"
        finest = config["base_resolution"] * config["per_level_scale"] ** (config["n_levels"] - 1)
        self.levels = level_table(config["n_levels"], config["base_resolution"], round(finest), config["log2_hashmap_size"],
                                  dimensions)
        self.features = config["n_features_per_level"]
        self.params = torch.nn.Parameter(torch.zeros((self.levels[-1].first + self.levels[-1].entries) * self.features))

    def forward(self, x):
        assert self.params.ndim == 1 and x.dtype == torch.float32 and len(x), "a device refuses a launch of none"
        return grid_reference.encode(x, self.params.view(-1, self.features), self.levels)


class StandInNetwork(torch.nn.Module):
    """Takes what tinycudann.Network takes; a row-major [out, in] matrix after the other, and float16 comes back."""

    def __init__(self, n_in, n_out, config):
        super().__init__()
        assert config["otype"] == "FullyFusedMLP" and config["output_activation"] == "None"
        self.widths = [n_in, *[config["n_neurons"]] * config["n_hidden_layers"], n_out]
        self.params = torch.nn.Parameter(torch.zeros(sum(a * b for a, b in zip(self.widths[:-1], self.widths[1:]))))

    def forward(self, x):
        assert len(x), "a device refuses a launch of none"
        return mlp_reference.mlp(x, mlp.unpacked(self.params, self.widths), None).half()


def stand_in_traverse_grids(rays_o, rays_d, binaries, aabbs, near_planes, far_planes, step_size, cone_angle):
    """Takes what nerfacc.traverse_grids takes and gives what it gives: neighbouring intervals share an edge."""
    assert binaries.ndim == 4 and binaries.dtype == torch.bool and binaries.is_contiguous() and rays_o.is_contiguous()
    assert near_planes.isfinite().all() and far_planes.isfinite().all(), "the real one would not come back"
    assert aabbs.tolist() == [[-1, -1, -1, 1, 1, 1]] and cone_angle == 0.0 and near_planes.dtype == torch.float32
    edges, lefts, rights, rays = [], [], [], []
    for ray, (t, last) in enumerate(zip(near_planes.tolist(), far_planes.tolist(), strict=True)):
        is_continued = False
        while t + 0.5 * step_size < last:
            point = (rays_o[ray] + (t + 0.5 * step_size) * rays_d[ray] + 1.0) / 2.0
            cell = (point * len(binaries[0])).long()
            if (point >= 0).all() and (point < 1).all() and binaries[(0, *cell)]:
                if is_continued:
                    lefts[-1] = True
                else:
                    edges, lefts, rights = [*edges, t], [*lefts, True], [*rights, False]
                edges, lefts, rights = [*edges, t + step_size], [*lefts, False], [*rights, True]
                rays.append(ray)
                is_continued = True
            else:
                is_continued = False
            t += step_size
    intervals = types.SimpleNamespace(vals=torch.tensor(edges), is_left=torch.tensor(lefts, dtype=torch.bool),
                                      is_right=torch.tensor(rights, dtype=torch.bool))
    return intervals, types.SimpleNamespace(ray_indices=torch.tensor(rays, dtype=torch.int64)), far_planes


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    def weights(t_starts, t_ends, sigmas, *, ray_indices, n_rays):
        found = composite.reference.render_weights(sigmas, t_starts, t_ends, ray_indices, n_rays)
        return found, torch.ones_like(found), None

    def sums(found, values, ray_indices, n_rays):
        return composite.reference.accumulate(found, values, ray_indices, n_rays)
    tinycudann = types.SimpleNamespace(Encoding=StandInEncoding, Network=StandInNetwork)
    nerfacc = types.SimpleNamespace(render_weight_from_density=weights, accumulate_along_rays=sums,
                                    traverse_grids=stand_in_traverse_grids)
    monkeypatch.setitem(sys.modules, "tinycudann", tinycudann)
    monkeypatch.setitem(sys.modules, "nerfacc", nerfacc)
    yield
    grid._module.cache_clear()
    mlp._module.cache_clear()


@pytest.mark.parametrize("levels", [level_table(8, 16, 512, 14, 3), level_table(4, 4, 20, 14, 3), level_table(1, 16, 16, 12, 2)])
def test_a_table_goes_to_the_stand_in_as_it_lies_and_its_gradient_comes_back(levels):
    inputs = {"x": torch.rand(33, 3 if len(levels) > 1 else 2), "table": torch.randn(levels[-1].first + levels[-1].entries, 4)}
    truth = value_and_gradients(grid_reference.encode, inputs, levels=levels)
    for name, value in value_and_gradients(grid.encode, inputs, levels=levels).items():
        assert_close(value, truth[name], name, tolerance=1e-5)


def test_matrices_go_there_and_back_unchanged():
    matrices = [torch.randn(32, 16), torch.randn(32, 32), torch.randn(16, 32)]
    again = mlp.unpacked(mlp.packed(matrices), [16, 32, 32, 16])
    assert all(torch.equal(one, other) for one, other in zip(matrices, again, strict=True))


@pytest.mark.parametrize("widths", [[32, 32, 16], [32, 64, 64, 16], [20, 32, 16]])
def test_a_net_goes_to_the_stand_in_and_its_gradients_come_back(widths):
    inputs = {"x": torch.randn(9, widths[0]), "matrices": [torch.randn(b, a) / a**0.5 for a, b in zip(widths[:-1], widths[1:])]}
    truth = value_and_gradients(mlp_reference.mlp, inputs, biases=None)
    for name, value in value_and_gradients(mlp.mlp, inputs, biases=None).items():
        assert value.dtype == torch.float32
        assert_close(value, truth[name], name, tolerance=2e-3)  # float16 comes back


@pytest.mark.parametrize("n_samples", [60, 0])
def test_a_field_step_goes_through_all_stand_ins(n_samples):
    field, levels = random_field(width=32)
    rays = random_rays(9, n_samples, unused=3 if n_samples else 0)
    truth, found = (value_and_gradients(seen_by(module, rays, Space(True), levels, True), field)
                    for module in (field_step_reference, field_step))
    for name, value in found.items():
        assert_close(value, truth[name], name, tolerance=2e-2)  # float16 comes back from both nets


def test_unused_samples_are_those_of_one_more_ray():
    inputs = random_samples(7, 63, unused=3)
    truth = value_and_gradients(composite.reference.render_weights, inputs, n_rays=7)
    for name, value in value_and_gradients(composite.render_weights, inputs, n_rays=7).items():
        assert_close(value, truth[name], name)
    sums = composite.accumulate(inputs["density"], torch.randn(66, 2), inputs["ray_indices"], 7)
    assert sums.shape == (7, 2)


def marching_inputs(n_rays):
    origins, directions = 0.5 * (torch.rand(n_rays, 3) - 0.5), torch.nn.functional.normalize(torch.randn(n_rays, 3), dim=1)
    near = 0.01 + 0.1 * torch.rand(n_rays)
    far = near + torch.rand(n_rays)
    far[::5], far[1::5], near[2::5] = near[::5], torch.nan, torch.nan
    return origins, directions, near, far, torch.rand(n_rays), 0.04, torch.rand(9, 9, 9) < 0.4


@pytest.mark.parametrize("n_rays, room", [(11, None), (11, 40), (1, None), (0, None)])
def test_marching_by_the_stand_in_keeps_the_steps_that_the_reference_keeps(n_rays, room):
    inputs = marching_inputs(n_rays)
    found, truth = (module.march(*inputs, Space(True), room) for module in (march, march.reference))
    for name, value in vars(truth).items():
        assert getattr(found, name).dtype == value.dtype, name
        torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=1e-5)  # it adds step to step
    assert room is None or 0 < len(found.t_starts) <= room


def test_marching_without_bounds_is_left_to_the_reference(monkeypatch):
    monkeypatch.setattr(sys.modules["nerfacc"], "traverse_grids", lambda *_, **__: pytest.fail("nerfacc knows no such space"))
    assert len(march.march(*marching_inputs(7), Space(False), None).t_starts)


def test_where_tinycudann_computes_nerfacc_does_what_triton_is_not_there_for(monkeypatch):
    monkeypatch.setattr(backend.gpu_choice, "is_there", lambda name: name == "nerfacc")
    chosen = {op: module.__name__.rpartition(".")[2] for op, module in backend.implementations("tcnn").items()}
    assert chosen["march"] == chosen["composite"] == "nerfacc" and chosen["hashgrid"] == chosen["field_step"] == "tcnn"
    assert chosen["adam"] == chosen["occupancy"] == "reference"


def test_the_references_agree_with_golden_files_where_there_are_any():
    """Grids in float32; nets in float16, of which three digits are left."""
    for file in sorted(Path(__file__).parent.parent.glob("golden/*.npz")):
        golden = {name: torch.from_numpy(value) for name, value in np.load(file).items() if value.dtype.kind in "fi"}
        if file.stem in make_golden.GRIDS:
            levels = level_table(*make_golden.GRIDS[file.stem])
            generator = torch.Generator().manual_seed(0)
            torch.rand(make_golden.POINTS, len(golden["x"][0]), generator=generator)
            table = torch.randn(levels[-1].first + levels[-1].entries, 2, generator=generator)
            assert_close(golden["out"], grid_reference.encode(golden["x"], table, levels), file.stem, tolerance=1e-3)
        elif file.stem in make_golden.NETS:
            matrices = mlp.unpacked(golden["matrices"], make_golden.NETS[file.stem])
            assert_close(golden["out"], mlp_reference.mlp(golden["x"], matrices, None), file.stem, tolerance=1e-3)
        else:
            t = golden["t"]
            truth = composite.reference.render_weights(golden["density"], t, t + 0.1, golden["rays"], 16)
            assert_close(golden["out"], truth, file.stem, tolerance=1e-5)
