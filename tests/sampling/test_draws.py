import torch

from nerf_app.sampling.draws import BACKGROUND, CELLS, COARSE, FINE, PIXELS, RAY_OFFSET, Draws
from tests.analytic import reference_ops

PURPOSES = (PIXELS, BACKGROUND, RAY_OFFSET, COARSE, FINE, CELLS)


def test_every_purpose_step_and_seed_has_numbers_of_its_own_and_always_the_same():
    ops = reference_ops()
    drawn = [Draws(ops, seed, step).uniform(purpose, 8) for seed in (0, 1) for step in (0, 1, 5) for purpose in PURPOSES]
    again = [Draws(ops, seed, step).uniform(purpose, 8) for seed in (0, 1) for step in (0, 1, 5) for purpose in PURPOSES]
    assert torch.equal(torch.stack(drawn), torch.stack(again))
    assert len(torch.stack(drawn).view(-1).unique()) == len(drawn) * 32


def test_more_numbers_begin_with_the_fewer():
    draws = Draws(reference_ops(), 3, 7)
    assert torch.equal(draws.uniform(FINE, 100)[:10], draws.uniform(FINE, 10))
