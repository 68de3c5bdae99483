"""A TRAINING STEP AS ONE LAUNCH: the kernels of a step in a CUDA graph, of which nothing is read while it runs.

The same step as training/loop.py's, where that is photos, a hash grid and small nets alone (see `can_capture`): samples have a
room of fixed size, and pixels whose rays find none are left out; features and the factors of products are float16, and so is
the table that is read, a copy that Adam keeps of the float32 one; gradients are those of the loss summed over pixels, times
LOSS_SCALE, which Adam takes out.

A step whose loss or gradient is not finite changes nothing. What a step finds out (its loss, how many samples) comes back
through a ring a few steps later; the number of rays follows from that. Where no graph can be made, kernels are launched singly.

Rays are drawn outside of the graph, by the same launches as everywhere: lenses may have any shape.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerf_app.errors import first_line
from nerf_app.sampling.draws import BACKGROUND, RAY_OFFSET, Draws
from nerf_app.training.batches import of_rays
from nerf_app.training.losses import HAZE, HUBER, nearness, weights_of
from nerf_app.training.schedule import learning_rate, rays_of_pixel, samples_wanted

if TYPE_CHECKING:
    from nerf_app.ops.field_step.kernel_triton import Passed
    from nerf_app.ops.march import Marched
    from nerf_app.training.loop import Trainer

RING = 16  # steps that may be on their way
LOSS_SCALE = 128.0
ROOM = 1.25  # for samples, of what is wanted, rounded up to a power of two: a graph serves many steps
GRAIN = 4  # numbers of rays between one power of two and the next
LOSS, ERROR, COUNTED, SAMPLES, RAYS, SOUND = range(6)  # what a step tells: sums over pixels that count, samples, their rays
FEW_VECTORS = (9, 0)  # before this compute capability a reduction takes two float16 at once, but only one float32


@dataclass(frozen=True)
class Shape:
    """What a graph is made for."""

    rays: int
    rays_of_pixel: int
    samples: int  # room
    step_length: float
    grid: int  # cells along an edge

    @property
    def pixels(self) -> int:
        """R."""
        return self.rays // self.rays_of_pixel


@dataclass(frozen=True)
class Inputs:
    """Where a graph finds what is new in a step."""

    origins: Tensor  # [K·R, 3] of rays
    directions: Tensor  # [K·R, 3]
    near: Tensor  # [K·R]
    far: Tensor  # [K·R]
    jitter: Tensor  # [K·R]
    background: Tensor  # [R, 3] of pixels
    truth: Tensor  # [R, 3]
    costs: Tensor  # [R] of opacity
    counts: Tensor  # [R] bool
    tiles: Tensor  # [R] int64: where they were drawn
    occupied: Tensor  # [G, G, G] bool


@dataclass(frozen=True)
class Told:
    """A step's numbers on their way to the host."""

    rays: int
    wanted: float  # samples
    numbers: Tensor  # [6] in pinned memory
    arrived: "torch.cuda.Event | None"  # None: there is nothing to wait for


def can_capture(trainer: "Trainer", fraction: float) -> bool:
    """Whether steps from now on are of the kind described above."""
    from nerf_app.ops.field_step.kernel_triton import WIDE, fits
    model, fit = trainer.model, trainer.fit
    is_plain = fit.is_idle and model.mirror is None and model.fields[-1].shading is None
    nets = model.fields[-1].nets
    has_more = trainer.losses.trimmed > 0 or trainer.weight_of_points(fraction) > 0
    return is_plain and not has_more and model.grid is not None and nets is not None and fits(nets, WIDE)


class CapturedStep:
    """Takes a trainer's steps; made anew where its parameters are exchanged."""

    def __init__(self, trainer: "Trainer") -> None:
        parameters, device = trainer.model.parameters, trainer.model.ops.device
        self.trainer, self.device, self.is_cuda = trainer, device, device.type == "cuda"
        weights = weights_of(trainer.losses, trainer.model, fraction=1.0)  # without a shading they stay what they are
        self.emptiness = weights.pop("emptiness", 0.0)
        self.haze = weights  # of such fields: of how far, and how close, light is spread
        self.half = parameters.flat.detach().to(torch.float16)  # [P]
        table, size = trainer.model.fields[-1].nets.table, parameters.table_size
        self.place = slice(first := table.storage_offset(), first + table.numel())  # of the table in the flat buffer
        self.table = self.half[self.place].view(table.shape)
        is_short = self.is_cuda and torch.cuda.get_device_capability(device) < FEW_VECTORS
        self.table_gradient = torch.zeros(size, dtype=torch.float16, device=device) if is_short else parameters.gradients[:size]
        self.control, self.numbers = torch.ones(4, device=device), torch.zeros(6, device=device)
        self.host = torch.zeros(RING, 6, pin_memory=self.is_cuda)
        self.inputs: dict[Shape, Inputs] = {}
        self.met: set[Shape] = set()
        self.graphs: dict[Shape, torch.cuda.CUDAGraph] = {}
        self.pool = torch.cuda.graph_pool_handle() if self.is_cuda else None
        self.under_way: deque[Told] = deque()
        self.heard = (float("nan"), float("nan"), 0, 0)  # loss, squared error, rays and samples of the newest step known of

    def step(self, fraction: float) -> tuple[float, float, int, int]:
        """One step; loss, squared error, rays and samples of the newest one that is known of."""
        self.launch(fraction)
        self.hear()
        return self.heard

    def launch(self, fraction: float) -> None:
        """Sends a step on its way; reads nothing."""
        from nerf_app.ops.adam.kernel_triton import set_control
        trainer, slot = self.trainer, self.trainer.steps_done % RING
        draws = Draws(trainer.model.ops, trainer.seed, trainer.steps_done)
        trainer.prepare(draws, fraction)
        shape = self.shape(fraction)
        self.fill(shape, draws)
        trainer.steps_done += 1
        trainer.pixels_drawn += shape.pixels
        trainer.rate = learning_rate(trainer.settings, fraction) * 0.5**trainer.returns
        set_control(self.control, trainer.steps_done, trainer.rate)
        self.run(shape)
        self.host[slot].copy_(self.numbers, non_blocking=True)
        arrived = torch.cuda.Event() if self.is_cuda else None
        if arrived is not None:
            arrived.record()
        self.under_way.append(Told(shape.rays, samples_wanted(trainer.settings, fraction), self.host[slot], arrived))

    def shape(self, fraction: float) -> Shape:
        """What the next step needs, rounded so that few graphs serve all."""
        trainer, grid = self.trainer, self.trainer.model.grid
        rays = int(trainer.rays)
        grain = max(1 << max(rays.bit_length() - 1, 0), GRAIN) // GRAIN
        room = 1 << (int(ROOM * samples_wanted(trainer.settings, fraction)) - 1).bit_length()
        return Shape(-(-rays // grain) * grain, rays_of_pixel(fraction, trainer.looks), room, grid.stride * grid.step_length,
                     len(grid.values))

    def fill(self, shape: Shape, draws: Draws) -> None:
        """Draws rays and puts them where the graph looks for them."""
        trainer, grid = self.trainer, self.trainer.model.grid
        batch = trainer.batches.at(trainer.tiles.draw(draws, shape.pixels), rays_of_pixel=shape.rays_of_pixel)
        near, far = grid.space.limits(batch.rays.origins, batch.rays.directions)
        background = draws.uniform(BACKGROUND, shape.pixels)[:, :3].contiguous()
        new = Inputs(batch.rays.origins, batch.rays.directions, near, torch.where(batch.rays.is_valid, far, near),
                     draws.uniform(RAY_OFFSET, shape.rays)[:, 0].contiguous(), background,
                     torch.lerp(background, batch.rgb, batch.alpha[:, None]), self.emptiness * batch.is_empty, batch.counts,
                     batch.drawn.tile, grid.occupied)
        if shape not in self.inputs:
            self.inputs[shape] = Inputs(*(tensor.clone(memory_format=torch.contiguous_format) for tensor in vars(new).values()))
            return
        for place, tensor in zip(vars(self.inputs[shape]).values(), vars(new).values(), strict=True):
            place.copy_(tensor)

    def run(self, shape: Shape) -> None:
        """The step of this shape: the first time kernel by kernel, which compiles them; from the second on as a graph."""
        if not self.is_cuda or shape not in self.met:
            self.met.add(shape)
            self.work(shape)
            return
        if shape not in self.graphs and self.trainer.has_graphs:  # waits for the device: not for shapes that come once
            self.capture(shape)
        if shape in self.graphs:
            self.graphs[shape].replay()
        else:
            self.work(shape)

    def capture(self, shape: Shape) -> None:
        """Makes the graph of a shape; where that fails there are none from then on, and a note says so."""
        stream, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                self.work(shape)
            self.graphs[shape] = graph
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the driver, of a tool that watches it, of a launch that may not be captured
            self.trainer.has_graphs = False
            self.trainer.notes.append(f"steps could not be captured in a CUDA graph ({first_line(error)}): their kernels are "
                                      "launched one by one, which is slower")
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own

    @torch.no_grad()
    def work(self, shape: Shape) -> None:
        """All kernels of a step, in order."""
        from nerf_app.ops.field_step.kernel_triton import FieldKernels, lit_samples, show_and_learn
        inputs, model, each = self.inputs[shape], self.trainer.model, shape.rays_of_pixel
        marched = model.ops.march.march(inputs.origins, inputs.directions, inputs.near, inputs.far, inputs.jitter,
                                        shape.step_length, inputs.occupied, model.space, shape.samples)
        count = marched.ray_counts.sum(dtype=torch.int32)
        kernels = FieldKernels(model.fields[-1].nets, self.table, is_half=True)
        passed = kernels.forward(inputs.origins, inputs.directions, marched, model.space, count)
        is_complete = marched.is_complete.view(-1, each).all(1)
        counts, d_weights = inputs.counts & is_complete, None
        if self.haze:
            hazy, d_weights = self.hazy(passed, marched, inputs.origins, of_rays(counts, each), each)
        totals, squares, lit, gradients = show_and_learn(passed, marched, inputs.background, inputs.truth, inputs.costs, counts,
                                                         LOSS_SCALE, HUBER, d_weights)
        if self.haze:
            totals[LOSS] += hazy
        self.trainer.tiles.learn(inputs.tiles, squares)
        index, n_lit = lit_samples(marched.ray_starts, lit, shape.samples)
        nets = model.fields[-1].nets
        kernels.backward(passed, index, n_lit, gradients, self.table_gradient[self.place].view(nets.table.shape),
                         [matrix.grad for matrix in (*nets.density, *nets.colour)])
        self.optimise(totals)
        self.numbers[:COUNTED + 1].copy_(totals)
        self.numbers[SAMPLES].copy_(count)
        self.numbers[RAYS].copy_(each * is_complete.sum())

    def hazy(self, passed: "Passed", marched: "Marched", origins: Tensor, counts: Tensor, each: int) -> tuple[Tensor, Tensor]:
        """What the terms against haze add to the loss's sum, and LOSS_SCALE times its gradient by weights [S].

        Rays of pixels that count [K·R] share in it, `each` of a pixel.
        """
        from nerf_app.ops.field_step.kernel_triton import spread_and_learn, weights_along
        distortion, closeness = (self.haze.get(name, 0.0) / each for name in HAZE)
        weights = weights_along(passed, marched)
        spread, pull = spread_and_learn(weights, marched, self.trainer.model.space, counts, LOSS_SCALE * distortion)
        is_told = torch.nn.functional.pad(counts, (0, 1))[marched.ray_indices]  # [S]
        cost = closeness * nearness(origins, marched) * is_told
        return distortion * spread + (cost * weights).sum(), pull + LOSS_SCALE * cost

    def optimise(self, totals: Tensor) -> None:
        """Adam over the table, then over the nets, unless something is not finite."""
        from nerf_app.ops.adam.kernel_triton import adam_controlled
        trainer, parameters = self.trainer, self.trainer.model.parameters
        size = parameters.table_size
        tables = self.table_gradient, parameters.gradients[size:]
        is_sound = torch.isfinite(totals[LOSS]) & torch.isfinite(tables[1]).all()
        if tables[0].dtype == torch.float16:
            is_sound &= torch.isfinite(tables[0]).all()  # where float16 overflows, the nets need not know
        self.control[3].copy_(1.0 / (LOSS_SCALE * totals[COUNTED].clamp(min=1.0)))
        for part, gradients, table_size in ((slice(0, size), tables[0], size), (slice(size, None), tables[1], 0)):
            adam_controlled(parameters.flat[part], gradients, trainer.first[part], trainer.second[part], self.half[part],
                            self.control, is_sound, table_size)
        self.numbers[SOUND].copy_(is_sound)

    def hear(self) -> None:
        """Takes in what has arrived; waits only where nothing is known yet, or the ring is full."""
        while self.under_way:
            told = self.under_way[0]
            if told.arrived is not None and not told.arrived.query():
                if self.heard[2] and len(self.under_way) < RING:
                    return
                told.arrived.synchronize()
            self.under_way.popleft()
            loss, error, counted, samples, rays, sound = told.numbers.tolist()
            counted = max(counted, 1.0)
            self.heard = (loss / counted, error / counted, told.rays, int(samples))
            self.trainer.hear(loss / counted, int(samples), int(rays), told.wanted, sound > 0)
