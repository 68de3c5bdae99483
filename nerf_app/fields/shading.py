"""MEAN OF WHAT A RAY MEETS → ITS COLOUR: diffuse light, and light that a surface reflects (Ref-NeRF, Verbin et al. 2022).

A reflective field says of each point not its colour but CHANNELS numbers: a diffuse colour, the tint and roughness of what it
mirrors, a normal, and a few that only the net below can read. A ray takes their mean and is shaded once. Ref-NeRF shades
every sample; shaded once, the net can be four times as wide at a hundredth of the cost, and one normal speaks for the
surface. Light adds up linearly and ends in the sRGB curve.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nerf_app.fields.mlp import dense_shapes, layers
from nerf_app.fields.parameters import Parameters
from nerf_app.ops.backend import Backend
from nerf_app.ops.directional import WIDTH

CHANNELS = 16
DIFFUSE, TINT, ROUGHNESS, NORMAL, REST = slice(0, 3), slice(3, 6), 6, slice(7, 10), slice(10, 16)
SHADED = WIDTH + 2 + 6  # what the net takes: the mirrored direction's lobe, n · v, roughness, and the rest of the channels
HIDDEN, PADDED = 64, 16  # neurons of its two hidden layers; outputs, of which three are used


@dataclass(frozen=True)
class Surface:
    """What R rays meet, as far as it is opaque."""

    rgb: Tensor  # [R, 3] sRGB-coded, from 0 on; more than 1 is brighter than a photo can show
    diffuse: Tensor  # [R, 3] linear light, the same towards everywhere
    specular: Tensor  # [R, 3] linear light that is mirrored towards the eye
    tint: Tensor  # [R, 3] linear, 0...1: what part of the light that arrives is mirrored
    roughness: Tensor  # [R] 0...1: 1 / κ of the lobe from which light is mirrored
    normals: Tensor  # [R, 3] unit vectors, scene axes


class Shading:
    """The net that knows what surrounds the scene: one for all points."""

    def __init__(self, parameters: Parameters, ops: Backend, prefix: str) -> None:
        self.encode, self.mlp = ops.directional.encode, ops.mlp.mlp
        self.net = layers(parameters, shading_shapes(prefix))

    def __call__(self, channels: Tensor, directions: Tensor) -> Surface:
        """[R, CHANNELS] in 0...1, [R, 3] unit vectors along the rays -> what they see."""
        normals = torch.nn.functional.normalize(normals_of(channels), dim=1, eps=1e-6)
        facing = -(normals * directions).sum(1, keepdim=True)  # [R, 1] n · v
        mirrored = directions + 2.0 * facing * normals
        roughness = channels[:, ROUGHNESS] ** 2
        lobe = self.encode(mirrored, roughness)
        light = self.mlp(torch.cat([lobe, facing, channels[:, ROUGHNESS, None], channels[:, REST]], 1), *self.net)[:, :3]
        diffuse, tint = channels[:, DIFFUSE] ** 2, channels[:, TINT]  # squared: at first, tint has more to explain
        specular = tint * torch.sigmoid(light)
        return Surface(coded(diffuse + specular), diffuse, specular, tint, roughness, normals)


def shading_shapes(prefix: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the net's matrices."""
    return dense_shapes(f"{prefix}.shading_net", [SHADED, HIDDEN, HIDDEN, PADDED])


def normals_of(channels: Tensor) -> Tensor:
    """[N, CHANNELS] in 0...1 -> [N, 3] as they were predicted: shorter than 1 where they are not sure."""
    return 2.0 * channels[:, NORMAL] - 1.0


def coded(light: Tensor) -> Tensor:
    """Linear light, at least 0 -> sRGB-coded, any shape; it goes on beyond 1."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
