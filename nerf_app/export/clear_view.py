"""RUN → the same run as made-up cameras see it: without what hangs before their lenses.

Photos say nothing of a cloud that none of them looks through, and between two photos a camera may stand in one. What photos
show begins some way off, so nobody expects anything nearer of a view from among them.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nerf_app.sampling.contraction import Limits, Space
from nerf_app.training.losses import CLEAR

if TYPE_CHECKING:
    from nerf_app.run import Run

MOST_PHOTOS, SIDE = 24, 32  # that are looked at, and pixels of theirs along an edge
NEAREST = 0.5  # per cent of all pixels that may show what is nearer still
SPARE = 0.8  # of the way to those


@dataclass(frozen=True)
class _Begun(Space):
    """A space whose rays begin a part of the way from the lens to the scene's middle."""

    part: float

    def limits(self, origins: Tensor, directions: Tensor, within: Limits | None = None) -> Limits:
        """See Space."""
        near, far = super().limits(origins, directions, within)
        return torch.maximum(near, self.part * torch.linalg.vector_norm(origins, dim=1)), far


def clear_view(run: "Run") -> "Run":
    """The run with rays that begin behind such clouds; as it is in a box, where light there costs nothing, and with a mirror."""
    if run.is_bounded or run.config.losses.closeness == 0 or run.model.mirror is not None:
        return run
    return replace(run, model=run.model.within(_Begun(False, clear_part(run))))


def clear_part(run: "Run") -> float:
    """How much of the way from a lens to the scene's middle is free in nearly all that photos show; CLEAR at most."""
    views = [view for view in run.views if view.split == "train"]
    chosen = np.unique(np.linspace(0, len(views) - 1, min(len(views), MOST_PHOTOS)).round().astype(int))
    parts = [np.inf]
    for view in (views[i] for i in chosen):
        ranges = run.render(view.camera.within(SIDE), view.world_from_camera, are_edges_smooth=False).range
        middle = np.linalg.norm(view.world_from_camera[:3, 3] - run.normalisation.centre)
        parts.extend(ranges[np.isfinite(ranges)] / max(middle, 1e-12))
    return min(CLEAR, SPARE * float(np.percentile(parts, NEAREST)))
