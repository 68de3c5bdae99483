from itertools import combinations

import numpy as np
import pytest

from nerf_app.process.agreement import held_together


def by_hand(tracks, least):
    """The same, counted anew for each photo."""
    photos = {photo for track in tracks for photo in track}
    if not any(len(set(track)) > 1 for track in tracks):
        return set()
    held = set(max(combinations(sorted(photos), 2), key=lambda pair: sum(set(pair) <= set(track) for track in tracks)))
    while True:
        more = {photo for photo in photos - held
                if sum(photo in track and len(held & set(track)) >= 2 for track in tracks) >= least}
        if not more:
            return held
        held |= more


@pytest.mark.parametrize("seed", range(5))
def test_photos_hold_together_as_counted_by_hand(seed):
    rng = np.random.default_rng(seed)
    tracks = [(base + rng.choice(4, rng.integers(1, 5), replace=False)).tolist() for base in rng.integers(0, 12, 60)]
    for least in (1, 3, 6):
        assert held_together(tracks, least) == by_hand(tracks, least)


def test_two_groups_that_one_photo_links_are_not_one_model():
    """The photo is placed in both, but no point says how large the one is beside the other."""
    left = [[0, 1, 2]] * 90 + [[1, 2, 3]] * 50
    right = [[3, 4, 5]] * 40
    assert held_together(left + right, 20) == {0, 1, 2, 3}
    assert held_together(left + right + [[2, 3, 4]] * 19, 20) == {0, 1, 2, 3}
    assert held_together(left + right + [[2, 3, 4]] * 20, 20) == {0, 1, 2, 3, 4, 5}


def test_without_common_points_nothing_holds():
    assert held_together([], 5) == held_together([[1], [2, 2]], 5) == set()
