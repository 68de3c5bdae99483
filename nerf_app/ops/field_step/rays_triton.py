"""What happens along rays in a field step: where samples lie, what they show together, and which of them learn from it."""

import triton
import triton.language as tl

from nerf_app.ops.composite.kernel_triton import chunk_of_rays, light, rays_of_program, samples_of_rays
from nerf_app.ops.march.space_triton import to_unit

SEEN = tl.constexpr(1e-5)  # as field_step/__init__.py has it


@triton.jit(do_not_specialize=["n_rays"])
def place_samples(origins_ptr, directions_ptr, t_starts_ptr, t_ends_ptr, ray_indices_ptr, count_ptr, n_rays, unit_ptr,
                  IS_BOUNDED: tl.constexpr, BLOCK: tl.constexpr):
    """The middles of the first `count` samples in the unit cube [S, 3]."""
    count = tl.load(count_ptr)
    if tl.program_id(0) * BLOCK >= count:
        return
    samples = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ray = tl.load(ray_indices_ptr + samples, mask=samples < count, other=n_rays)
    inside = ray < n_rays
    t = 0.5 * (tl.load(t_starts_ptr + samples, mask=inside, other=0.0) + tl.load(t_ends_ptr + samples, mask=inside, other=0.0))
    o, d = origins_ptr + ray * 3, directions_ptr + ray * 3
    x = tl.load(o, mask=inside, other=0.0) + t * tl.load(d, mask=inside, other=0.0)
    y = tl.load(o + 1, mask=inside, other=0.0) + t * tl.load(d + 1, mask=inside, other=0.0)
    z = tl.load(o + 2, mask=inside, other=0.0) + t * tl.load(d + 2, mask=inside, other=0.0)
    x, y, z = to_unit(x, y, z, IS_BOUNDED)
    at = unit_ptr + samples.to(tl.int64) * 3
    tl.store(at, x, mask=inside)
    tl.store(at + 1, y, mask=inside)
    tl.store(at + 2, z, mask=inside)


@triton.jit
def _colour(rgb_ptr, at, inside, weight):
    """Red, green and blue of samples, 0 where they are not seen."""
    is_seen = inside & (weight > SEEN)
    return (tl.load(rgb_ptr + at * 3, mask=is_seen, other=0.0), tl.load(rgb_ptr + at * 3 + 1, mask=is_seen, other=0.0),
            tl.load(rgb_ptr + at * 3 + 2, mask=is_seen, other=0.0))


@triton.jit
def _sum_along(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, weights_ptr, start, count, RAYS: tl.constexpr,
               CHUNK: tl.constexpr):
    """Of each ray: red, green, blue, opacity, distance · opacity, and how many samples the light reaches; stores all weights."""
    ahead = tl.zeros([RAYS], tl.float32)
    red, green, blue = tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.float32)
    opacity, distance, lit = tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.int32)
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        left, passing, length, _is_clear, depth = light(density_ptr, t_starts_ptr, t_ends_ptr, at, inside, ahead)
        weight = left * (1.0 - passing)
        tl.store(weights_ptr + at, weight, mask=inside)
        r, g, b = _colour(rgb_ptr, at, inside, weight)
        middle = tl.load(t_ends_ptr + at, mask=inside, other=0.0) - 0.5 * length
        red += tl.sum(weight * r, 1)
        green += tl.sum(weight * g, 1)
        blue += tl.sum(weight * b, 1)
        opacity += tl.sum(weight, 1)
        distance += tl.sum(weight * middle, 1)
        lit += tl.sum((inside & (left != 0)).to(tl.int32), 1)
        ahead += depth
    return red, green, blue, opacity, distance, lit


@triton.jit
def _pull(rgb_ptr, t_ends_ptr, d_weights_ptr, at, inside, weight, length, d_red, d_green, d_blue, d_opacity, d_distance,
          HAS_WEIGHTS: tl.constexpr):
    """The gradient by each sample's weight."""
    r, g, b = _colour(rgb_ptr, at, inside, weight)
    middle = tl.load(t_ends_ptr + at, mask=inside, other=0.0) - 0.5 * length
    pull = (d_red[:, None] * r + d_green[:, None] * g + d_blue[:, None] * b + d_opacity[:, None] + d_distance[:, None] * middle)
    if HAS_WEIGHTS:
        pull += tl.load(d_weights_ptr + at, mask=inside, other=0.0)
    return pull


@triton.jit
def _give_back(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, d_weights_ptr, d_raw_ptr, d_rgb_ptr, start, count, d_red, d_green,
               d_blue, d_opacity, d_distance, HAS_WEIGHTS: tl.constexpr, RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """Stores the gradients by each sample's colour [S, 3] and by the logarithm of its density [S]."""
    ahead, behind = tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, 0), CHUNK):  # what all samples of a ray pull
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        left, passing, length, _is_clear, depth = light(density_ptr, t_starts_ptr, t_ends_ptr, at, inside, ahead)
        weight = left * (1.0 - passing)
        behind += tl.sum(weight * _pull(rgb_ptr, t_ends_ptr, d_weights_ptr, at, inside, weight, length, d_red, d_green, d_blue,
                                        d_opacity, d_distance, HAS_WEIGHTS), 1)
        ahead += depth
    ahead = tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        left, passing, length, is_clear, depth = light(density_ptr, t_starts_ptr, t_ends_ptr, at, inside, ahead)
        weight = left * (1.0 - passing)
        pull = _pull(rgb_ptr, t_ends_ptr, d_weights_ptr, at, inside, weight, length, d_red, d_green, d_blue, d_opacity,
                     d_distance, HAS_WEIGHTS)
        d_tau = pull * left * passing - (behind[:, None] - tl.cumsum(weight * pull, 1))
        density = tl.load(density_ptr + at, mask=inside, other=0.0)
        tl.store(d_raw_ptr + at, tl.where(is_clear & (left != 0), d_tau * length * density, 0.0), mask=inside)
        part = tl.where(weight > SEEN, weight, 0.0)
        tl.store(d_rgb_ptr + at * 3, part * d_red[:, None], mask=inside)
        tl.store(d_rgb_ptr + at * 3 + 1, part * d_green[:, None], mask=inside)
        tl.store(d_rgb_ptr + at * 3 + 2, part * d_blue[:, None], mask=inside)
        behind -= tl.sum(weight * pull, 1)
        ahead += depth


@triton.jit(do_not_specialize=["n_rays"])
def show_forward(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, starts_ptr, counts_ptr, n_rays, weights_ptr, sums_ptr, lit_ptr,
                 RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """Sums [R, 5], weights [S], and how many samples of each ray the light reaches [R]."""
    rays, is_ray, start, count = rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS)
    red, green, blue, opacity, distance, lit = _sum_along(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, weights_ptr, start,
                                                          count, RAYS, CHUNK)
    at = sums_ptr + rays.to(tl.int64) * 5
    tl.store(at, red, mask=is_ray)
    tl.store(at + 1, green, mask=is_ray)
    tl.store(at + 2, blue, mask=is_ray)
    tl.store(at + 3, opacity, mask=is_ray)
    tl.store(at + 4, distance, mask=is_ray)
    tl.store(lit_ptr + rays, lit, mask=is_ray)


@triton.jit(do_not_specialize=["n_rays"])
def show_backward(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, starts_ptr, counts_ptr, n_rays, d_sums_ptr, d_weights_ptr,
                  d_raw_ptr, d_rgb_ptr, HAS_WEIGHTS: tl.constexpr, RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """From gradients by sums [R, 5] and weights [S] to those by samples."""
    rays, is_ray, start, count = rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS)
    at = d_sums_ptr + rays.to(tl.int64) * 5
    _give_back(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, d_weights_ptr, d_raw_ptr, d_rgb_ptr, start, count,
               tl.load(at, mask=is_ray, other=0.0), tl.load(at + 1, mask=is_ray, other=0.0),
               tl.load(at + 2, mask=is_ray, other=0.0), tl.load(at + 3, mask=is_ray, other=0.0),
               tl.load(at + 4, mask=is_ray, other=0.0), HAS_WEIGHTS, RAYS, CHUNK)


@triton.jit
def _huber(seen, wanted, HUBER: tl.constexpr):
    """Loss, its slope, and squared error."""
    error = seen - wanted
    size = tl.abs(error)
    loss = tl.where(size < HUBER, 0.5 * error * error, HUBER * (size - 0.5 * HUBER))
    return loss, tl.where(size < HUBER, error, tl.where(error > 0, HUBER, -HUBER)), error * error


@triton.jit(do_not_specialize=["n_pixels"])
def show_and_compare(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, starts_ptr, counts_ptr, n_pixels, background_ptr, truth_ptr,
                     costs_ptr, is_counted_ptr, scale, weights_ptr, d_weights_ptr, d_raw_ptr, d_rgb_ptr, lit_ptr, squares_ptr,
                     totals_ptr, HUBER: tl.constexpr, HAS_WEIGHTS: tl.constexpr, EACH: tl.constexpr, PIXELS: tl.constexpr,
                     CHUNK: tl.constexpr):
    """Forward, loss and backward of compositing in one: what `show_forward`, training/losses.py and `show_backward` do.

    A pixel shows the mean of EACH rays, which are neighbours. `costs` [R] is what its opacity adds to the loss, by itself;
    `d_weights` [S] is what else pulls at weights, multiplied with `scale` before. `squares` [R] gets the squared errors, 0 for
    pixels that do not count. Adds to `totals` [3] the loss, the squared error and the number of pixels that count; gradients are
    those of the loss's sum over pixels (not its mean), times `scale`.
    """
    pixels = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    is_pixel = pixels < n_pixels
    is_counted = is_pixel & (tl.load(is_counted_ptr + pixels, mask=is_pixel, other=0) != 0)
    red, green, blue = tl.zeros([PIXELS], tl.float32), tl.zeros([PIXELS], tl.float32), tl.zeros([PIXELS], tl.float32)
    opacity = tl.zeros([PIXELS], tl.float32)
    for which in tl.static_range(EACH):
        start, count = samples_of_rays(starts_ptr, counts_ptr, pixels * EACH + which, is_pixel)
        r, g, b, stopped, _, lit = _sum_along(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, weights_ptr, start, count, PIXELS,
                                              CHUNK)
        red, green, blue, opacity = red + r / EACH, green + g / EACH, blue + b / EACH, opacity + stopped / EACH
        lit = tl.where(is_counted, lit, 0)  # who does not count learns nothing
        tl.store(lit_ptr + pixels * EACH + which, lit, mask=is_pixel)
    at = pixels.to(tl.int64) * 3
    behind_r, behind_g, behind_b = (tl.load(background_ptr + at, mask=is_pixel, other=0.0),
                                    tl.load(background_ptr + at + 1, mask=is_pixel, other=0.0),
                                    tl.load(background_ptr + at + 2, mask=is_pixel, other=0.0))
    passed = 1.0 - opacity
    loss_r, d_r, square_r = _huber(red + passed * behind_r, tl.load(truth_ptr + at, mask=is_pixel, other=0.0), HUBER)
    loss_g, d_g, square_g = _huber(green + passed * behind_g, tl.load(truth_ptr + at + 1, mask=is_pixel, other=0.0), HUBER)
    loss_b, d_b, square_b = _huber(blue + passed * behind_b, tl.load(truth_ptr + at + 2, mask=is_pixel, other=0.0), HUBER)
    factor = tl.where(is_counted, scale / (3.0 * EACH), 0.0)
    d_red, d_green, d_blue = factor * d_r, factor * d_g, factor * d_b
    cost = tl.load(costs_ptr + pixels, mask=is_pixel, other=0.0)
    d_opacity = 3.0 * factor * cost - (d_red * behind_r + d_green * behind_g + d_blue * behind_b)
    for which in tl.static_range(EACH):
        start, count = samples_of_rays(starts_ptr, counts_ptr, pixels * EACH + which, is_pixel)
        _give_back(density_ptr, t_starts_ptr, t_ends_ptr, rgb_ptr, d_weights_ptr, d_raw_ptr, d_rgb_ptr, start, count, d_red,
                   d_green, d_blue, d_opacity, d_opacity * 0.0, HAS_WEIGHTS, PIXELS, CHUNK)
    squares = tl.where(is_counted, square_r + square_g + square_b, 0.0) / 3.0
    tl.store(squares_ptr + pixels, squares, mask=is_pixel)
    loss = (loss_r + loss_g + loss_b) / 3.0 + cost * opacity
    tl.atomic_add(totals_ptr, tl.sum(tl.where(is_counted, loss, 0.0), 0), sem="relaxed")
    tl.atomic_add(totals_ptr + 1, tl.sum(squares, 0), sem="relaxed")
    tl.atomic_add(totals_ptr + 2, tl.sum(is_counted.to(tl.float32), 0), sem="relaxed")


@triton.jit(do_not_specialize=["n_rays"])
def list_lit(starts_ptr, lit_ptr, places_ptr, n_rays, index_ptr, RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """The samples that the light reaches, one after the other: index[places[ray] + i] = starts[ray] + i."""
    rays, _is_ray, start, lit = rays_of_program(starts_ptr, lit_ptr, n_rays, RAYS)
    place = tl.load(places_ptr + rays, mask=rays < n_rays, other=0)
    for begin in range(0, tl.max(lit, 0), CHUNK):
        i = begin + tl.arange(0, CHUNK)[None, :]
        tl.store(index_ptr + place[:, None] + i, (start[:, None] + i).to(tl.int32), mask=i < lit[:, None])
