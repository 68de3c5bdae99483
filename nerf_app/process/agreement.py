"""Which photos of a model hold together: two views of a point fix no scale between them and the rest, a third one does."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations


def held_together(tracks: Sequence[Sequence[int]], least: int) -> set[int]:
    """The photos that can be put together one by one, each by at least so many points that two before it see.

    Args:
        tracks: of each point the photos that see it; a photo may be there twice.
    """
    tracks = [sorted(set(track)) for track in tracks]
    points_of = defaultdict(list)
    for number, track in enumerate(tracks):
        for photo in track:
            points_of[photo].append(number)
    pairs = Counter(pair for track in tracks for pair in combinations(track, 2))
    if not pairs:
        return set()
    seen, common, held, queue = Counter(), Counter(), set(), list(max(sorted(pairs), key=pairs.get))
    while queue:
        photo = queue.pop()
        held.add(photo)
        for number in points_of[photo]:
            seen[number] += 1
            if seen[number] == 2:
                common.update(tracks[number])
        if not queue:
            best = max((photo for photo in points_of if photo not in held), key=lambda photo: common[photo], default=None)
            queue = [best] if best is not None and common[best] >= least else []
    return held
