"""Scores of a picture against a photo: the same functions for progress, evaluation and report."""

import math
from collections.abc import Iterable

import numpy as np

SSIM_SIGMA = 1.5  # pixels
SSIM_RADIUS = 5  # pixels: the window is 11 wide
C1, C2 = 0.01**2, 0.03**2
BAND = 256  # rows at once: the sums of a large photo would fill gigabytes


def psnr(picture: np.ndarray, photo: np.ndarray, ignored: np.ndarray | None = None) -> float:
    """Decibel, of the mean squared error over all pixels that count: [H, W, 3] twice, in 0...1; `ignored` [H, W] bool."""
    errors = (np.clip(picture, 0.0, 1.0).astype(np.float64) - photo) ** 2
    if ignored is not None:
        errors = errors[~ignored]
    return decibel(float(errors.mean())) if errors.size else math.nan


def decibel(mean_squared_error: float) -> float:
    """-10 log10 of an error whose largest value is 1."""
    return -10.0 * math.log10(max(mean_squared_error, 1e-12))


def mean_of_known(scores: Iterable[float | None]) -> float | None:
    """The mean of the scores that are there and finite; None where none is."""
    known = [score for score in scores if score is not None and math.isfinite(score)]
    return sum(known) / len(known) if known else None


def ssim(picture: np.ndarray, photo: np.ndarray, ignored: np.ndarray | None = None) -> float:
    """Structural similarity (Wang et al. 2004) with a Gaussian window: [H, W, 3] twice, in 0...1.

    Equals scikit-image's structural_similarity with gaussian_weights, sigma 1.5, use_sample_covariance=False and
    data_range 1. Windows that would leave the picture are left out, and so are those in the middle of which a pixel
    is ignored. NaN where no window fits.
    """
    if min(picture.shape[:2]) <= 2 * SSIM_RADIUS:
        return math.nan
    total, count = 0.0, 0
    for top in range(0, len(picture) - 2 * SSIM_RADIUS, BAND):
        rows = slice(top, top + BAND + 2 * SSIM_RADIUS)
        values = _similarity(np.clip(picture[rows], 0.0, 1.0).astype(np.float64), photo[rows].astype(np.float64))
        if ignored is not None:
            values = values[~ignored[rows][SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]]
        total, count = total + float(values.sum()), count + values.size
    return total / count if count else math.nan


def _similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[H, W, C] twice -> [H - 10, W - 10, C] of each window."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x, variance_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    return ((2 * mean_x * mean_y + C1) * (2 * covariance + C2)
            / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2)))


def _blurred(values: np.ndarray) -> np.ndarray:
    """[H, W, C] -> [H - 10, W - 10, C]: a separable Gaussian where the whole window fits."""
    taps = np.exp(-0.5 * (np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1) / SSIM_SIGMA) ** 2)
    taps /= taps.sum()
    height, width = values.shape[0] - 2 * SSIM_RADIUS, values.shape[1] - 2 * SSIM_RADIUS
    down = sum(tap * values[i:i + height] for i, tap in enumerate(taps))
    return sum(tap * down[:, i:i + width] for i, tap in enumerate(taps))
