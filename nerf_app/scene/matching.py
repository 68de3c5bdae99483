"""What photos have in common: which are likely to show the same, where that lies from each, and where in the scene."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Scene
from nerf_app.scene.vision import Features, find_features, match_features

LARGEST_TURN = np.radians(45.0)  # between two photos of a pair: features do not survive more
BEST_TURN = np.radians(15.0)
PAIRS = 4  # other photos with which each is compared to find sights
LONGEST_SIDE, MOST_FEATURES = 800, 1500  # pixels of a photo, and features in it
MISS, LEAST_ANGLE = np.radians(0.3), np.radians(2.0)  # by which rays may pass each other; under which they must cross
NEAR = 0.03  # of its distance from the eye: by what a sight's place may be wrong


@dataclass(frozen=True)
class Sights:
    """What photos show, and from where: a row for each feature of a photo whose place is known, in scene coordinates."""

    places: np.ndarray  # [N, 3] float64
    eyes: np.ndarray  # [N, 3] float64
    photos: np.ndarray  # [N] int64, positions among those that were looked at
    descriptors: np.ndarray  # [N, 128] float32 unit vectors

    @property
    def slack(self) -> np.ndarray:
        """[N] by how much each place may be wrong, scene units."""
        return NEAR * np.linalg.norm(self.places - self.eyes, axis=1)


def choose_pairs(poses: np.ndarray, most: int, per_photo: int = 3) -> list[tuple[int, int]]:
    """Pairs of photos that are likely to show the same, from photos spread over the set.

    Only the angle by which a camera turned counts, for it is the same in every convention of poses [V, 4, 4].
    """
    count = len(poses)
    firsts = np.unique(np.linspace(0, count - 1, max(1, most // per_photo)).astype(int))
    pairs: dict[tuple[int, int], None] = {}
    for i in firsts:
        traces = np.einsum("ab,vab->v", poses[i, :3, :3], poses[:, :3, :3])
        turns = np.arccos(np.clip((traces - 1.0) / 2.0, -1.0, 1.0))
        liking = np.abs(np.log(np.maximum(turns, np.radians(1.0)) / BEST_TURN)) + 0.01 * np.abs(np.arange(count) - i)
        liking[turns > LARGEST_TURN] += 100.0
        liking[i] = np.inf
        for j in np.argsort(liking, kind="stable")[:per_photo]:
            if np.isfinite(liking[j]):
                pairs[(min(i, j), max(i, j))] = None
    return [(int(i), int(j)) for i, j in pairs]


def features_within(image: Image.Image, longest: int, most: int) -> Features:
    """Those of a grey picture, found in at most `longest` pixels a side; places in pixels of the picture as it is."""
    reduced = within(image, longest)
    found = find_features(np.asarray(reduced), most)
    return Features(found.places * (image.width / reduced.width), found.descriptors)


def within(image: Image.Image, longest: int) -> Image.Image:
    """The picture on at most so many pixels a side, each the mean of its box."""
    factor = longest / max(image.size)
    size = tuple(max(1, round(side * factor)) for side in image.size)
    return image if factor >= 1.0 else image.resize(size, Image.Resampling.BOX)


def directions_of(batch: CameraBatch, photo: int, places_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[M, 2] pixels of the whole photo -> unit vectors [M, 3] in its camera's axes, and is_valid [M]."""
    indices = torch.full((len(places_px),), photo)
    directions, is_valid = batch.directions(indices, *torch.from_numpy(places_px).unbind(1))
    return directions.numpy(), is_valid.numpy()


def find_sights(scene: Scene, photos: Sequence[int], most: int) -> Sights:
    """What some photos show whose place two of them tell; `most`, if there are more."""
    poses = scene.normalisation.pose_to_scene(np.stack([scene.views[i].world_from_camera for i in photos]))
    cameras = CameraBatch.from_cameras([scene.views[i].camera for i in photos])
    features, rays = [], []
    for i, photo in enumerate(photos):
        found = features_within(_grey(scene, photo), LONGEST_SIDE, MOST_FEATURES)
        directions, is_valid = directions_of(cameras, i, found.places)
        features.append(Features(found.places[is_valid], found.descriptors[is_valid]))
        rays.append(directions[is_valid] @ poses[i, :3, :3].T)
    eyes, distances = poses[:, :3, 3], [[[] for _ in found.places] for found in features]
    for pair in choose_pairs(poses, PAIRS * len(photos), PAIRS):
        same = match_features(*(features[photo] for photo in pair))
        away, is_met = crossing(eyes[pair[1]] - eyes[pair[0]], *(rays[photo][same[:, side]] for side, photo in enumerate(pair)))
        for row, far in zip(same[is_met], away[is_met]):
            for side, photo in enumerate(pair):
                distances[photo][row[side]].append(far[side])
    told = [(photo, row, np.median(far)) for photo, found in enumerate(distances) for row, far in enumerate(found)
            if far and np.ptp(far) < 2 * NEAR * np.median(far)]
    told = [told[i] for i in np.random.default_rng(0).permutation(len(told))[:most]]
    seen_from = np.array([photo for photo, _, _ in told], np.int64)
    places = np.array([eyes[photo] + far * rays[photo][row] for photo, row, far in told]).reshape(-1, 3)
    descriptors = np.array([features[photo].descriptors[row] for photo, row, _ in told], np.float32).reshape(-1, 128)
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))  # so that few strong edges decide less
    return Sights(places, eyes[seen_from], seen_from, roots)


def crossing(apart: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where pairs of rays come nearest: [M, 2] distances from each eye, and [M] whether they meet there, ahead, not too flat.

    `apart` [3] leads from the first eye to the second, `first` and `second` [M, 3] are unit vectors.
    """
    cosine = (first * second).sum(1)
    a, b, flat = first @ apart, second @ apart, np.maximum(1 - cosine**2, 1e-12)
    far = np.stack([a - cosine * b, cosine * a - b], 1) / flat[:, None]
    gap = np.linalg.norm(far[:, :1] * first - far[:, 1:] * second - apart, axis=1)
    return far, (cosine < np.cos(LEAST_ANGLE)) & (gap < MISS * far.min(1))  # a negative distance allows no gap


def _grey(scene: Scene, photo: int) -> Image.Image:
    """A photo, white where nothing is."""
    image = Image.fromarray(scene.photos.picture(photo)[0].numpy())
    if image.mode == "RGBA":
        image = Image.composite(image, Image.new("RGBA", image.size, "white"), image.getchannel("A"))
    return image.convert("L")
