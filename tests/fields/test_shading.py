import math

import pytest
import torch

from nerf_app.fields.parameters import Parameters
from nerf_app.fields.shading import CHANNELS, NORMAL, ROUGHNESS, Shading, coded, normals_of, shading_shapes
from tests.analytic import reference_ops


def a_shading():
    shapes = shading_shapes("field")
    parameters = Parameters({}, shapes, torch.device("cpu"))
    for name, shape in shapes.items():
        parameters.fill(name, torch.randn(shape) / shape[1] ** 0.5)
    return Shading(parameters, reference_ops(), "field")


def channels(normals, roughness=0.1, count=None):
    """Channels of surfaces with these normals [N, 3]; everything else is the same for all."""
    values = torch.rand(1, CHANNELS).repeat(count or len(normals), 1)
    values[:, NORMAL], values[:, ROUGHNESS] = (normals + 1) / 2, roughness
    return values


def unit_vectors(count):
    return torch.nn.functional.normalize(torch.randn(count, 3), dim=1)


def test_light_adds_up_linearly_and_ends_in_the_srgb_curve():
    seen = a_shading()(channels(unit_vectors(40)), unit_vectors(40))
    assert torch.allclose(seen.rgb, coded(seen.diffuse + seen.specular))
    assert (seen.specular >= 0).all() and (seen.diffuse >= 0).all()


def test_the_srgb_curve_at_places_that_everybody_knows():
    known = {0.0: 0.0, 0.001: 0.01292, 0.0031308: 0.04045, 0.21404: 0.5, 1.0: 1.0}
    assert coded(torch.tensor(list(known))).tolist() == pytest.approx(list(known.values()), abs=1e-4)
    dark = torch.zeros(1, requires_grad=True)
    coded(dark).sum().backward()
    assert float(dark.grad) == pytest.approx(12.92)


def test_two_surfaces_that_mirror_the_same_direction_as_steeply_show_the_same_light():
    """Turned about the mirrored direction, eye and normal differ and what is mirrored does not."""
    mirrored, eye = torch.tensor([0.0, 0.0, 1.0]), math.radians(70)
    turns = torch.linspace(0, 6, 8)
    towards = torch.stack([math.sin(eye) * turns.cos(), math.sin(eye) * turns.sin(), torch.full_like(turns, math.cos(eye))], 1)
    normals = torch.nn.functional.normalize(mirrored + towards, dim=1)
    seen = a_shading()(channels(normals), -towards)
    assert torch.allclose(seen.specular, seen.specular[:1].expand(8, 3), atol=1e-5)
    assert seen.specular.std() > 0
    others = a_shading()(channels(unit_vectors(8)), -towards)
    assert others.specular.std(0).max() > 1e-3


def test_a_rough_surface_changes_less_with_what_it_mirrors():
    shading, normals, spreads = a_shading(), unit_vectors(200), []
    values = channels(normals)
    for roughness in (0.0, 0.5, 1.0):
        values[:, ROUGHNESS] = roughness
        seen = shading(values, -normals)  # seen straight on, so nothing but the mirrored direction differs
        spreads.append(float(seen.specular.detach().std(0).mean()))
    assert spreads[0] > 1.2 * spreads[1] > 1.2**2 * spreads[2] > 0


def test_normals_come_back_as_unit_vectors_and_unsure_ones_are_shorter():
    normals = unit_vectors(30)
    assert torch.allclose(normals_of(channels(0.4 * normals)), 0.4 * normals, atol=1e-6)
    assert torch.allclose(a_shading()(channels(0.4 * normals), unit_vectors(30)).normals, normals, atol=1e-5)


def test_gradients_are_finite_where_nothing_is_known():
    values = torch.full((5, CHANNELS), 0.5, requires_grad=True)
    seen = a_shading()(values, unit_vectors(5))
    seen.rgb.sum().backward()
    assert values.grad.isfinite().all() and seen.rgb.isfinite().all()
