import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from nerf_app.training.metrics import decibel, psnr, ssim


def two_pictures(height=32, width=27, noise=0.1):
    """A picture with structure, and the same with noise, in 0...1."""
    rows, columns = np.mgrid[:height, :width]
    photo = 0.5 + 0.4 * np.sin(np.stack([rows / 3.0, columns / 2.0, (rows + columns) / 5.0], -1))
    return np.clip(photo + noise * np.random.default_rng(0).normal(size=photo.shape), 0, 1), photo


def test_psnr_is_that_of_the_mean_squared_error():
    photo = np.full((4, 5, 3), 0.5)
    picture = photo.copy()
    picture[0, 0, 0], picture[3, 4, 2] = 0.7, 0.4
    assert psnr(picture, photo) == pytest.approx(-10 * math.log10((0.2**2 + 0.1**2) / 60))
    assert psnr(photo + 0.1, photo) == pytest.approx(20.0)


def test_a_prediction_is_clipped_before_it_is_scored_and_not_rounded():
    photo = np.ones((2, 2, 3))
    assert psnr(photo + 3.0, photo) == psnr(photo, photo)
    assert psnr(photo - 0.001, photo) == pytest.approx(60.0)


def test_a_perfect_picture_has_a_finite_score():
    assert psnr(np.zeros((2, 2, 3)), np.zeros((2, 2, 3))) == decibel(0.0) == pytest.approx(120.0)


def test_scores_of_float32_pictures_are_those_of_float64_ones():
    picture, photo = two_pictures()
    small, large = (picture.astype(np.float32), photo.astype(np.float32)), (picture, photo)
    assert psnr(*small) == pytest.approx(psnr(*large), abs=1e-4)
    assert ssim(*small) == pytest.approx(ssim(*large), abs=1e-5)


@pytest.mark.parametrize("shape", [(32, 27), (11, 40), (11, 11)])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.5])
def test_ssim_is_scikit_images(shape, noise):
    picture, photo = two_pictures(*shape, noise)
    truth = structural_similarity(picture, photo, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                  data_range=1.0, channel_axis=-1)
    assert ssim(picture, photo) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 5, 22])
def test_ssim_is_the_same_band_by_band(rows, monkeypatch):
    picture, photo = two_pictures()
    ignored = np.zeros(photo.shape[:2], bool)
    ignored[9:14, 3:20] = True
    truth = ssim(picture, photo), ssim(picture, photo, ignored)
    monkeypatch.setattr("nerf_app.training.metrics.BAND", rows)
    assert (ssim(picture, photo), ssim(picture, photo, ignored)) == pytest.approx(truth, abs=1e-12)


def test_ignored_pixels_do_not_count():
    picture, photo = two_pictures()
    ignored = np.zeros(photo.shape[:2], bool)
    ignored[:, :9] = True
    assert psnr(picture, photo, ignored) == pytest.approx(psnr(picture[:, 9:], photo[:, 9:]))
    spoilt = np.where(ignored[..., None], 0.0, picture)
    assert psnr(spoilt, photo, ignored) == psnr(picture, photo, ignored)
    assert ssim(picture, photo, ignored) == pytest.approx(ssim(picture[:, 4:], photo[:, 4:]))  # windows around the other pixels
    nothing = np.zeros_like(ignored)
    assert (psnr(picture, photo, nothing), ssim(picture, photo, nothing)) == (psnr(picture, photo), ssim(picture, photo))


def test_a_photo_that_is_ignored_altogether_has_no_score():
    picture, photo = two_pictures()
    everything = np.ones(photo.shape[:2], bool)
    assert math.isnan(psnr(picture, photo, everything)) and math.isnan(ssim(picture, photo, everything))


@pytest.mark.parametrize("shape", [(1, 1), (10, 10), (10, 100), (0, 20)])
def test_pictures_smaller_than_the_window_have_no_ssim(shape):
    assert math.isnan(ssim(np.zeros((*shape, 3)), np.zeros((*shape, 3))))
