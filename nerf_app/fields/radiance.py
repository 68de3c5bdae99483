"""POINTS → VALUES: how much there is at a point, and what colour it shows in a direction.

A field knows neither rays nor photos: points lie in the unit cube, density is per scene unit. `density` comes first and
is cheap; `colour` is asked only where the density turned out to matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nerf_app.fields.encodings import Frequency, GaussianFourier, HashGrid, SphericalHarmonics
from nerf_app.fields.encodings.hashgrid import hash_levels, table_shape
from nerf_app.fields.mlp import dense_shapes, layers, xavier_uniform
from nerf_app.fields.parameters import Parameters
from nerf_app.fields.settings import FieldPlan, FrequencySettings
from nerf_app.ops.backend import Backend
from nerf_app.ops.field_step import HashGridNets
from nerf_app.ops.mlp.density import ClampedExp

GEOMETRY_FEATURES = 16  # outputs of the density net; the first one becomes the density
PADDED_COLOUR = 16  # tinycudann writes outputs in blocks of 16; three are used
SH_WIDTH = 16
GAUSSIAN_SEED = 0


@dataclass(frozen=True)
class FieldOutput:
    """What a field says of N points before anyone asks for colour."""

    density: Tensor  # [N] per scene unit, ≥ 0
    features: Tensor  # [N, C] what the colour needs


class RadianceField(Protocol):
    """The promise that sampling, rendering and export rely on."""

    nets: HashGridNets | None  # what ops/field_step takes, where density and colour together are nothing but that

    def density(self, unit: Tensor) -> FieldOutput:
        """[N, 3] in the unit cube -> density and features; differentiable by position."""

    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        """[N, C], [N, 3] unit vectors along the ray -> [N, 3] in 0...1."""


class HashGridField:
    """A hash grid, a density net and a colour net, all bias-free (Müller et al. 2022)."""

    def __init__(self, plan: FieldPlan, parameters: Parameters, ops: Backend, prefix: str) -> None:
        self.encoding = HashGrid(ops.hashgrid, parameters[f"{prefix}.table"], hash_levels(plan.encoding, 3))
        self.directions = SphericalHarmonics(ops.spherical_harmonics)
        self.mlp = ops.mlp.mlp
        self.density_net, self.colour_net = (layers(parameters, shapes) for shapes in self._nets(plan, prefix))
        self.is_view_dependent = plan.field.is_view_dependent
        self.nets = HashGridNets(self.encoding.table, self.encoding.levels, tuple(self.density_net[0]),
                                 tuple(self.colour_net[0]), self.is_view_dependent)

    @staticmethod
    def shapes(plan: FieldPlan, prefix: str) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all parameters, the table first."""
        density_net, colour_net = HashGridField._nets(plan, prefix)
        return {f"{prefix}.table": table_shape(plan.encoding, 3), **density_net, **colour_net}

    @staticmethod
    def start_values(plan: FieldPlan, prefix: str, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """The table within ±1e-4, nets as Xavier."""
        for name, shape in HashGridField.shapes(plan, prefix).items():
            is_table = name.endswith(".table")
            yield name, (torch.rand(shape, generator=generator) * 2e-4 - 1e-4 if is_table else xavier_uniform(shape, generator))

    @staticmethod
    def _nets(plan: FieldPlan, prefix: str) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        width = plan.field.hidden_width
        encoded = plan.encoding.levels * plan.encoding.features
        colour = [GEOMETRY_FEATURES + SH_WIDTH, *[width] * plan.field.colour_layers, PADDED_COLOUR]
        return (dense_shapes(f"{prefix}.density_net", [encoded, width, GEOMETRY_FEATURES]),
                dense_shapes(f"{prefix}.colour_net", colour))

    def density(self, unit: Tensor) -> FieldOutput:
        """See RadianceField."""
        hidden = self.mlp(self.encoding(unit), *self.density_net)  # [N, 16]
        return FieldOutput(ClampedExp.apply(hidden[:, 0]), hidden)

    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        """See RadianceField."""
        seen_from = self.directions(directions) if self.is_view_dependent else features.new_zeros(features.shape[0], SH_WIDTH)
        return torch.sigmoid(self.mlp(torch.cat([features, seen_from], 1), *self.colour_net)[:, :3])


class FrequencyField:
    """The positional-encoded 5D net of NeRF (Mildenhall et al. 2020, Fig. 7): one trunk with a skip, a small colour branch."""

    def __init__(self, plan: FieldPlan, parameters: Parameters, ops: Backend, prefix: str) -> None:
        self.position = _position_encoding(plan.frequency)
        self.direction = Frequency(3, plan.frequency.direction_octaves)
        self.mlp = ops.mlp.mlp
        self.lower, self.upper, self.head, self.branch = (layers(parameters, shapes) for shapes in self._nets(plan, prefix))
        self.is_view_dependent, self.nets = plan.field.is_view_dependent, None

    @staticmethod
    def shapes(plan: FieldPlan, prefix: str) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all parameters."""
        return {name: shape for net in FrequencyField._nets(plan, prefix) for name, shape in net.items()}

    @staticmethod
    def start_values(plan: FieldPlan, prefix: str, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Xavier matrices, zero biases."""
        for name, shape in FrequencyField.shapes(plan, prefix).items():
            yield name, (xavier_uniform(shape, generator) if len(shape) == 2 else torch.zeros(shape))

    @staticmethod
    def _nets(plan: FieldPlan, prefix: str) -> tuple[dict[str, tuple[int, ...]], ...]:
        settings = plan.frequency
        encoded, width = _position_encoding(settings).width, settings.width
        direction = Frequency(3, settings.direction_octaves).width
        below = (settings.layers + 1) // 2
        above = settings.layers - below
        return (dense_shapes(f"{prefix}.lower", [encoded, *[width] * below], has_biases=True),
                dense_shapes(f"{prefix}.upper", [width + encoded, *[width] * above], has_biases=True),
                dense_shapes(f"{prefix}.head", [width, 1 + width], has_biases=True),
                dense_shapes(f"{prefix}.branch", [width + direction, width // 2, 3], has_biases=True))

    def density(self, unit: Tensor) -> FieldOutput:
        """See RadianceField."""
        encoded = self.position(2.0 * unit - 1.0)
        halfway = torch.relu(self.mlp(encoded, *self.lower))
        features = torch.relu(self.mlp(torch.cat([halfway, encoded], 1), *self.upper))
        hidden = self.mlp(features, *self.head)  # [N, 1 + width]
        return FieldOutput(torch.nn.functional.softplus(hidden[:, 0]), hidden[:, 1:])

    def colour(self, features: Tensor, directions: Tensor) -> Tensor:
        """See RadianceField."""
        seen_from = self.direction(directions if self.is_view_dependent else torch.zeros_like(directions))
        return torch.sigmoid(self.mlp(torch.cat([features, seen_from], 1), *self.branch))


def _position_encoding(settings: FrequencySettings) -> Frequency | GaussianFourier:
    if settings.encoding == "gaussian":
        return GaussianFourier.random(3, settings.gaussian_features, settings.gaussian_sigma, GAUSSIAN_SEED)
    return Frequency(3, settings.position_octaves)


FIELDS = {"hashgrid": HashGridField, "frequency": FrequencyField}
