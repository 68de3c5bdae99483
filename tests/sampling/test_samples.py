import torch

from nerf_app.sampling.samples import Samples
from tests.analytic import crossing_rays


def some_samples(n_rays, unused=0):
    """Two samples on every ray, and unused entries behind."""
    indices = torch.cat([torch.arange(n_rays).repeat_interleave(2), torch.full((unused,), n_rays)])
    starts = torch.cat([torch.rand(2 * n_rays), torch.zeros(unused)])
    ends = torch.cat([starts[:2 * n_rays] + 0.5, torch.zeros(unused)])
    return Samples(starts, ends, indices, 2 * torch.arange(n_rays), torch.full((n_rays,), 2), n_rays)


def test_positions_are_the_middles_of_the_intervals():
    rays, samples = crossing_rays(4), some_samples(4)
    for k, ray in enumerate(samples.ray_indices.tolist()):
        t = 0.5 * (samples.t_starts[k] + samples.t_ends[k])
        assert torch.allclose(samples.positions(rays)[k], rays.origins[ray] + t * rays.directions[ray])


def test_unused_entries_have_finite_positions():
    assert some_samples(3, unused=5).positions(crossing_rays(3)).isfinite().all()


def test_there_may_be_no_rays_at_all():
    assert some_samples(0).positions(crossing_rays(0)).shape == (0, 3)


def test_the_gradient_of_a_rays_value_is_the_sum_over_its_samples():
    samples, values = some_samples(5), torch.randn(5, 3, requires_grad=True)
    pulled = torch.randn(10, 3)
    samples.of_rays(values).backward(pulled)
    assert torch.allclose(values.grad, pulled.view(5, 2, 3).sum(1))
