from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf_app import run as runs
from nerf_app.export.material import material_mesh, material_of
from nerf_app.fields.shading import Surface, coded
from tests.export.test_texture import round_ball
from tests.sphere import SHARP, small_config, sphere_scene


def surface(diffuse, tint, spread=0.0):
    one = torch.tensor([[1.0, 1.0, 1.0]])
    return Surface(one, diffuse * one, one, tint * one, torch.tensor([spread]), one)


@pytest.mark.parametrize("diffuse, tint, metallic, light", [(0.5, 0.0, 0.0, 0.5), (0.0, 0.8, 1.0, 0.8), (0.0, 0.0, 0.0, 0.0)])
def test_what_is_all_diffuse_or_all_metal_keeps_its_light(diffuse, tint, metallic, light):
    base, _, metal = material_of(surface(diffuse, tint))
    assert float(metal) == pytest.approx(metallic) and torch.allclose(base, coded(torch.full((1, 3), light)))


@pytest.mark.parametrize("roughness", [0.1, 0.3, 0.5, 0.8])
def test_roughness_comes_back_from_the_lobe_that_it_makes(roughness):
    alpha = roughness**2
    assert float(material_of(surface(0.0, 1.0, 2 * alpha**2))[1]) == pytest.approx(roughness, abs=1e-5)


def test_a_mesh_gets_colour_roughness_and_metal_from_the_field(tmp_path):
    changes = SHARP | {"field.appearance": "reflective", "machine.backend": "auto"}
    run = runs.train(sphere_scene(), small_config(30, changes), tmp_path / "run")
    heard = []
    mesh = material_mesh(run, replace(round_ball(3), texture=None), lambda *at: heard.append(at), 128)
    assert mesh.texture.shape == mesh.material.shape == (128, 128, 3) and mesh.colours.shape == (len(mesh.vertices), 3)
    assert mesh.texture.std() > 0 and not mesh.material[..., 0].any() and mesh.material[..., 1].any()
    assert heard[-1][0] == heard[-1][1]
    assert np.isfinite(mesh.uvs).all()
