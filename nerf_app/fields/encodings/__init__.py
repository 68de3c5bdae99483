"""Everything that turns coordinates into features."""

from nerf_app.fields.encodings.frequency import Frequency, GaussianFourier
from nerf_app.fields.encodings.hashgrid import HashGrid
from nerf_app.fields.encodings.spherical_harmonics import SphericalHarmonics

__all__ = ["Frequency", "GaussianFourier", "HashGrid", "SphericalHarmonics"]
