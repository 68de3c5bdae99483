"""A real Run around a field that can be computed on paper."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from torch import Tensor

from nerf_app.config import Config
from nerf_app.ops.backend import choose_backend
from nerf_app.run import Run
from nerf_app.sampling.contraction import Space
from nerf_app.scene.scene import Normalisation, View
from tests.analytic import AnalyticField, AnalyticModel, ball

CENTRE, SCALE = np.array([10.0, -4.0, 2.0]), 0.5  # of the scene's cube in input coordinates; its edges are 4 units long


@dataclass(frozen=True)
class FieldModel(AnalyticModel):
    """As much of a RadianceModel as a run needs to be exported."""

    @property
    def space(self) -> Space:
        return self.field.space

    def density(self, unit: Tensor) -> Tensor:
        return self.field.density(unit).density


def field_run(views: list[View], field: AnalyticField | None = None, samples: int = 128) -> Run:
    """A ball of radius 1 input unit around CENTRE (or another field), seen by the views."""
    model = FieldModel(field or ball(0.5, 2000.0, 0.0004), choose_backend("auto", "cpu", 1), samples)
    header = SimpleNamespace(scene_views=lambda: tuple(views), normalisation=lambda: Normalisation(CENTRE, SCALE),
                             up=(0.0, 0.0, 1.0), is_bounded=model.space.is_bounded, applied_transform=None)
    return Run(Path("run"), Config(), model, header, None)
