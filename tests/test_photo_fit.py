"""What is fitted with each photo: neutral at first and in the mean, and no move of all cameras together."""

import math

import pytest
import torch

from nerf_app.fields.parameters import Parameters
from nerf_app.photo_fit import (
    CODE,
    CODE_WIDTH,
    EXPOSURE,
    EXPOSURE_UNIT,
    NEUTRAL,
    POSE,
    PhotoFit,
    cross_matrices,
    fit_shapes,
    similarities,
)
from nerf_app.render import Rendering
from nerf_app.training.settings import PhotoSettings

BOTH = PhotoSettings(exposure="affine", refine_poses=True)


def some_poses(count):
    """[V, 4, 4] float64: turned and placed at random."""
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, :3, :3] = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64)).Q
    poses[:, :3, 3] = 1.5 * torch.randn(count, 3, dtype=torch.float64)
    return poses


def a_fit(settings=BOTH, count=9):
    parameters = Parameters({}, fit_shapes(settings, count), torch.device("cpu"))
    return PhotoFit(parameters, some_poses(count), settings), parameters


def a_rendering(count):
    opacity = torch.rand(count)
    nothing = torch.zeros(count)
    return Rendering(torch.rand(count, 3) * opacity[:, None], opacity, nothing, None, nothing, None)


def test_nothing_is_fitted_unless_it_is_asked_for():
    assert fit_shapes(PhotoSettings(), 5) == {}
    fit, _ = a_fit(PhotoSettings())
    rendering = a_rendering(4)
    assert fit.photographed(rendering, torch.arange(4)) is rendering and fit.poses() is fit.given
    assert fit.is_idle and fit.codes(0) is None


@pytest.mark.parametrize("settings", [{"exposure": "affine"}, {"exposure": "code"}, {"refine_poses": True}])
def test_whatever_is_fitted_is_known(settings):
    assert not a_fit(PhotoSettings(**settings))[0].is_idle


def test_codes_are_neutral_in_the_mean_of_the_photos_and_each_photo_has_none_at_times():
    fit, parameters = a_fit(PhotoSettings(exposure="code"))
    assert not fit.codes(0).any()
    with torch.no_grad():
        parameters[CODE].copy_(torch.randn(9, CODE_WIDTH) + 3.0)
    of_steps = torch.stack([fit.codes(step) for step in range(2 * NEUTRAL)])  # [2 N, V, CODE_WIDTH]
    has_code = of_steps.any(2)
    assert torch.equal((~has_code).sum(0), torch.full((9,), 2)) and (~has_code).any(1).all(), "all in turn, somebody in each step"
    codes = of_steps.sum(0) / (2 * NEUTRAL - 2)
    assert torch.allclose(of_steps[has_code], codes.expand(2 * NEUTRAL, -1, -1)[has_code], atol=1e-6), "else always the same"
    assert torch.allclose(codes.mean(0), torch.zeros(CODE_WIDTH), atol=1e-6) and codes.std(0).min() > 0.1


def test_what_is_fitted_begins_neutral_and_has_gradients():
    fit, parameters = a_fit()
    rendering, photos = a_rendering(20), torch.arange(20) % 9
    seen = fit.photographed(rendering, photos)
    assert torch.equal(seen.rgb, rendering.rgb) and torch.allclose(fit.poses(), fit.given)
    (seen.rgb * torch.rand(20, 3)).sum().backward()
    (fit.poses() * torch.rand(9, 4, 4)).sum().backward()
    assert parameters[EXPOSURE].grad.abs().sum() > 0 and parameters[POSE].grad.abs().sum() > 0


def test_an_exposure_is_a_matrix_and_an_offset_of_what_is_there():
    fit, parameters = a_fit()
    with torch.no_grad():
        parameters[EXPOSURE][2] = torch.randn(3, 4)
    change = EXPOSURE_UNIT * (parameters[EXPOSURE][2] - parameters[EXPOSURE].mean(0)).detach()
    rendering = a_rendering(1)
    seen = fit.photographed(rendering, torch.tensor([2])).rgb.detach()
    straight = rendering.rgb[0] / rendering.opacity
    assert torch.allclose(seen[0] / rendering.opacity, straight + change[:, :3] @ straight + change[:, 3], atol=1e-6)


def test_exposures_are_neutral_in_the_mean_of_the_photos():
    fit, parameters = a_fit()
    with torch.no_grad():
        parameters[EXPOSURE].copy_(torch.randn(9, 3, 4) + 3.0)
    rendering = Rendering(*[torch.full((9, 3), 0.4), torch.ones(9)], torch.zeros(9), None, torch.zeros(9), None)
    assert torch.allclose(fit.photographed(rendering, torch.arange(9)).rgb.mean(0), torch.full((3,), 0.4), atol=1e-6)


def moved_together(poses, axis, angle, shift, factor):
    """Poses after a similarity of all of space, by a small angle about the cameras' centroid."""
    turn = torch.linalg.matrix_exp(angle * cross_matrices(axis[None]))[0]
    middle, moved = poses[:, :3, 3].mean(0), poses.clone()
    moved[:, :3, :3] = turn @ poses[:, :3, :3]
    moved[:, :3, 3] = factor * (poses[:, :3, 3] - middle) @ turn.T + middle + shift
    return moved


def test_a_move_of_all_cameras_together_is_no_refinement():
    poses, small = some_poses(7), 1e-5
    basis = similarities(poses)
    assert torch.allclose(basis.T @ basis, torch.eye(7, dtype=torch.float64))
    for axis in torch.eye(3, dtype=torch.float64):
        moved = moved_together(poses, axis, small, small * torch.randn(3, dtype=torch.float64), 1.0 + small)
        turns = (moved[:, :3, :3] @ poses[:, :3, :3].mT - torch.eye(3)) / small  # [V, 3, 3] cross matrices
        shifts = (moved[:, :3, 3] - poses[:, :3, 3]) / small
        moves = torch.cat([torch.stack([turns[:, 2, 1], turns[:, 0, 2], turns[:, 1, 0]], 1), shifts], 1).reshape(-1)
        assert float((moves - basis @ (basis.T @ moves)).norm()) < 1e-3 * float(moves.norm())


def test_refined_poses_are_poses_and_stay_about_the_given_ones():
    fit, parameters = a_fit()
    with torch.no_grad():
        parameters[POSE].copy_(torch.randn(9, 6) + 2.0)
    poses, given = fit.poses().detach(), fit.given
    assert torch.allclose(poses[:, :3, :3] @ poses[:, :3, :3].mT, torch.eye(3, dtype=torch.float64).expand(9, 3, 3))
    assert torch.allclose(poses[:, :3, 3].mean(0), given[:, :3, 3].mean(0))  # the shift common to all is none
    assert (poses - given).abs().amax((1, 2)).min() > 1e-4


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_a_cross_matrix_turns_by_the_right_hand(angle):
    turn = torch.linalg.matrix_exp(cross_matrices(torch.tensor([[0.0, 0.0, angle]])))[0]
    assert torch.allclose(turn @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([math.cos(angle), math.sin(angle), 0.0]))
