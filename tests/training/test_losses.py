import pytest
import torch

from nerf_app.training.losses import HUBER, photo_loss


def test_small_errors_count_squared_and_large_ones_linearly():
    truth = torch.zeros(1, 3)
    for error, value in ((0.02, 0.5 * 0.02**2), (-0.08, 0.5 * 0.08**2), (0.6, HUBER * (0.6 - 0.5 * HUBER))):
        assert float(photo_loss(truth + error, truth, torch.tensor([True]))) == pytest.approx(value)


def test_the_loss_is_the_mean_over_the_rays_that_count():
    rgb, truth, counts = torch.rand(50, 3), torch.rand(50, 3), torch.rand(50) < 0.4
    everywhere = torch.ones(int(counts.sum()), dtype=torch.bool)
    rgb.requires_grad_()
    loss = photo_loss(rgb, truth, counts)
    assert float(loss.detach()) == pytest.approx(float(photo_loss(rgb[counts], truth[counts], everywhere).detach()))
    loss.backward()
    assert not rgb.grad[~counts].any() and rgb.grad[counts].all()


def test_a_batch_in_which_no_ray_counts_has_no_loss():
    assert float(photo_loss(torch.rand(4, 3), torch.rand(4, 3), torch.zeros(4, dtype=torch.bool))) == 0.0
