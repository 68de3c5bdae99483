import numpy as np
import pytest
import torch

from nerf_app.ops import lens
from nerf_app.ops.lens.reference import bend
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.lenses import CameraBatch
from tests.parity import sized

LENSES = (Lens(radial=(-0.28, 0.11, -0.02, 0.0)), Lens(), Lens(radial=(0.4, 0.3, 0.0, 0.0), tangential=(0.01, -0.02)),
          Lens(radial=(4.2, 3.1, 0.2, 0.0), denominator=(4.5, 4.6, 1.1)),
          Lens("fisheye", radial=(0.05, -0.02, 0.006, -0.001), prism=(0.002, 0.0, 0.001, 0.003)))


def some_pixels(n):
    """Inputs of `straighten`: pixels of many lenses, far beyond the image as well, where strong ones say nothing."""
    batch = CameraBatch.from_cameras([Camera(640, 480, 420.0, 431.0, 311.5, 249.25, one) for one in LENSES])
    random = np.random.default_rng(0)
    cameras = torch.from_numpy(random.integers(0, len(LENSES), n))
    picture = torch.from_numpy(random.uniform(-1.4, 1.4, (n, 2)))
    return {"picture": picture, "guess": batch._first_guess(cameras, picture), "cameras": cameras,
            "coefficients": batch.coefficients, "focal_px": batch.focal_px, "valid_radius": batch.valid_radius}


@pytest.mark.parametrize("backend, n", sized(lens.IMPLEMENTATIONS, [(0,), (1,), (300,), (5000,)]))
def test_every_backend_finds_what_bends_to_the_picture(backend, n):
    given = some_pixels(n)
    base, is_found = lens.IMPLEMENTATIONS[backend]().straighten(**given)
    truth, is_there = lens.IMPLEMENTATIONS["reference"]().straighten(**given)
    assert torch.equal(is_found, is_there) and base.dtype == torch.float64
    torch.testing.assert_close(base, truth, rtol=0, atol=1e-12)
    again, _ = bend(given["coefficients"][:, given["cameras"]], base)
    miss = (again - given["picture"]) * given["focal_px"][given["cameras"]]
    assert n < 300 or (miss[is_found].abs().max() < 1e-9 and 0.7 < is_found.double().mean() < 1.0)
    assert not base[~is_found].any()


@pytest.mark.parametrize("backend, n", sized(lens.IMPLEMENTATIONS, [(40,)]))
def test_what_is_no_number_is_not_found(backend, n):
    given = some_pixels(n)
    given["picture"][::3] = torch.nan
    given["guess"][1::3] = torch.inf
    base, is_found = lens.IMPLEMENTATIONS[backend]().straighten(**given)
    assert not is_found[::3].any() and not is_found[1::3].any() and is_found[2::3].any() and base.isfinite().all()
