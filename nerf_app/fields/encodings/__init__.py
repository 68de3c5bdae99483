"""Everything that turns coordinates into features."""

from nerf_app.fields.encodings.frequency import Frequency, GaussianFourier
from nerf_app.fields.encodings.hashgrid import HashGrid
from nerf_app.fields.encodings.spherical_harmonics import SphericalHarmonics

ENCODINGS = {
    "hashgrid": HashGrid,
    "frequency": Frequency,
    "gaussian": GaussianFourier,
    "spherical_harmonics": SphericalHarmonics,
}
