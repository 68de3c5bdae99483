"""SIGHTS → THE PLANE OF A MIRROR: what shows in a mirror lies behind it, and its features are reversed.

Each *pair* of a sight and one that looks like its reversal says where a mirror could hang: half-way, across the line between.
Where one hangs hundreds say the same. Symmetric things say so too, but they are looked at from both sides of where they are
halved; a mirror is seen from its front alone, and so is what it shows.
"""

from dataclasses import dataclass

import numpy as np
import torch

from nerf_app.scene.matching import Sights, find_sights
from nerf_app.scene.scene import Scene
from nerf_app.scene.vision import reversed_features

MOST_PHOTOS, MOST_SIGHTS = 60, 12_000  # that are looked at
FEWEST_SEEN = 60  # features that must be seen in a mirror and before it
ALIKE, NEAREST = 0.85, 2  # cosine of features from which on they may show the same; reversals that are looked at for each
TRIED, JUDGED, BATCH = 1536, 4000, 128  # planes that are tried, pairs by which each is judged, planes at a time
AGAINST = 3  # times what a pair counts that speaks for a plane does one that no mirror can make
ROUNDS = 5


@dataclass(frozen=True)
class Vote:
    """A plane on which a mirror may hang: points x with x · normal = offset."""

    normal: np.ndarray  # [3] unit vector, towards the front
    offset: float  # scene units
    is_for: np.ndarray  # [P] bool: pairs that are each other's reflection, both seen from its front
    is_against: np.ndarray  # [P] bool: that are, but not so seen

    def heights(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] -> [N] before the plane, negative behind it."""
        return points @ self.normal - self.offset


def seen_reversed(scene: Scene) -> tuple[list[int], Sights, np.ndarray]:
    """Training photos, spread over all; their sights, and the pairs among these."""
    photos = scene.indices("train")
    photos = [photos[i] for i in np.unique(np.linspace(0, len(photos) - 1, MOST_PHOTOS).astype(int))]
    sights = find_sights(scene, photos, MOST_SIGHTS)
    return photos, sights, reversed_pairs(sights)


def reversed_pairs(sights: Sights) -> np.ndarray:
    """[P, 2] sights that look like each other's reversals, apart enough to tell a plane between them."""
    own = torch.from_numpy(sights.descriptors)
    turned = torch.from_numpy(reversed_features(sights.descriptors))
    found = [torch.topk(some @ own.T, min(NEAREST, len(own)), dim=1) for some in turned.split(1024)]
    alike, second = (torch.cat(parts).numpy() for parts in zip(*found))  # [N, NEAREST]
    pairs = np.stack([np.arange(len(own)).repeat(second.shape[1]), second.ravel()], 1)[alike.ravel() > ALIKE]
    distance = np.linalg.norm(sights.places[pairs[:, 0]] - sights.places[pairs[:, 1]], axis=1)
    return pairs[distance > 2 * sights.slack[pairs].sum(1)]


def vote(sights: Sights, pairs: np.ndarray) -> Vote:
    """The plane for which most of the pairs [P, 2] speak, P > 0."""
    rng, both = np.random.default_rng(0), sights.places[pairs]  # [P, 2, 3]
    tried, judging = (rng.permutation(len(pairs))[:count] for count in (TRIED, JUDGED))
    normals = both[tried, 0] - both[tried, 1]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    offsets = (both[tried].mean(1) * normals).sum(1)
    judges = _Pairs(sights, pairs[judging])
    scores = np.concatenate([judges.scores(normals[i : i + BATCH], offsets[i : i + BATCH]) for i in range(0, len(tried), BATCH)])
    best, is_back = np.unravel_index(scores.argmax(), scores.shape)
    normal, offset = (-value if is_back else value for value in (normals[best], offsets[best]))
    return refined(sights, pairs, normal, float(offset))


def refined(sights: Sights, pairs: np.ndarray, normal: np.ndarray, offset: float) -> Vote:
    """The plane near one that is known to about what places may be wrong by."""
    everyone = _Pairs(sights, pairs)
    for _ in range(ROUNDS):
        is_for, is_against = everyone.told(normal, offset)
        if is_for.sum() >= 3:
            normal, offset = everyone.fitted(is_for, normal)
    return Vote(normal, float(offset), *everyone.told(normal, offset))


class _Pairs:
    """Pairs of sights, a row each."""

    def __init__(self, sights: Sights, pairs: np.ndarray) -> None:
        self.places, self.eyes = (values[pairs].transpose(1, 0, 2) for values in (sights.places, sights.eyes))  # [2, P, 3]
        self.slack = sights.slack[pairs].sum(1)  # [P]
        self.apart = np.square(self.places[0] - self.places[1]).sum(1)  # [P] squared

    def scores(self, normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """[T, 2] of planes [T, 3], [T], with either side as the front."""
        are, *fronts = self._judged(normals, offsets)
        right = np.stack([(are & front).sum(0) for front in fronts], 1)
        return right - AGAINST * (are.sum(0)[:, None] - right)

    def told(self, normal: np.ndarray, offset: float) -> tuple[np.ndarray, np.ndarray]:
        """[P] bool, [P] bool: for and against one plane."""
        are, front, _ = (part[:, 0] for part in self._judged(normal[None], np.array([offset])))
        return are & front, are & ~front

    def _judged(self, normals: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[P, T] whether they are each other's reflections; whether both eyes are on the side of the normal; on the other one.

        With heights a and b over the plane, the reflection of one place misses the other by the root of |A - B|² + 4ab.
        """
        a, b = self.places @ normals.T - offsets
        c, d = self.eyes @ normals.T - offsets
        return self.apart[:, None] + 4 * a * b < np.square(self.slack)[:, None], (c > 0) & (d > 0), (c < 0) & (d < 0)

    def fitted(self, chosen: np.ndarray, front: np.ndarray) -> tuple[np.ndarray, float]:
        """The plane that reflects the chosen ones into each other best, by weighted least squares; its normal is on one side.

        Measured from the middle of all, Σ w |reflected A - B|² is a constant plus 4 nᵀ (Σ w A Bᵀ) n.
        """
        weights = 1 / np.square(self.slack[chosen])
        middle = weights @ self.places[:, chosen].mean(0) / weights.sum()
        a, b = self.places[:, chosen] - middle
        product = (weights[:, None] * a).T @ b
        normal = np.linalg.eigh(product + product.T)[1][:, 0]
        normal *= np.sign(normal @ front)
        return normal, middle @ normal
