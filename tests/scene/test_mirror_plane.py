import numpy as np
import pytest

from nerf_app.scene.matching import NEAR, Sights
from nerf_app.scene.mirror_plane import reversed_pairs, vote
from nerf_app.scene.vision import reversed_features

NORMAL, OFFSET = np.array([0.36, -0.48, 0.8]), 0.3  # of the mirror


def reflected(points: np.ndarray) -> np.ndarray:
    return points - 2 * (points @ NORMAL - OFFSET)[:, None] * NORMAL


def before(count: int, rng: np.random.Generator) -> np.ndarray:
    """[N, 3] somewhere in front of the mirror."""
    points = rng.uniform(-1, 1, (count, 3))
    return np.where((points @ NORMAL < OFFSET)[:, None], reflected(points), points)


def mirror_sights(count: int, others: int, noise: float = 0.01, eyes_behind: float = 0.0) -> Sights:
    """Places seen directly, then the same in the mirror, then others that show nothing twice; noise is of their distance."""
    rng = np.random.default_rng(0)
    things, eyes = before(count, rng), before(2 * count + others, rng)
    is_behind = rng.random(len(eyes)) < eyes_behind
    eyes[is_behind] = reflected(eyes[is_behind])
    looks = np.abs(rng.normal(size=(count + others, 128)))
    looks = np.concatenate([looks[:count], reversed_features(looks[:count]), looks[count:]])
    places = np.concatenate([things, reflected(things), rng.uniform(-1, 1, (others, 3))])
    places += noise * (places - eyes) * rng.normal(size=(len(eyes), 1))
    looks = (looks / np.linalg.norm(looks, axis=1, keepdims=True)).astype(np.float32)
    return Sights(places, eyes, rng.integers(0, 20, len(eyes)), looks)


def test_features_are_paired_with_their_reversals_and_with_nothing_else():
    sights = mirror_sights(80, 300)
    pairs = reversed_pairs(sights)
    assert len(pairs) > 100  # a pair stands there twice, but for things close to the mirror
    assert (np.abs(pairs[:, 0] - pairs[:, 1]) == 80).all()


@pytest.mark.parametrize("noise, degrees, miss", [(0.0, 1e-5, 1e-6), (0.01, 0.3, 0.004)])
def test_the_plane_is_found_among_five_times_as_many_wrong_pairs(noise, degrees, miss):
    sights, rng = mirror_sights(200, 600, noise), np.random.default_rng(1)
    right = reversed_pairs(sights)
    pairs = rng.permutation(np.concatenate([right, rng.integers(0, len(sights.places), (5 * len(right), 2))]))
    found = vote(sights, pairs[pairs[:, 0] != pairs[:, 1]])
    assert np.degrees(np.arcsin(np.linalg.norm(np.cross(found.normal, NORMAL)))) < degrees
    assert found.normal @ NORMAL > 0 and abs(found.offset - OFFSET) < miss
    assert found.is_for.sum() > 0.95 * len(right) and found.is_against.sum() < 0.05 * len(right)


def test_wrong_pairs_alone_hardly_speak_for_any_plane():
    sights, rng = mirror_sights(0, 600), np.random.default_rng(1)
    pairs = rng.permutation(600)[:, None] * [1, 0] + rng.permutation(600)[:, None] * [0, 1]
    found = vote(sights, pairs[pairs[:, 0] != pairs[:, 1]])
    assert found.is_for.sum() < 30


def test_pairs_that_are_seen_from_behind_speak_against_a_plane():
    sights = mirror_sights(200, 0, eyes_behind=0.3)
    found = vote(sights, reversed_pairs(sights))
    part = found.is_against.sum() / max((found.is_for | found.is_against).sum(), 1)
    assert found.is_for.sum() < 30 or part > 0.3


def test_a_mirror_is_told_from_something_symmetric_that_has_more_pairs():
    mirror, rng, count = mirror_sights(150, 0), np.random.default_rng(1), 1000
    half = rng.uniform(0.2, 1, (count, 3))
    added = Sights(np.concatenate([half, half * [-1, 1, 1]]), before(2 * count, rng), np.zeros(2 * count),
                   np.zeros((2 * count, 128), np.float32))
    both = Sights(*(np.concatenate([getattr(sights, name) for sights in (mirror, added)]) for name in vars(mirror)))
    pairs = np.concatenate([reversed_pairs(mirror), 300 + np.arange(count)[:, None] + [0, count]])
    found = vote(both, pairs)
    assert found.normal @ NORMAL > 0.999 and found.is_for.sum() > 150
    eyes = added.eyes[:, 0].reshape(2, count)
    assert max((eyes > 0).all(0).sum(), (eyes < 0).all(0).sum()) > found.is_for.sum()  # those that halve it have more for them


def test_a_pair_is_a_reflection_to_what_its_places_may_be_wrong_by():
    """|reflected A - B|² = |A - B|² + 4ab, with heights a and b over the plane: held against the reflection itself."""
    sights = mirror_sights(300, 0, noise=0.05)
    pairs = reversed_pairs(sights)
    found = vote(sights, pairs)
    a, b = sights.places[pairs[:, 0]], sights.places[pairs[:, 1]]
    miss = np.linalg.norm(a - 2 * found.heights(a)[:, None] * found.normal - b, axis=1)
    slack = NEAR * np.linalg.norm(sights.places - sights.eyes, axis=1)[pairs].sum(1)
    assert 0.3 < found.is_for.mean() < 1
    assert np.array_equal(found.is_for, miss < slack)
