from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf_app import run as runs
from nerf_app.export.material import TILTED, _sides, material_mesh, material_of, part_mirrored
from nerf_app.fields.shading import Surface, coded
from tests.export.test_texture import round_ball
from tests.sphere import SHARP, small_config, sphere_scene


def surface(diffuse, mirrored, tint, spread=0.0):
    one = torch.tensor([[1.0, 1.0, 1.0]])
    return Surface(one, diffuse * one, mirrored * one, tint * one, torch.tensor([spread]), one)


def material(surface):
    return material_of(surface, part_mirrored(surface.diffuse, surface.specular))


@pytest.mark.parametrize("diffuse, mirrored, tint, metallic, base", [
    (0.5, 0.0, 0.0, 0.0, 0.5), (0.0, 0.3, 0.8, 1.0, 0.8), (0.0, 0.0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.9, 0.0, 0.5),
])
def test_what_is_all_diffuse_or_all_metal_keeps_its_colour(diffuse, mirrored, tint, metallic, base):
    found, _, metal = material(surface(diffuse, mirrored, tint))
    assert float(metal) == pytest.approx(metallic) and torch.allclose(found, coded(torch.full((1, 3), base)))


def test_a_texel_is_looked_at_from_five_sides_above_it():
    normals = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    normals[0] = torch.tensor([0.0, 0.0, 1.0])
    sides = torch.stack(_sides(normals))
    assert torch.allclose(sides.norm(dim=2), torch.ones(5, 50)) and torch.equal(sides[0], normals)
    assert torch.allclose((sides[1:] * normals).sum(2), torch.full((4, 50), (1 + TILTED**2) ** -0.5), atol=1e-6)
    assert torch.allclose(torch.nn.functional.normalize(sides.sum(0), dim=1), normals, atol=1e-6), "evenly around"


@pytest.mark.parametrize("roughness", [0.1, 0.3, 0.5, 0.8])
def test_roughness_comes_back_from_the_lobe_that_it_makes(roughness):
    alpha = roughness**2
    assert float(material(surface(0.0, 1.0, 1.0, 2 * alpha**2))[1]) == pytest.approx(roughness, abs=1e-5)


def test_a_mesh_gets_colour_roughness_and_metal_from_the_field(tmp_path):
    changes = SHARP | {"field.appearance": "reflective", "machine.backend": "auto"}
    run = runs.train(sphere_scene(), small_config(30, changes), tmp_path / "run")
    heard = []
    mesh = material_mesh(run, replace(round_ball(3), texture=None), lambda *at: heard.append(at), 128)
    assert mesh.texture.shape == mesh.material.shape == (128, 128, 3) and mesh.colours.shape == (len(mesh.vertices), 3)
    assert mesh.texture.std() > 0 and not mesh.material[..., 0].any() and mesh.material[..., 1].any()
    assert heard[-1][0] == heard[-1][1]
    assert np.isfinite(mesh.uvs).all()
