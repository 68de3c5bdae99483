"""POINTS → VALUES: how much there is at a point, and what colour it shows in a direction.

A field knows neither rays nor photos: points lie in the unit cube, density is per scene unit. `density` comes first and
is cheap; `colour` is asked only where the density turned out to matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from nerf_app.fields.encodings import Frequency, GaussianFourier, HashGrid, SphericalHarmonics
from nerf_app.fields.encodings.hashgrid import hash_levels, table_shape
from nerf_app.fields.mlp import dense_shapes, layers, xavier_uniform
from nerf_app.fields.parameters import Parameters
from nerf_app.fields.settings import FieldPlan, FrequencySettings
from nerf_app.fields.shading import CHANNELS, Shading, shading_shapes
from nerf_app.ops.backend import Backend
from nerf_app.ops.field_step import HashGridNets
from nerf_app.ops.mlp.density import ClampedExp

GEOMETRY_FEATURES = 16  # outputs of the density net; the first one becomes the density
PADDED_COLOUR = 16  # tinycudann writes outputs in blocks of 16; three are used
SH_WIDTH = 16
COLOUR_CHANNELS = {"plain": 3, "diffuse": 3, "reflective": CHANNELS}  # by the field's appearance
GAUSSIAN_SEED = 0


@dataclass(frozen=True)
class FieldOutput:
    """What a field says of N points before anyone asks for colour."""

    density: Tensor  # [N] per scene unit, ≥ 0
    features: Tensor  # [N, C] what the colour needs


class RadianceField(Protocol):
    """The promise that sampling, rendering and export rely on."""

    nets: HashGridNets | None  # what ops/field_step takes, where density and colour together are nothing but that
    shading: Shading | None  # what makes a colour of the mean of what a ray meets; None: it is the colour

    def density(self, unit: Tensor) -> FieldOutput:
        """[N, 3] in the unit cube -> density and features; differentiable by position."""

    def colour(self, features: Tensor, directions: Tensor, codes: Tensor | None = None) -> Tensor:
        """[N, C], [N, 3] unit vectors along the ray -> [N, 3] in 0...1, or [N, CHANNELS] of which a shading makes a colour.

        Codes [N, K] of the photos that see it move the numbers of the direction: zeros are a view that nobody took.
        """

    def slope(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3] in the unit cube -> features [N, C], and the derivative by position [N, 3] of what grows with the density.

        Differentiable in the parameters alone, without any op being differentiated twice.
        """

    def soften(self, part: float) -> None:
        """Makes the number that becomes the density so many times as large: surfaces turn into fog of about their form."""


class HashGridField:
    """A hash grid, a density net and a colour net, all bias-free (Müller et al. 2022)."""

    def __init__(self, plan: FieldPlan, parameters: Parameters, ops: Backend, prefix: str) -> None:
        self.whole_encoding = HashGrid(ops.hashgrid, parameters[f"{prefix}.table"], hash_levels(plan.encoding, 3))
        self.directions = SphericalHarmonics(ops.spherical_harmonics)
        self.mlp = ops.mlp.mlp
        self.whole_density_net, self.colour_net = (layers(parameters, shapes) for shapes in self._nets(plan, prefix))
        self.pull_back, self.channels = ops.mlp.pull_back, COLOUR_CHANNELS[plan.field.appearance]
        self.is_view_dependent = plan.field.appearance == "plain"
        self.shading = Shading(parameters, ops, prefix) if plan.field.appearance == "reflective" else None
        self.use_levels(plan.encoding.levels)

    def use_levels(self, count: int) -> None:
        """From now on looks at the coarsest `count` levels of its grid alone, as if the others held zeros."""
        table, (first, *others) = self.whole_encoding.table, self.whole_density_net[0]
        self.encoding = replace(self.whole_encoding, levels=self.whole_encoding.levels[:count])
        first = first if count == len(self.whole_encoding.levels) else first[:, :self.encoding.width]
        self.density_net = [first, *others], None
        self.nets = HashGridNets(table, self.encoding.levels, tuple(self.density_net[0]), tuple(self.colour_net[0]),
                                 self.is_view_dependent, self.channels)

    @staticmethod
    def shapes(plan: FieldPlan, prefix: str) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all parameters, the table first."""
        density_net, colour_net = HashGridField._nets(plan, prefix)
        return {f"{prefix}.table": table_shape(plan.encoding, 3), **density_net, **colour_net, **_shading_shapes(plan, prefix)}

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

    def colour(self, features: Tensor, directions: Tensor, codes: Tensor | None = None) -> Tensor:
        """See RadianceField."""
        seen_from = self.directions(directions) if self.is_view_dependent else features.new_zeros(features.shape[0], SH_WIDTH)
        seen_from = _moved(seen_from, codes)
        return torch.sigmoid(self.mlp(torch.cat([features, seen_from], 1), *self.colour_net)[:, :self.channels])

    @torch.no_grad()
    def soften(self, part: float) -> None:
        """See RadianceField; the colour net, which takes that number as well, undoes it for itself."""
        self.whole_density_net[0][-1][0] *= part
        self.colour_net[0][0][:, 0] /= part

    def slope(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """See RadianceField: the chain rule, through the net and the grid's Jacobian."""
        encoded = self.encoding(unit)  # [N, L·F]
        d_encoded = self.pull_back(encoded, _first(encoded, GEOMETRY_FEATURES), *self.density_net)
        return self.mlp(encoded, *self.density_net), self.encoding.pull_back(unit, d_encoded)


class FrequencyField:
    """The positional-encoded 5D net of NeRF (Mildenhall et al. 2020, Fig. 7): one trunk with a skip, a small colour branch."""

    def __init__(self, plan: FieldPlan, parameters: Parameters, ops: Backend, prefix: str) -> None:
        self.position = _position_encoding(plan.frequency)
        self.direction = Frequency(3, plan.frequency.direction_octaves)
        self.mlp = ops.mlp.mlp
        self.lower, self.upper, self.head, self.branch = (layers(parameters, shapes) for shapes in self._nets(plan, prefix))
        self.pull_back, self.nets, self.is_view_dependent = ops.mlp.pull_back, None, plan.field.appearance == "plain"
        self.shading = Shading(parameters, ops, prefix) if plan.field.appearance == "reflective" else None

    @staticmethod
    def shapes(plan: FieldPlan, prefix: str) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all parameters."""
        nets = FrequencyField._nets(plan, prefix)
        return {name: shape for net in nets for name, shape in net.items()} | _shading_shapes(plan, prefix)

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
                dense_shapes(f"{prefix}.branch", [width + direction, width // 2, COLOUR_CHANNELS[plan.field.appearance]],
                             has_biases=True))

    def density(self, unit: Tensor) -> FieldOutput:
        """See RadianceField."""
        *_, hidden = self._through(self.position(2.0 * unit - 1.0))
        return FieldOutput(torch.nn.functional.softplus(hidden[:, 0]), hidden[:, 1:])

    def _through(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What lies between the trunk's nets, and what comes out: [N, 1 + width]."""
        halfway = torch.relu(self.mlp(encoded, *self.lower))
        joined = torch.cat([halfway, encoded], 1)
        features = torch.relu(self.mlp(joined, *self.upper))
        return halfway, joined, features, self.mlp(features, *self.head)

    def colour(self, features: Tensor, directions: Tensor, codes: Tensor | None = None) -> Tensor:
        """See RadianceField."""
        seen_from = _moved(self.direction(directions if self.is_view_dependent else torch.zeros_like(directions)), codes)
        return torch.sigmoid(self.mlp(torch.cat([features, seen_from], 1), *self.branch))

    @torch.no_grad()
    def soften(self, part: float) -> None:
        """See RadianceField."""
        for values in (*self.head[0], *self.head[1]):  # a matrix and a bias
            values[0] *= part

    def slope(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """See RadianceField: the chain rule, backwards through the trunk and its skip."""
        with torch.enable_grad():
            unit = unit.detach().requires_grad_()
            encoded = self.position(2.0 * unit - 1.0)
        fixed = encoded.detach()
        halfway, joined, features, hidden = self._through(fixed)
        d_features = torch.where(features > 0, self.pull_back(features, _first(fixed, hidden.shape[1]), *self.head), 0)
        d_halfway, d_encoded = self.pull_back(joined, d_features, *self.upper).split([halfway.shape[1], fixed.shape[1]], 1)
        d_encoded = d_encoded + self.pull_back(fixed, torch.where(halfway > 0, d_halfway, 0), *self.lower)
        (slope,) = torch.autograd.grad(encoded, unit, d_encoded, create_graph=torch.is_grad_enabled())
        return hidden[:, 1:], slope


def _moved(seen_from: Tensor, codes: Tensor | None) -> Tensor:
    """A direction's numbers [N, D] and a photo's [N, K] in one: what is too long for the direction is left out."""
    return seen_from if codes is None else seen_from + pad(codes, (0, seen_from.shape[1] - codes.shape[1]))


def _shading_shapes(plan: FieldPlan, prefix: str) -> dict[str, tuple[int, ...]]:
    return shading_shapes(prefix) if plan.field.appearance == "reflective" else {}


def _first(like: Tensor, width: int) -> Tensor:
    """[N, width], of which the first column is 1: the gradient of a net's first output by all of them."""
    ones = like.new_zeros(len(like), width)
    ones[:, 0] = 1.0
    return ones


def _position_encoding(settings: FrequencySettings) -> Frequency | GaussianFourier:
    if settings.encoding == "gaussian":
        return GaussianFourier.random(3, settings.gaussian_features, settings.gaussian_sigma, GAUSSIAN_SEED)
    return Frequency(3, settings.position_octaves)


FIELDS = {"hashgrid": HashGridField, "frequency": FrequencyField}
