"""What photos have in sight, against a walk through every cell."""

import dataclasses

import numpy as np
import pytest
import torch

from nerf_app.model import RadianceModel
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.occupancy import UNSEEN
from nerf_app.training.batches import PixelBatches
from nerf_app.training.coverage import CELLS, open_cells, views_of_cells
from nerf_app.training.loop import Trainer
from tests.analytic import reference_ops
from tests.sphere import small_config, sphere_scene

SCENE = sphere_scene(n_views=5, size=24)
SPACE = Space(False)


def seen_by_walking(batches: PixelBatches) -> tuple[torch.Tensor, torch.Tensor]:
    """How many photos have each cell's middle in their picture; and which cells lie in the cube."""
    places = (torch.arange(CELLS) + 0.5) / CELLS
    z, y, x = torch.meshgrid(places, places, places, indexing="ij")
    points = SPACE.from_unit(torch.stack([x, y, z], -1)).double()  # the cells' middles, scene coordinates
    seen = torch.zeros(CELLS, CELLS, CELLS)
    for pose in batches.poses:
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        across = (local[..., :2] / -local[..., 2:]).abs().amax(-1) * SCENE.views[0].camera.focal_x_px
        seen += (local[..., 2] < 0) & (across < 12.0)
    core = Space(True).to_unit(points.float())  # of the contracted cube's middle
    return seen, ((core > 0.0) & (core < 1.0)).all(-1)


def test_a_cell_counts_the_photos_that_look_at_it():
    batches = PixelBatches(SCENE, reference_ops())
    counts = views_of_cells(batches, SPACE, reference_ops())
    seen, core = seen_by_walking(batches)
    assert (counts >= seen).all()  # a neighbour's view counts too
    assert float((counts > seen)[core].float().mean()) < 0.3
    assert counts.max() == 4 and counts.min() == 0


def test_many_photos_are_looked_at_with_fewer_rays(monkeypatch):
    asked = []
    ops = reference_ops()
    march = ops.march.march
    watched = dataclasses.replace(ops, march=type("March", (), {"march": staticmethod(
        lambda origins, *rest: asked.append(len(origins)) or march(origins, *rest))}))
    monkeypatch.setattr("nerf_app.training.coverage.MOST_RAYS", 4 * 49)
    views_of_cells(PixelBatches(SCENE, ops), SPACE, watched)
    assert asked == [49] * 4 and np.sqrt(49) == 7


@pytest.mark.parametrize("least_views, culled", [(0, 0.0), (1, 0.30), (2, 0.30)])
def test_training_leaves_space_alone_that_no_photo_sees(least_views, culled):
    """Of four training photos, one is enough: were more asked for, corners would be lost."""
    config = small_config(5, {"sampling.least_views": least_views})
    batches, ops = PixelBatches(SCENE, reference_ops()), reference_ops()
    is_open, counts = open_cells(batches, SPACE, ops, config.sampling), views_of_cells(batches, SPACE, ops)
    trainer = Trainer(RadianceModel(config, False, ops), batches, None, config, is_open)
    assert (is_open is None) == (not least_views)
    assert is_open is None or torch.equal(is_open, counts > 0) and (~is_open).float().mean() > culled
    grid = trainer.model.grid
    unseen = torch.nn.functional.adaptive_max_pool3d(counts[None], grid.values.shape)[0] == 0
    assert torch.equal(grid.occupied, ~unseen if least_views else torch.ones_like(unseen))
    grid.load(torch.full_like(grid.values, UNSEEN))
    trainer.step(0.0)
    assert not (grid.occupied & unseen).any() or not least_views
