"""What keeps predicted normals true, at a ball whose normals everybody knows."""

from types import SimpleNamespace

import pytest
import torch

from nerf_app.fields.radiance import FieldOutput
from nerf_app.fields.shading import CHANNELS, NORMAL
from nerf_app.sampling.contraction import Space
from nerf_app.training.losses import TERMS, weights_of
from nerf_app.training.settings import LossSettings
from nerf_app.training.surface import LOOKS_AWAY, STEEP, downhill, surface
from tests.analytic import free_rays
from tests.fields.test_radiance import make_field, make_plan

SPACE = Space(True)


class BallField:
    """A ball round the origin, whose predicted normals are those of its density, turned by `turned`."""

    shading = object()

    def __init__(self, turned=None, steep=None):
        self.turned = torch.eye(3) if turned is None else turned
        self.steep = 1e3 * STEEP * torch.eye(3) if steep is None else steep

    def density(self, unit):
        return FieldOutput(torch.ones(len(unit)), SPACE.from_unit(unit))

    def slope(self, unit):
        points = SPACE.from_unit(unit)
        return points, -points @ self.steep

    def colour(self, features, directions):
        channels = torch.full((len(features), CHANNELS), 0.5)
        channels[:, NORMAL] = (torch.nn.functional.normalize(features, dim=1) @ self.turned.T + 1) / 2
        return channels


def loss_of(field, towards, count=50):
    """The term where rays end at one sample each, on the ball's side at `towards` [3] times their own direction."""
    directions = torch.nn.functional.normalize(torch.randn(count, 3), dim=1)
    samples = SimpleNamespace(t_starts=torch.full((count,), 0.9), t_ends=torch.full((count,), 1.1),
                              ray_indices=torch.arange(count))
    rays = free_rays(-directions * (1 - towards * 0.5), directions)
    rendering = SimpleNamespace(weights=torch.rand(count) + 0.1, samples=samples)
    return surface(rendering, SimpleNamespace(rays=rays), SimpleNamespace(fields=[field], space=SPACE))


def test_true_normals_that_face_the_eye_cost_nothing():
    assert float(loss_of(BallField(), -1.0)) == pytest.approx(0.0, abs=1e-5)


def test_a_visible_surface_that_looks_away_is_blamed():
    assert float(loss_of(BallField(), 1.0)) == pytest.approx(LOOKS_AWAY, abs=1e-3)


def test_normals_that_are_not_those_of_the_density_are_blamed():
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    assert float(loss_of(BallField(half_turn), -1.0)) > 1.0


def test_fog_is_not_told_to_turn_and_teaches_no_normals():
    """In proportion to its slope, as far as that is less than STEEP; a direction alone turns ever more easily."""
    quarter_turn, bent, taught = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), [], []
    for steep in (0.001, 1.0, 1000.0):
        torch.manual_seed(0)
        field = BallField(quarter_turn.clone().requires_grad_(), steep * STEEP * torch.eye(3).requires_grad_())
        field.steep.retain_grad()
        loss_of(field, -1.0).backward()
        bent.append(float(field.steep.grad.norm()) * steep * STEEP)
        taught.append(float(field.turned.grad.norm()))
    assert bent[0] < 0.01 * bent[1] and taught[0] < 0.2 * taught[2]


def test_only_a_field_that_predicts_normals_has_such_a_loss():
    for shading, terms in ((None, {"emptiness"}), (object(), {"emptiness", "surface", "mirrored"})):
        model = SimpleNamespace(fields=[SimpleNamespace(shading=shading)], space=SPACE)
        assert weights_of(LossSettings(), model, 1.0).keys() == terms
    assert TERMS["surface"] is surface


def test_where_nothing_is_seen_there_is_nothing_to_blame():
    none = SimpleNamespace(t_starts=torch.zeros(0), t_ends=torch.zeros(0), ray_indices=torch.zeros(0, dtype=torch.int64))
    rays = free_rays(torch.zeros(3, 3), torch.ones(3, 3))
    loss = surface(SimpleNamespace(weights=torch.zeros(0), samples=none), SimpleNamespace(rays=rays),
                   SimpleNamespace(fields=[BallField()], space=SPACE))
    assert float(loss) == 0.0


@pytest.mark.parametrize("is_bounded", [True, False])
@pytest.mark.parametrize("kind", ["hashgrid", "frequency"])
def test_downhill_is_where_the_density_falls(kind, is_bounded):
    field, _ = make_field(kind, make_plan(appearance="reflective"), torch.float64)
    space = Space(is_bounded)
    positions = (torch.rand(60, 3, dtype=torch.float64) - 0.5) * (1.0 if is_bounded else 6.0)
    places = positions.clone().requires_grad_()
    density = field.density(space.to_unit(places)).density
    rises = density.log() if kind == "hashgrid" else density.expm1().log()  # the number that becomes the density
    (slope,) = torch.autograd.grad(rises.sum(), places)
    assert torch.allclose(downhill(positions, field, space)[1], -slope, atol=1e-8)
