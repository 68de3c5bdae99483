"""Which photos look alike: visual words over their SIFT, summed up as VLAD (Jégou et al. 2010), compared all with all.

A word is a cluster of descriptors. A photo's vector holds for each word the sum of what its descriptors differ from
the word by, so that two photos of one place have nearly parallel vectors.
"""

from collections.abc import Sequence

import numpy as np

WORDS = 64
SAMPLE = 40_000  # descriptors that the words are made of
ROUNDS = 10  # of k-means


def neighbours(descriptors: Sequence[np.ndarray], count: int, seed: int) -> np.ndarray:
    """For each of V photos the positions of the `count` most alike others, most alike first: [V, min(count, V - 1)] int64.

    Args:
        descriptors: of each photo [N, 128] uint8; N may be 0, and such a photo is like none.
    """
    rng = np.random.default_rng(seed)
    photos = [rooted(one) for one in descriptors]
    words = visual_words(np.concatenate(photos), rng)
    vectors = np.stack([vlad(one, words) for one in photos])  # [V, K·128]
    alike = vectors @ vectors.T
    alike[:, [len(one) == 0 for one in photos]] = -2.0
    np.fill_diagonal(alike, -np.inf)
    return np.argsort(-alike, axis=1, kind="stable")[:, :min(count, len(photos) - 1)]


def rooted(descriptors: np.ndarray) -> np.ndarray:
    """[N, 128] uint8 -> float32 of length 1."""
    values = descriptors.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)


def visual_words(descriptors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[K, 128] means of clusters (k-means on a sample); fewer than `WORDS` where there are fewer descriptors."""
    sample = descriptors[np.sort(rng.permutation(len(descriptors))[:SAMPLE])]
    words = sample[np.sort(rng.permutation(len(sample))[:WORDS])]
    for _ in range(ROUNDS):
        nearest = assigned(sample, words)
        sums = np.zeros_like(words)
        np.add.at(sums, nearest, sample)
        counts = np.bincount(nearest, minlength=len(words))[:, None]
        words = np.where(counts, sums / np.maximum(counts, 1), words)
    return words


def assigned(descriptors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """[N] position of the nearest word of each."""
    return ((words**2).sum(1) - 2.0 * descriptors @ words.T).argmin(1) if len(words) else np.zeros(0, np.int64)


def vlad(descriptors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """[K·128] of length 1: residuals summed by word, each word's part of length 1 first, so that no repeated thing drowns
    the others (Arandjelović and Zisserman 2013); zero without descriptors."""
    nearest = assigned(descriptors, words)
    sums = np.zeros_like(words)
    np.add.at(sums, nearest, descriptors - words[nearest])
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return sums.ravel() / max(float(np.linalg.norm(sums)), 1e-9)
