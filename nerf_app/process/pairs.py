"""Which photos are compared with which: all with all where time allows, else those that look alike."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

Pair = tuple[int, int]  # positions of two photos, the smaller first

EXHAUSTIVE = 150  # photos that are compared all with all whatever the time
NEAREST, FARTHER = 30, 90  # photos that look most like one: compared at first, and in the second round
OVERLAP = 10  # frames of a video before and after one that it is compared with; farther ones at distances of 2, 4, 8 …
FEW_LINKS = 3  # a photo with fewer is compared with more


def all_pairs(count: int) -> list[Pair]:
    return [(first, second) for first in range(count) for second in range(first + 1, count)]


def in_order(count: int) -> list[Pair]:
    """Of frames in the order of time: those close to each other, and some far apart."""
    steps = {*range(1, OVERLAP + 1), *(2**power for power in range(1, 20))}
    return sorted((first, first + step) for first in range(count) for step in steps if first + step < count)


def alike(neighbours: Sequence[Sequence[int]], begin: int, end: int, photos: Iterable[int]) -> list[Pair]:
    """Each of the photos with the `begin`-th to `end`-th of those that look most like it."""
    return sorted({(min(one, other), max(one, other)) for one in photos for other in neighbours[one][begin:end]})


def around(links: Iterable[Pair], lonely: Iterable[int]) -> set[Pair]:
    """Each lonely photo with those that its linked ones are linked with."""
    linked = defaultdict(set)
    for first, second in links:
        linked[first].add(second)
        linked[second].add(first)
    return {(min(one, far), max(one, far)) for one in lonely for near in linked[one] for far in linked[near] if far != one}


def lonely(count: int, links: Iterable[Pair]) -> list[int]:
    """Photos with few links."""
    counts = Counter(one for pair in links for one in pair)
    return [one for one in range(count) if counts[one] < FEW_LINKS]


def find_pairs(count: int, is_ordered: bool, seconds: float, nearest: Callable[[int], Sequence[Sequence[int]]],
               match: Callable[[list[Pair]], float | None], links: Callable[[], list[Pair]]) -> None:
    """Compares as many of `count` photos as make a scene and fit into about so many seconds.

    Args:
        is_ordered: the photos are frames of a video, in the order of time.
        nearest: how many -> for each photo those that look most like it.
        match: compares the pairs; seconds that each took, None where all were compared before.
        links: the pairs so far that show the same thing.
    """
    every = all_pairs(count)
    if count <= EXHAUSTIVE:
        match(every)
        return
    near = nearest(FARTHER)
    first = {*alike(near, 0, NEAREST, range(count)), *(in_order(count) if is_ordered else ())}
    pace = match(sorted(first))
    rest = [pair for pair in every if pair not in first]
    if pace is not None and pace * len(every) <= seconds:
        match(rest)
        return
    found = links()
    alone = lonely(count, found)
    match(sorted({*alike(near, NEAREST, FARTHER, alone), *around(found, alone)} - first))
