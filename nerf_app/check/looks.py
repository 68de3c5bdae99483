"""One look at each photo: everything that is to be learnt from its pixels, so that no photo is decoded twice."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nerf_app.scene.images import PhotoFile, open_photo
from nerf_app.scene.matching import features_within, within
from nerf_app.scene.vision import Features

LOOKED_AT = 800  # pixels along the longer side at which blur is judged
FEATURES_SIDE = 640  # and at which features are found
MOST_FEATURES = 1500  # of a photo
THUMBNAIL = 32  # pixels a side
SILHOUETTE_SIDE = 200  # pixels


@dataclass(frozen=True)
class Look:
    """What one photo is like."""

    digest: str  # of its pixels
    thumbnail: np.ndarray  # [32, 32] float32 grey 0...255
    detail: np.ndarray  # [2] along x and y: log of how much finer detail there is than coarser
    silhouette: np.ndarray | None  # [h, w] bool, opaque, at most 200 pixels a side; None where everything is
    features: Features | None  # places in pixels of the whole photo; None: not wanted


def look_at(file: PhotoFile, with_features: bool) -> Look:
    """Decodes one photo, turned as its header says, without its masks. Raises DataError where it is broken."""
    pixels, _ = open_photo(file)
    image = Image.fromarray(pixels)
    silhouette = None
    if image.mode == "RGBA":
        alpha = image.getchannel("A")
        image = Image.composite(image, Image.new("RGBA", image.size, "white"), alpha)
        silhouette = np.asarray(within(alpha, SILHOUETTE_SIDE)) > 0
        silhouette = None if silhouette.all() else silhouette
    grey = within(image.convert("L"), LOOKED_AT)
    features = features_within(image.convert("L"), FEATURES_SIDE, MOST_FEATURES) if with_features else None
    return Look(hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(),
                np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.float32),
                _detail(grey), silhouette, features)


def _detail(grey: Image.Image) -> np.ndarray:
    """[2] along x and y. Blur takes detail from the pixels' own scale first, so that scale is held against the next."""
    half = grey.resize((max(1, grey.width // 2), max(1, grey.height // 2)), Image.Resampling.BOX)
    return _energies(np.asarray(grey, np.float32)) - _energies(np.asarray(half, np.float32))


def _energies(grey: np.ndarray) -> np.ndarray:
    """[2] log of the mean squared second difference along x and y."""
    return np.log([np.square(np.diff(grey, 2, axis)).mean() + 1e-3 if grey.shape[axis] > 2 else 1e-3 for axis in (1, 0)])
