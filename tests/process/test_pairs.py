import numpy as np
import pytest

from nerf_app.process.pairs import EXHAUSTIVE, FARTHER, NEAREST, all_pairs, around, find_pairs, in_order, lonely
from nerf_app.process.retrieval import neighbours
from tests.process.test_retrieval import places

MANY = EXHAUSTIVE + 10


class Comparison:
    """Photos on a line, of which neighbours up to `reach` overlap; counts what is compared, at a made-up pace."""

    def __init__(self, count: int, pace: float, reach: int = 8, is_alike: bool = True):
        self.count, self.pace, self.reach = count, pace, reach
        self.compared: list[tuple[int, int]] = []
        rng = np.random.default_rng(0)
        self.order = [sorted(set(range(count)) - {i}, key=lambda j, i=i: abs(i - j) if is_alike else rng.random())
                      for i in range(count)]

    def nearest(self, count: int):
        return [row[:count] for row in self.order]

    def match(self, pairs):
        fresh = [pair for pair in pairs if pair not in set(self.compared)]
        self.compared += fresh
        return self.pace if fresh else None

    def links(self):
        return [pair for pair in self.compared if pair[1] - pair[0] <= self.reach]

    def run(self, is_ordered: bool = False, seconds: float = 100.0) -> set:
        find_pairs(self.count, is_ordered, seconds, self.nearest, self.match, self.links)
        assert len(self.compared) == len(set(self.compared)) and all(first < second for first, second in self.compared)
        return set(self.compared)


def test_few_photos_are_compared_all_with_all_whatever_it_takes():
    assert Comparison(20, pace=1e9).run(seconds=1.0) == set(all_pairs(20))


def test_many_photos_are_too_where_the_measured_pace_allows_it():
    every = MANY * (MANY - 1) / 2
    assert Comparison(MANY, pace=99.0 / every).run() == set(all_pairs(MANY))
    assert len(Comparison(MANY, pace=101.0 / every).run()) < every / 2


def test_else_each_photo_is_compared_with_those_that_look_like_it():
    nearest = {i: sorted(range(MANY), key=lambda j, i=i: abs(i - j))[1:NEAREST + 1] for i in range(MANY)}
    assert Comparison(MANY, pace=1.0).run() == {(min(i, j), max(i, j)) for i, some in nearest.items() for j in some}


def test_what_looks_alike_is_found_by_the_photos_features():
    """Photos go round a ring of places; each shows three, and is compared with all that show one of them too."""
    one, descriptors = Comparison(MANY, pace=1.0), places(MANY, MANY, 6, 30)
    find_pairs(MANY, False, 1.0, lambda count: neighbours(descriptors, count, seed=0).tolist(), one.match, one.links)
    assert len(one.compared) < MANY * (MANY - 1) / 4
    assert {tuple(sorted((i, (i + step) % MANY))) for i in range(MANY) for step in (1, 2)} <= set(one.compared)


def test_a_second_round_goes_on_with_those_that_are_still_alone():
    one = Comparison(MANY, pace=1.0)
    one.order[7] = list(range(MANY - 1, 7, -1))  # its like were not recognised
    for row in one.order:
        if 7 in row:
            row.append(row.pop(row.index(7)))
    assert {(7, j) for j in range(MANY - FARTHER, MANY)} <= one.run()


def test_frames_of_a_video_are_compared_with_those_around_and_some_far_away():
    compared = Comparison(MANY, pace=1.0, is_alike=False).run(is_ordered=True)
    assert set(in_order(MANY)) <= compared
    assert {(0, 1), (0, 10), (0, 16), (0, 128)} <= set(in_order(MANY)) and not {(0, 11), (0, 100)} & set(in_order(MANY))


def test_lonely_photos_are_compared_with_the_neighbours_of_their_neighbours():
    links = [(0, 1), (1, 2), (2, 3), (3, 4), (2, 4)]
    assert lonely(5, links) == [0, 1, 3, 4]
    assert around(links, [0]) == {(0, 2)} and around(links, [3]) == {(1, 3), (2, 3), (3, 4)}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_photos_make_hardly_any_pairs(count):
    assert len(all_pairs(count)) == len(in_order(count)) == max(0, count - 1)
