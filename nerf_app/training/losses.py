"""What training makes small: the difference to the photos, and terms that the settings weigh."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerf_app.model import RadianceModel
from nerf_app.ops.field_step import Samples
from nerf_app.render import Rendering
from nerf_app.training.settings import LossSettings
from nerf_app.training.surface import surface

if TYPE_CHECKING:
    from nerf_app.training.batches import Batch

HUBER = 0.1  # errors beyond this count linearly
HAZE = {"distortion": 0.001, "closeness": 0.01}  # weights in unbounded space, where haze has room
UNBOUNDED = HAZE | {"points": 0.05}
MIRRORING_COSTS = 0.4, 0.5  # parts of the budget: it costs nothing before the first, all that it will from the second on
CLEAR = 0.25  # part of the way from a lens to the scene's middle in which light costs something


def photo_loss(rgb: Tensor, truth: Tensor, counts: Tensor, trimmed: float = 0.0) -> Tensor:
    """Mean Huber loss over the pixels that count: [R, 3], [R, 3], [R] bool -> [].

    The part `trimmed` of them with the largest errors says nothing: whoever walked through a photo is among those.
    """
    errors = torch.nn.functional.huber_loss(rgb, truth, reduction="none", delta=HUBER).mean(1)
    if trimmed:
        counted = errors.detach()[counts]
        most = counted.kthvalue(max(math.ceil((1.0 - trimmed) * len(counted)), 1)).values if len(counted) else 0.0
        counts = counts & (errors.detach() <= most)
    return mean_that_counts(errors, counts)


def mean_that_counts(values: Tensor, counts: Tensor) -> Tensor:
    """The mean over the rays that count, 0 where none does: [R], [R] bool -> []."""
    return (values * counts).sum() / counts.sum().clamp(min=1)


def distortion(rendering: Rendering, batch: "Batch", model: RadianceModel) -> Tensor:
    """How far the light of a ray is spread over its lattice, of which the whole is 1 (mip-NeRF 360, Eq. 15): []."""
    samples, space = rendering.samples, model.space
    whole = space.lattice_length
    spread = model.ops.composite.distortion(rendering.weights, space.lattice_at(samples.t_starts) / whole,
                                            space.lattice_at(samples.t_ends) / whole, samples.ray_indices, samples.n_rays)
    return mean_that_counts(spread, batch.of_rays(batch.counts))


def closeness(rendering: Rendering, batch: "Batch", model: RadianceModel) -> Tensor:
    """How close to the lens light stops: the mean over rays of each one's light, by its `nearness`, [].

    No other photo looks through a cloud that hangs close before one lens: photos alone do not deny it. So light that could as
    well stop farther away does.
    """
    samples = rendering.samples
    near = model.ops.composite.accumulate(rendering.weights, nearness(batch.rays.origins, samples)[:, None], samples.ray_indices,
                                          samples.n_rays)  # [R, 1]
    return mean_that_counts(near[:, 0], batch.of_rays(batch.counts))


def nearness(origins: Tensor, samples: Samples) -> Tensor:
    """From 1 at a ray's lens [R, 3] to 0 where CLEAR ends: [S]."""
    reach = CLEAR * torch.linalg.vector_norm(origins.detach(), dim=1)  # [R] scene units; the middle is 0
    reach = torch.nn.functional.pad(reach, (0, 1), value=1.0).clamp(min=1e-6)  # the last one is that of unused entries
    middles = 0.5 * (samples.t_starts + samples.t_ends)
    return (1.0 - middles / reach[samples.ray_indices]).clamp(min=0.0)


def emptiness(rendering: Rendering, batch: "Batch", model: RadianceModel) -> Tensor:
    """How much light is stopped where a photo is wholly transparent: the mean over pixels, [].

    Colours alone hardly mind a wisp that stops a hundredth of the light: its error is that small squared.
    """
    return mean_that_counts(batch.mean(rendering.opacity[:, None])[:, 0] * batch.is_empty, batch.counts)


def mirrored(rendering: Rendering, batch: "Batch", model: RadianceModel) -> Tensor:
    """How much of the light that is seen is said to be mirrored: the mean over rays, [].

    Light that is mirrored alike towards everywhere looks like a thing's own: photos do not tell by which name to call it.
    """
    light = rendering.opacity.detach() * rendering.surface.specular.mean(1)  # [R] linear
    return mean_that_counts(light, batch.of_rays(batch.counts))


# By the setting that is its weight; each gives [] for a rendering of a batch.
TERMS = {"distortion": distortion, "closeness": closeness, "emptiness": emptiness, "surface": surface, "mirrored": mirrored}


def weights_of(settings: LossSettings, model: RadianceModel, fraction: float) -> dict[str, float]:
    """The weight of each of TERMS that counts here, when a part of the budget is used.

    What surrounds a thing must be found before it costs something to say that it shows there: else nothing is.
    """
    weights = {name: weight_of(name, settings, model) for name in TERMS}
    begin, end = MIRRORING_COSTS
    weights["mirrored"] *= min(max((fraction - begin) / (end - begin), 0.0), 1.0)
    if model.fields[-1].shading is None:
        weights["surface"] = weights["mirrored"] = 0.0
    return {name: weight for name, weight in weights.items() if weight}


def weight_of(name: str, settings: LossSettings, model: RadianceModel) -> float:
    """What a setting of that name says, or leaves to the space."""
    weight = getattr(settings, name)
    return weight if weight is not None else 0.0 if model.space.is_bounded else UNBOUNDED[name]


def added_loss(rendering: Rendering, batch: "Batch", model: RadianceModel, settings: LossSettings,
               fraction: float) -> Tensor | float:
    """The terms that have a weight, weighted: []."""
    return sum(weight * TERMS[name](rendering, batch, model) for name, weight in weights_of(settings, model, fraction).items())
