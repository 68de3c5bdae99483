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
    assert torch.equal(draws.integers(PIXELS, 100, 77)[:10], draws.integers(PIXELS, 10, 77))


def test_integers_come_evenly_from_their_whole_range():
    counts = torch.bincount(Draws(reference_ops(), 0, 0).integers(PIXELS, 70_000, 7), minlength=7)
    assert len(counts) == 7
    assert (counts - 10_000).abs().max() < 5 * 93  # five deviations of a binomial


def test_integers_are_the_upper_half_of_word_times_range():
    words = reference_ops().random.philox(2, PIXELS, 9, torch.arange(200))[:, 0].tolist()
    for below in (1, 7, 65_536, 1_000_003, 2**33 + 1):
        assert Draws(reference_ops(), 2, 9).integers(PIXELS, 200, below).tolist() == [word * below >> 32 for word in words]


def test_integers_stay_in_range_for_collections_of_many_gigapixels():
    below = 5_000_000_000
    drawn = Draws(reference_ops(), 0, 0).integers(PIXELS, 10_000, below)
    assert (drawn >= 0).all() and (drawn < below).all()
    assert abs(float(drawn.double().mean()) / below - 0.5) < 5 * 0.29 / 100  # five deviations of the mean
