import numpy as np
import pytest
import torch

from nerf_app.sampling.draws import Draws
from nerf_app.training import tiles as module
from nerf_app.training.tiles import EVENLY, UNKNOWN, Tiles, tile_count
from tests.analytic import reference_ops

SIZES = torch.tensor([(7, 5), (24, 16), (9, 30)])  # width, height


def draw(tiles, count, step=0):
    return tiles.draw(Draws(reference_ops(), 0, step), count)


def uneven() -> Tiles:
    tiles = Tiles(SIZES, torch.device("cpu"))
    tiles.errors = torch.linspace(0.0, 2.0, len(tiles.errors)) ** 2
    return tiles


def test_every_pixel_lies_in_one_tile():
    tiles = Tiles(SIZES, torch.device("cpu"))
    met = [np.zeros((height, width), int) for width, height in SIZES.tolist()]
    for view, top, left, height, width in torch.stack([tiles.view, tiles.top, tiles.left, tiles.height, tiles.width], 1).tolist():
        assert height > 0 and width > 0
        met[view][top:top + height, left:left + width] += 1
    assert all((photo == 1).all() for photo in met)
    assert tile_count(SIZES) == len(tiles.errors) == 1 + 6 + 8


@pytest.mark.parametrize("sizes", [[(4000, 3000)] * 90, [(1, 1)], [(3, 200_000), (200_000, 3)], [(8, 8)] * 200_000])
def test_there_are_never_too_many(sizes):
    assert len(sizes) <= tile_count(torch.tensor(sizes)) <= max(module.MOST_TILES, len(sizes))


def test_a_tile_is_drawn_as_often_as_its_error_asks_for():
    """Drawn in order from equal shares: no tile is met more than once too often or too seldom."""
    tiles, count = uneven(), 40_000
    tile = draw(tiles, count).tile
    area = tiles.area / tiles.area.sum()
    wrong = tiles.errors.double().sqrt()
    wanted = count * area * (EVENLY + (1.0 - EVENLY) * wrong / (area * wrong).sum())
    assert (torch.bincount(tile, minlength=len(wanted)) - wanted).abs().max() <= 2.0
    assert (tile.diff() >= 0).all()


def test_every_pixel_of_a_tile_is_drawn_and_none_beside_it():
    tiles = uneven()
    drawn = draw(tiles, 40_000)
    tile, row, column = drawn.tile, drawn.row, drawn.column
    met = torch.stack([tile, row - tiles.top[tile], column - tiles.left[tile]], 1)
    assert (met >= 0).all() and (met[:, 1] < tiles.height[tile]).all() and (met[:, 2] < tiles.width[tile]).all()
    assert len(met.unique(dim=0)) == int(tiles.area.sum())


def test_means_weighted_by_rarity_are_those_of_all_pixels():
    tiles = uneven()
    values = torch.rand(len(tiles.errors), generator=torch.Generator().manual_seed(1))
    drawn = draw(tiles, 100_000)
    tile, weights = drawn.tile, drawn.rarity
    mean = (tiles.area * values).sum() / tiles.area.sum()
    assert float((weights * values[tile]).sum() / weights.sum()) == pytest.approx(float(mean), rel=1e-3)
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-3)


def test_errors_are_running_means_that_forget():
    tiles = Tiles(SIZES, torch.device("cpu"))
    for _ in range(60):
        tiles.learn(torch.tensor([3, 3, 5]), torch.tensor([0.2, 0.4, 0.0]))
    assert float(tiles.errors[3]) == pytest.approx(0.3, abs=1e-4)
    assert 0.0 < float(tiles.errors[5]) < 1e-5
    others = torch.ones(len(tiles.errors), dtype=torch.bool)
    others[[3, 5]] = False
    assert (tiles.errors[others] == UNKNOWN).all()


def test_what_is_no_number_is_as_wrong_as_can_be():
    tiles = Tiles(SIZES, torch.device("cpu"))
    for _ in range(60):
        tiles.learn(torch.tensor([0, 1]), torch.tensor([torch.nan, torch.inf]))
    assert torch.allclose(tiles.errors[:2], torch.ones(2), atol=1e-4) and len(draw(tiles, 100).tile) == 100


def test_where_nothing_is_wrong_pixels_are_still_drawn():
    tiles = Tiles(SIZES, torch.device("cpu"))
    tiles.errors = torch.zeros_like(tiles.errors)
    tile = draw(tiles, 1_000).tile
    assert len(tile.unique()) == len(tiles.errors)
