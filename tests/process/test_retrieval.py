import numpy as np
import pytest

from nerf_app.process.retrieval import neighbours, rooted, visual_words, vlad


def places(n_places: int, n_photos: int, n_features: int, noise: int) -> list[np.ndarray]:
    """Descriptors of photos that go round: each shows three of the places, which the next one shares two of."""
    rng = np.random.default_rng(5)
    known = rng.integers(0, 256, (n_places, n_features, 128))
    shown = [np.concatenate([known[(i + step) % n_places] for step in range(3)]) for i in range(n_photos)]
    return [np.clip(one + rng.integers(-noise, noise + 1, one.shape), 0, 255).astype(np.uint8) for one in shown]


def test_photos_of_one_place_are_found_among_many():
    found = neighbours(places(12, 12, 30, 20), 4, seed=0)
    for photo, row in enumerate(found):
        around = {(photo + step) % 12 for step in (-2, -1, 1, 2)}
        assert set(row) == around and set(row[:2]) == {(photo + 1) % 12, (photo - 1) % 12}


def test_neighbours_are_those_of_a_search_through_all():
    photos = places(9, 7, 20, 60)
    sets = [rooted(one) for one in photos]
    words = visual_words(np.concatenate(sets), np.random.default_rng(3))
    vectors = []
    for one in sets:
        sums = np.zeros_like(words)
        for descriptor in one:
            word = min(range(len(words)), key=lambda k: np.sum((words[k] - descriptor)**2))
            sums[word] += descriptor - words[word]
        sums = [row / np.linalg.norm(row) if np.linalg.norm(row) else row for row in sums]
        vectors.append(np.concatenate(sums) / np.linalg.norm(np.concatenate(sums)))
        np.testing.assert_allclose(vlad(one, words), vectors[-1], atol=1e-5)
    for photo, row in enumerate(neighbours(photos, 6, seed=3)):
        others = [other for other in range(7) if other != photo]
        assert row.tolist() == sorted(others, key=lambda other: -float(vectors[photo] @ vectors[other]))


def test_the_same_seed_gives_the_same_neighbours():
    photos = places(9, 9, 20, 100)
    np.testing.assert_array_equal(neighbours(photos, 8, 1), neighbours(photos, 8, 1))


@pytest.mark.parametrize("empty", [0, 2])
def test_a_photo_without_features_is_like_none_and_does_no_harm(empty):
    photos = places(6, 5, 10, 10)
    photos[empty] = np.zeros((0, 128), np.uint8)
    found = neighbours(photos, 10, 0)
    assert found.shape == (5, 4)
    assert all(row[-1] == empty for photo, row in enumerate(found) if photo != empty)
