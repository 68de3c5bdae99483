"""FIELD → TRAINED FIELD: the step, and the generator that takes steps until the budget is used."""

import dataclasses
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nerf_app.errors import Diverged, NerfAppError, ResourceError, first_line, is_of_gpu
from nerf_app.model import RadianceModel
from nerf_app.ops.backend import Backend
from nerf_app.photo_fit import PhotoFit
from nerf_app.render import over
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.draws import BACKGROUND, Draws
from nerf_app.sampling.occupancy import UNSEEN
from nerf_app.scene.scene import Scene
from nerf_app.training import filling
from nerf_app.training.batches import Batch, PixelBatches
from nerf_app.training.captured import CapturedStep, can_capture
from nerf_app.training.coverage import open_cells
from nerf_app.training.events import Event, Finished, Note, Stepped, Validated
from nerf_app.training.losses import added_loss, mean_that_counts, photo_loss, weight_of
from nerf_app.training.metrics import decibel
from nerf_app.training.schedule import (
    HASTY_THRESHOLD,
    Budget,
    learning_rate,
    levels_wanted,
    rays_of_pixel,
    samples_wanted,
    stride_wanted,
    threshold_wanted,
)
from nerf_app.training.tiles import Tiles
from nerf_app.training.validation import Validation

if TYPE_CHECKING:
    from nerf_app.config import Config

STEPS_PER_REFRESH = 8  # of the occupancy grid
STEPS_PER_POSE = 4  # steps until poses move again: such a step takes three times as long
CELLS_PER_SAMPLE = 2.5  # cells asked in a refresh, for each sample of a step
TRIMMING_BEGINS = 0.25  # part of the budget: before the form is found, all errors are large
FEWEST_RAYS, MOST_RAYS = 64, 1 << 16  # a step
FEWEST_SAMPLES = 256  # a step
VALIDATIONS = 10  # in a whole budget, at most
VALIDATION_COST = 0.25  # samples looked at for validation, at most, for each sample of training
FEWEST_VALIDATIONS = 3  # before training may stop on a plateau
BETTER = 0.02  # decibel: less is no progress
BAD_STEPS = 10  # in a row, until training goes back to the best state so far, with half the learning rate
MISSED = 0.1  # decibel: what costs pictures less is not missed
MOST_RETURNS = 3  # in a run, until training gives up
EMPTY = "grid_threshold"  # among what is told of the progress
OPTIMISER, GOOD, ERRORS = ("optimiser.first", "optimiser.second"), "good.parameters", "training.errors"
PROGRESS = ("pixels_drawn", "rays", "samples_per_ray", "samples_since", "validations", "validated_fraction", "best_psnr",
            "best_fraction", "bad_steps", "returns", "is_filling")


def photos_of(scene: Scene, config: "Config", ops: Backend) -> tuple[PixelBatches, Validation | None, Tensor | None]:
    """What trainers of a scene, of any appearance, are given besides their models: photos, and what `open_cells` says of them."""
    batches, validation = PixelBatches(scene, ops), Validation(scene, ops.device) if scene.indices("val") else None
    return batches, validation, open_cells(batches, Space(scene.is_bounded), ops, config.sampling)


class Trainer:
    """A model, its photos and everything that changes from step to step."""

    def __init__(self, model: RadianceModel, batches: PixelBatches, validation: Validation | None, config: "Config",
                 is_open: Tensor | None = None) -> None:
        self.model, self.batches, self.validation = model, batches, validation
        self.settings, self.losses, self.seed = config.training, config.losses, config.machine.seed
        if is_open is not None and model.grid is not None:
            model.grid.restrict(is_open)
        self.fit = PhotoFit(model.parameters, batches.poses, config.photos)
        self.tiles = Tiles(batches.sizes, model.ops.device)
        self.first = torch.zeros_like(model.parameters.flat)  # [P] Adam's running mean of gradients
        self.second = torch.zeros_like(model.parameters.flat)  # [P] and of their squares
        self.steps_done = self.pixels_drawn = 0
        self.rays = float(FEWEST_RAYS)  # in the next step; at first nothing is known to be empty
        self.samples_per_ray = 0.0  # in the last step
        self.validations = 0
        self.validated_fraction = 0.0  # of the budget, when the validation photos were last looked at
        self.best_psnr, self.best_fraction = -math.inf, 0.0
        self.samples_since = 0  # the last validation
        self.bad_steps = self.returns = 0
        self.good = model.parameters.flat.clone()  # [P] where to go back to: of the best validation so far
        self.loss, self.rate = math.nan, math.nan  # of the last step
        self.is_filling = model.fields[-1].shading is not None and batches.has_outlines
        self.halved = False  # a step did not fit into memory
        self.captured: CapturedStep | None = None  # holds a copy of the parameters: made anew where these are exchanged
        self.may_capture = self.has_graphs = True  # such steps can be taken, and graphs of them made, as far as is known
        self.notes: list[str] = []  # what a person should read after the step

    @property
    def looks(self) -> float:
        """At each pixel of the photos so far, on average."""
        return self.pixels_drawn / self.batches.n_pixels

    def step(self, fraction: float) -> tuple[float, float, int, int]:
        """One step of the optimiser: loss, squared error, rays and samples of the step, or of the newest one known of."""
        if self.captured is None and self.may_capture and self.model.ops.name == "triton" and can_capture(self, fraction):
            self.captured = CapturedStep(self)
        if self.captured is not None:
            try:
                return self.captured.step(fraction)
            except (torch.OutOfMemoryError, torch.AcceleratorError, NerfAppError):
                raise
            except Exception as error:  # a compiler's: nets may be wider than those of the self-test
                self._do_without_capture(error)
        model, ops = self.model, self.model.ops
        draws = Draws(ops, self.seed, self.steps_done)
        self.prepare(draws, fraction)
        each = rays_of_pixel(fraction, self.looks)
        pixels = int(min(max(self.rays, FEWEST_RAYS), MOST_RAYS)) // each
        rays = each * pixels
        poses = self.fit.poses()
        if self.steps_done % STEPS_PER_POSE:
            poses = poses.detach()
        batch = self.batches.at(self.tiles.draw(draws, pixels), poses, each)
        background = draws.uniform(BACKGROUND, pixels)[:, :3]
        truth = torch.lerp(background, batch.rgb, batch.alpha[:, None])
        loss, error, samples = self._backward(batch, background, truth, draws, fraction)
        self.steps_done += 1
        self.pixels_drawn += pixels
        self.samples_since += samples
        self.samples_per_ray = samples / rays
        wanted = samples_wanted(self.settings, fraction)
        self.rays *= min(max(wanted / max(samples, 1), 0.5), 2.0)
        self.rays = min(max(self.rays, FEWEST_RAYS), MOST_RAYS)
        self.loss, self.rate = loss, learning_rate(self.settings, fraction) * 0.5**self.returns
        if not self._is_finite(loss):
            self._skip()
            return loss, error, rays, samples
        self.bad_steps = 0
        parameters = model.parameters
        ops.adam.adam_step(parameters.flat, parameters.gradients, self.first, self.second, self.steps_done, self.rate,
                           parameters.table_size)
        return loss, error, rays, samples

    def _do_without_capture(self, error: Exception) -> None:
        """Takes all further steps op by op."""
        self.captured, self.may_capture = None, False
        self.model.parameters.gradients.zero_()
        self.notes.append(f"the kernels of a whole step failed ({first_line(error)}): steps are taken op by op, which is slower")

    def prepare(self, draws: Draws, fraction: float) -> None:
        """What comes before a step is taken."""
        if self.model.grid is not None and self.model.grid.sharpened is not None:  # of a finished run that goes on
            self.model.grid.load(self.model.grid.values)
        self._refresh(draws, fraction)
        for field in self.model.fields:
            if field.shading is not None and field.nets is not None:
                field.use_levels(levels_wanted(len(field.whole_encoding.levels), fraction))
        if self.is_filling and fraction >= filling.ENDS:
            filling.end_filling(self.model.fields)
            self.is_filling = False
        if self.model.grid is not None:
            self.model.grid.stride = stride_wanted(fraction)

    def hear(self, loss: float, samples: int, rays: int, wanted: float, is_sound: bool) -> None:
        """What became of a captured step of so many rays, a few steps later: rays follow the samples, bad steps are counted."""
        self.loss, self.samples_since, self.samples_per_ray = loss, self.samples_since + samples, samples / max(rays, 1)
        most = min(2.0 * max(rays, FEWEST_RAYS), MOST_RAYS)
        self.rays = min(max(wanted / max(self.samples_per_ray, 1e-3), 0.5 * rays, FEWEST_RAYS), most)
        if is_sound:
            self.bad_steps = 0
        else:
            self._skip()

    def halve(self) -> Iterator[Note]:
        """Goes on with half as many samples a step, after one did not fit into the GPU's memory; says so the first time."""
        samples = self.settings.samples_per_step // 2
        if samples < FEWEST_SAMPLES:
            raise ResourceError(f"the GPU's memory has no room for a step of {FEWEST_SAMPLES} samples: close other programs that "
                                "use it, or train with --device cpu.")
        if not self.halved:
            yield Note("a step did not fit into the GPU's memory: going on with half as many samples in each, or fewer")
        self.settings, self.halved = dataclasses.replace(self.settings, samples_per_step=samples), True
        self.rays, self.captured = max(0.5 * self.rays, FEWEST_RAYS), None
        self.model.parameters.gradients.zero_()
        torch.cuda.empty_cache()

    def _backward(self, batch: Batch, background: Tensor, truth: Tensor, draws: Draws,
                  fraction: float) -> tuple[float, float, int]:
        trimmed = self.losses.trimmed if fraction > TRIMMING_BEGINS else 0.0
        loss, samples, error = torch.zeros((), device=truth.device), 0, torch.zeros(())
        weight = self.weight_of_points(fraction)
        if weight > 0.0:
            loss = loss + weight * self.batches.sparse.loss(self.model, draws)
        for rendering in self.model.passes(batch.rays, draws, codes=self.fit.codes(self.steps_done)):
            rgb = batch.mean(over(self.fit.photographed(rendering, batch.rays.view_indices), batch.of_rays(background)))
            is_like = filling.filling_loss(rendering, rgb, truth, batch) if self.is_filling else \
                photo_loss(rgb, truth, batch.counts, trimmed)
            loss = loss + is_like + added_loss(rendering, batch, self.model, self.losses, fraction)
            samples += rendering.weights.shape[0]
            squares = ((rgb.detach() - truth) ** 2).mean(1) * batch.counts
            error = mean_that_counts(squares, batch.counts * batch.drawn.rarity)
        if loss.requires_grad:
            loss.backward()
        if not (self.is_filling or self.losses.trimmed):  # only who believes an error looks at it again
            self.tiles.learn(batch.drawn.tile, squares)
        return float(loss.detach()), float(error), samples

    def weight_of_points(self, fraction: float) -> float:
        """How much it counts in the loss that light stops at the sparse points; 0 where none are known."""
        return weight_of("points", self.losses, self.model) * self.batches.sparse.still_count(fraction)

    def _refresh(self, draws: Draws, fraction: float) -> None:
        grid = self.model.grid
        if grid is not None and self.steps_done % STEPS_PER_REFRESH == 0:
            grid.threshold = threshold_wanted(self.model.sampling.grid_threshold, fraction, self.looks)
            grid.grow(self.steps_done)
            grid.refresh(self.model.density, draws, self.steps_done // STEPS_PER_REFRESH,
                         int(CELLS_PER_SAMPLE * self.settings.samples_per_step))

    def _is_finite(self, loss: float) -> bool:
        """Whether the step may be taken; what is not finite in the table's gradient shows in that of the nets as well."""
        parameters = self.model.parameters
        return math.isfinite(loss) and bool(torch.isfinite(parameters.gradients[parameters.table_size:]).all())

    def _skip(self) -> None:
        self.bad_steps += 1
        self.model.parameters.gradients.zero_()
        if self.bad_steps % BAD_STEPS == 0:
            if self.returns >= MOST_RETURNS:
                raise self.diverged()
            self._return()

    def _return(self) -> None:
        """Goes on from the best state so far at half the rate, knowing nothing else; steps count on, so other rays are drawn."""
        self.returns += 1
        self.model.parameters.flat.copy_(self.good)
        self.captured = None
        self.first.zero_()
        self.second.zero_()
        if self.model.grid is not None:
            self.model.grid.load(torch.full_like(self.model.grid.values, UNSEEN))
        self.rays = float(FEWEST_RAYS)
        self.best_fraction = self.validated_fraction  # the watch for a plateau begins anew

    def _remember(self) -> None:
        flat = self.model.parameters.flat
        if not self.bad_steps and bool(torch.isfinite(flat).all()):
            self.good.copy_(flat)

    def diverged(self) -> Diverged:
        """What to raise where going back does not help."""
        return Diverged(f"the loss was not a finite number in {BAD_STEPS} steps in a row, the last one step {self.steps_done}, "
                        f"also after going back {self.returns:.0f} times with a lower learning rate: what was saved before is "
                        "whole. Try a lower --set training.learning_rate.")

    def facts(self) -> dict[str, float]:
        """Of the last step, for whoever looks why it went wrong."""
        return {"step": self.steps_done, "loss": self.loss, "learning_rate": self.rate, "rays": int(self.rays),
                "largest_parameter": float(self.model.parameters.flat.abs().max()), "went_back": int(self.returns)}

    def validate(self, fraction: float) -> Validated | None:
        """The validation photos' score, when it is time for it and not too dear; none where no photo could be spared.

        The best state is remembered, to go back to; without photos, that of each such time.
        """
        since = fraction - self.validated_fraction
        if since < 1.0 / VALIDATIONS:
            return None
        if self.validation is None:
            self.validated_fraction = fraction
            self._remember()
            return None
        if self.validation.n_rays * self.samples_per_ray > VALIDATION_COST * self.samples_since:
            return None
        self.validated_fraction, self.samples_since = fraction, 0
        psnr, ssim = self.validation.score(self.model)
        if math.isnan(psnr):  # says nothing: neither that it got better nor that it stood still
            self.best_fraction += since
            return None
        self.validations += 1
        if psnr > self.best_psnr + BETTER:
            self.best_psnr, self.best_fraction = psnr, fraction
            self._remember()
        return Validated(self.steps_done, fraction, psnr, ssim)

    def settle(self) -> None:
        """After the last step, for faster pictures: what the validation photos do not miss counts as empty.

        That is thin haze, and parts of cells in which nothing is found.
        """
        grid, model = self.model.grid, self.model
        if grid is None or self.validation is None or grid.threshold <= 0.0:
            return
        trained, needed = grid.threshold, self.validation.score(model)[0] - MISSED
        if trained < HASTY_THRESHOLD:
            grid.load(grid.values, HASTY_THRESHOLD)
            if not self.validation.score(model)[0] > needed:  # photos that say nothing miss everything
                grid.load(grid.values, trained)
        if model.fields[-1].nets is not None and model.ops.name != "reference":  # to ask others takes longer than pictures gain
            grid.sharpen(model.density)
        if grid.sharpened is not None and not self.validation.score(model)[0] > needed:
            grid.load(grid.values)

    @property
    def is_on_plateau(self) -> bool:
        """Whether the validation score stood still for the part of the budget that the settings name."""
        stood_still = self.validated_fraction - self.best_fraction
        return self.validations >= FEWEST_VALIDATIONS and stood_still > self.settings.plateau

    def tensors(self, is_over: bool = False) -> dict[str, Tensor]:
        """What a scene file must hold to go on exactly; where training is over, nothing to go back to."""
        tensors = self.model.tensors() | dict(zip(OPTIMISER, (self.first, self.second)))
        return tensors if is_over else tensors | {GOOD: self.good, ERRORS: self.tiles.errors}

    def refined_poses(self) -> np.ndarray | None:
        """[V, 4, 4] of the training photos in scene coordinates, camera to scene; None where the given ones are kept."""
        return None if self.fit.pose is None else self.fit.poses().detach().cpu().numpy()

    def progress(self) -> dict[str, float | None]:
        """What training adapted, in plain numbers; and what counts as empty so far, which rendering goes by too."""
        numbers = {name: float(getattr(self, name)) for name in PROGRESS}
        if self.model.grid is not None:
            numbers[EMPTY] = self.model.grid.threshold
        return {name: number if math.isfinite(number) else None for name, number in numbers.items()}

    def load(self, tensors: dict[str, Tensor], progress: dict[str, float | None], step: int) -> None:
        """Goes on from a saved state."""
        self.model.load(tensors, progress.get(EMPTY))
        self.captured = None
        for moment, name in zip((self.first, self.second), OPTIMISER):
            moment.copy_(tensors[name])
        self.good.copy_(tensors.get(GOOD, tensors["model.parameters"]))
        errors = tensors.get(ERRORS)  # an older file has none, photos of other sizes have others
        if errors is not None and errors.shape == self.tiles.errors.shape:
            self.tiles.errors.copy_(errors)
        self.steps_done = step
        for name in PROGRESS:
            if name in progress:  # an older file may lack some
                setattr(self, name, -math.inf if progress[name] is None else progress[name])
        if "pixels_drawn" not in progress:
            self.pixels_drawn = step * self.rays  # about

    def reopen(self, fraction: float) -> None:
        """Goes on after the budget was changed, and with it the meaning of a fraction: the watch for a plateau begins anew."""
        self.validations, self.validated_fraction, self.best_fraction = 0, fraction, fraction


def train(trainer: Trainer, budget: Budget, stop: threading.Event | None = None) -> Iterator[Event]:
    """Steps until the budget is used, the validation score stands still, or somebody asks to stop."""
    reason, begin = "interrupted", trainer.steps_done
    while stop is None or not stop.is_set():
        fraction = budget.fraction(trainer.steps_done)
        if fraction >= 1.0 or trainer.is_on_plateau:
            reason = "budget" if fraction >= 1.0 else "plateau"
            break
        returns, stepped = trainer.returns, _attempted(trainer, fraction)
        if stepped is None:
            yield from trainer.halve()
            continue
        loss, error, rays, samples = stepped
        while trainer.notes:
            yield Note(trainer.notes.pop(0))
        step, fraction = trainer.steps_done, budget.fraction(trainer.steps_done)
        if trainer.returns > returns:
            yield Note(f"{BAD_STEPS} steps in a row were skipped, the last one step {step}: going on from the best state so far "
                       "with half the learning rate")
        elif trainer.bad_steps:
            yield Note(f"step {step} was skipped: its loss or gradient was not a finite number")
        validated = trainer.validate(fraction)
        if validated is not None:
            yield validated
        yield Stepped(step, fraction, budget.seconds, budget.seconds_left(step), loss, decibel(error), rays, samples)
    if reason != "interrupted":
        if trainer.bad_steps >= BAD_STEPS:  # not one good step since it went back
            raise trainer.diverged()
        if trainer.steps_done > begin:
            trainer.settle()
    yield Finished(trainer.steps_done, budget.seconds, reason)


def _attempted(trainer: Trainer, fraction: float) -> tuple[float, float, int, int] | None:
    """What `Trainer.step` gives; None where the GPU's memory had no room, once all that the step had taken is free again."""
    try:
        return trainer.step(fraction)
    except torch.OutOfMemoryError:
        return None
    except RuntimeError as error:
        if not is_of_gpu(error):
            raise
        raise ResourceError(f"the GPU failed in step {trainer.steps_done + 1} ({first_line(error)}): what was saved before is "
                            "whole. Go on with nerf-app resume, with --device cpu if it fails again.") from error
