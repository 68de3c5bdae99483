"""How a reflective field begins: filled up to the outlines of things, as photos with alpha show them, then softened.

A young field explains reflections by carving what is mirrored out of the thing, and stays with that. One that is filled has
about the right normals wherever a thing bulges, and so learns what surrounds it. Softened, it is fog of about that form: where
mirrored light explains the photos it closes again at the same place, elsewhere colours find the surface that lies behind.
"""

from torch import Tensor

from nerf_app.fields.radiance import RadianceField
from nerf_app.render import Rendering
from nerf_app.training.batches import Batch
from nerf_app.training.losses import photo_loss

ENDS = 0.1  # part of the budget
OUTLINES = 0.7  # of the loss: opacity's part; colour, from which the nets learn meanwhile, has the rest
SOFTER = 0.2  # times as steep is the density's logarithm afterwards


def filling_loss(rendering: Rendering, rgb: Tensor, truth: Tensor, batch: Batch) -> Tensor:
    """[] for a rendering, its colours in front of the batch's background [R, 3], and what they should be [R, 3]."""
    outlines = photo_loss(rendering.opacity[:, None], batch.alpha[:, None], batch.counts)
    return (1.0 - OUTLINES) * photo_loss(rgb, truth, batch.counts) + OUTLINES * outlines


def end_filling(fields: list[RadianceField]) -> None:
    """Lets light into what was filled."""
    for field in fields:
        field.soften(SOFTER)
