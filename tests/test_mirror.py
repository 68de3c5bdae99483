from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from nerf_app.fields.radiance import RadianceField
from nerf_app.mirror import CELLS, TINT, Mirror, join, split
from nerf_app.model import RadianceModel, saved_shapes
from nerf_app.rays import Rays
from nerf_app.render import Rendering, render_samples
from nerf_app.sampling.draws import Draws
from nerf_app.sampling.uniform import spread_evenly
from tests.analytic import BOX, AnalyticField, ball, fog, free_rays, median_distance, reference_ops
from tests.test_model import KINDS, SMALL

OPS, WHITE = reference_ops(), torch.ones(3)
FRAME = torch.tensor([[-0.9, 0.0, -0.9], [1.8, 0.0, 0.0], [0.0, 0.0, 1.8]])  # in the plane y = 0, seen from -y
GLASS = Mirror(FRAME, torch.ones(CELLS, CELLS, dtype=torch.bool))
BALL = torch.tensor([0.0, -0.5, 0.0])


def see(rays: Rays, mirror: Mirror | None, field: RadianceField, tint: torch.Tensor = WHITE, samples: int = 256) -> Rendering:
    pieces = split(rays, mirror)
    spread = spread_evenly(pieces.rays, BOX, samples, None, pieces.limits)
    seen = render_samples(pieces.rays, spread, field, BOX, OPS, with_normals=True)
    return seen if mirror is None else join(pieces, seen, tint, mirror.normal)


def rays_to_mirror(count: int) -> Rays:
    """From -y towards the middle of the mirror."""
    origins = torch.rand(count, 3) * torch.tensor([1.0, 0.2, 1.0]) - torch.tensor([0.5, 0.95, 0.5])
    at = torch.rand(count, 3) * torch.tensor([0.8, 0.0, 0.8]) - torch.tensor([0.4, 0.0, 0.4])
    return free_rays(origins, at - origins)


def shifted(field: AnalyticField, way) -> AnalyticField:
    return AnalyticField(lambda points: field.density_fn(way(points)), lambda points: field.colour_fn(way(points)))


def test_a_mirror_shows_what_would_stand_behind_it():
    rays = rays_to_mirror(200)
    thing = shifted(ball(0.15, density=80.0, softness=0.03), lambda points: points - BALL)
    twin = shifted(thing, lambda points: points * torch.tensor([1.0, -1.0, 1.0]))
    both = AnalyticField(lambda points: torch.maximum(thing.density_fn(points), twin.density_fn(points)),
                         lambda points: torch.where(points[:, 1:2] < 0, thing.colour_fn(points), twin.colour_fn(points)))
    mirrored, doubled = see(rays, GLASS, thing), see(rays, None, both, samples=1024)
    assert_close(mirrored.rgb, doubled.rgb, atol=5e-3, rtol=0.0)
    assert_close(mirrored.opacity, doubled.opacity, atol=5e-3, rtol=0.0)
    assert (mirrored.opacity > 0.9).any() and (mirrored.opacity < 0.1).any()


def test_fog_before_a_mirror_fades_by_the_whole_way_there_and_back():
    rays, density, tint = rays_to_mirror(50), 0.7, torch.tensor([0.5, 0.25, 1.0], requires_grad=True)
    there = -rays.origins[:, 1] / rays.directions[:, 1]
    _, back = BOX.limits(*(getattr(GLASS.mirrored(rays), name) for name in ("origins", "directions")))
    first, all_of_it = 1 - torch.exp(-density * (there - 0.05)), 1 - torch.exp(-density * (back - 0.05))  # nothing is near a lens
    seen = see(rays, GLASS, fog(density), tint)
    assert_close(seen.opacity, all_of_it)
    orange = torch.tensor([1.0, 0.5, 0.125])
    assert_close(seen.rgb, orange * (first[:, None] + (all_of_it - first)[:, None] * tint))
    seen.rgb.sum().backward()
    assert_close(tint.grad, orange * (all_of_it - first).sum())


def test_the_depth_of_a_mirror_is_its_own_however_far_what_it_shows():
    rays = rays_to_mirror(100)
    wall = AnalyticField(lambda points: 500.0 * torch.sigmoid((-0.97 - points[:, 1]) / 0.002), lambda points: points.abs())
    seen, there = see(rays, GLASS, wall), -rays.origins[:, 1] / rays.directions[:, 1]
    met = seen.opacity > 0.99
    assert met.float().mean() > 0.3
    assert_close(median_distance(seen)[met], there[met])
    assert_close(seen.distance[met], there[met], rtol=1e-3, atol=0.0)
    assert_close(seen.normals[met], torch.tensor([0.0, -1.0, 0.0]).expand_as(seen.normals[met]), atol=0.02, rtol=0.0)


def test_what_stands_before_a_mirror_hides_it():
    rays = free_rays(torch.tensor([[0.0, -0.95, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
    thing = shifted(ball(0.2), lambda points: points - BALL)
    seen, alone = see(rays, GLASS, thing, samples=512), see(rays, None, thing, samples=1024)
    assert_close(seen.rgb, alone.rgb, atol=2e-3, rtol=0.0)
    assert_close(median_distance(seen), median_distance(alone), atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("way", ["beside the glass", "from behind", "away from it"])
def test_rays_that_do_not_meet_the_glass_are_as_they_were(way):
    rays, mirror = rays_to_mirror(20), GLASS
    if way == "beside the glass":
        mirror = Mirror(FRAME, torch.zeros(CELLS, CELLS, dtype=torch.bool))
    elif way == "from behind":
        rays = replace(rays, origins=-rays.origins, directions=-rays.directions)
    else:
        rays = replace(rays, directions=-rays.directions)
    pieces = split(rays, mirror)
    assert len(pieces.met) == 0 and pieces.rays.count == 20
    seen, alone = see(rays, mirror, fog(0.5)), see(rays, None, fog(0.5))
    for name in ("rgb", "opacity", "distance", "weights"):
        assert_close(getattr(seen, name), getattr(alone, name))


def test_glass_is_where_its_cells_say():
    is_glass = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    is_glass[CELLS // 2:, :CELLS // 2] = True  # the upper left quarter, as seen from the front
    eyes = torch.tensor([[-0.4, -0.5, 0.4], [0.4, -0.5, 0.4], [-0.4, -0.5, -0.4], [0.4, -0.5, -0.4]])
    met, distance = Mirror(FRAME, is_glass).meet(free_rays(eyes, torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3)))
    assert met.tolist() == [0] and distance.tolist() == [0.5]


def test_samples_stay_packed_and_their_weights_add_up():
    rays = rays_to_mirror(30)
    rays = replace(rays, directions=torch.where(torch.arange(30)[:, None] % 3 == 0, -1.0, 1.0) * rays.directions)
    seen = see(rays, GLASS, fog(0.8), samples=7)
    samples = seen.samples
    met = torch.arange(30) % 3 != 0
    assert samples.ray_counts.tolist() == [8 if one else 7 for one in met]
    assert samples.ray_starts.tolist() == [0, *samples.ray_counts.cumsum(0)[:-1].tolist()]
    assert samples.ray_indices.tolist() == torch.arange(30).repeat_interleave(samples.ray_counts).tolist()
    ordered = samples.t_starts[1:] >= samples.t_starts[:-1]
    assert (ordered | (samples.ray_indices[1:] != samples.ray_indices[:-1])).all()
    assert_close(OPS.composite.accumulate(seen.weights, torch.ones_like(seen.weights)[:, None], samples.ray_indices, 30)[:, 0],
                 seen.opacity)


def test_training_hears_of_the_samples_before_the_mirror_alone():
    model, rays = mirror_model(), rays_to_mirror(30)
    (trained,) = model.passes(rays, Draws(OPS, 0, 0))
    samples, there = trained.samples, torch.cat([GLASS.meet(rays)[1], torch.zeros(1)])
    is_used = samples.ray_indices < 30
    assert int(is_used.sum()) == int(samples.ray_counts.sum()) < len(trained.weights)
    assert (samples.t_starts <= there[samples.ray_indices] + 1e-5)[is_used].all()
    assert not trained.weights[~is_used].any() and samples.t_ends[~is_used].equal(samples.t_starts[~is_used])


def mirror_model(field: str = "hashgrid", sampling: str = "occupancy") -> RadianceModel:
    config = replace(SMALL, field=replace(SMALL.field, kind=field), sampling=replace(SMALL.sampling, kind=sampling),
                     scene=replace(SMALL.scene, mirror="glass"))
    model = RadianceModel(config, True, OPS)
    model.mirror = GLASS
    model.parameters.flat.mul_(3.0)
    return model


@pytest.mark.parametrize("field, sampling", KINDS)
def test_every_field_and_sampling_learns_from_both_sides_of_a_mirror(field, sampling):
    model, rays = mirror_model(field, sampling), rays_to_mirror(30)
    passes = list(model.passes(rays, Draws(OPS, 0, 0)))
    sum(rendering.rgb.square().sum() for rendering in passes).backward()
    assert model.parameters.gradients.isfinite().all()
    assert (model.parameters[TINT].grad != 0).all()
    assert all(len(rendering.rgb) == 30 for rendering in passes)


def test_poses_are_refined_through_a_mirror():
    rays = rays_to_mirror(8)
    moved = replace(rays, origins=rays.origins.requires_grad_())
    mirror_model().render(moved).rgb.sum().backward()
    assert moved.origins.grad.isfinite().all() and moved.origins.grad.any()


def test_a_state_brings_its_mirror_along():
    model = mirror_model()
    model.mirror = Mirror(FRAME + 0.1, torch.rand(CELLS, CELLS) < 0.5)
    tensors = {name: tensor.clone() for name, tensor in model.tensors().items()}
    config = replace(SMALL, scene=replace(SMALL.scene, mirror="glass"))
    assert {name: tuple(tensor.shape) in saved_shapes(config, 0)[name] for name, tensor in tensors.items()} == \
        dict.fromkeys(saved_shapes(config, 0), True)
    again = RadianceModel(config, True, OPS)
    again.load(tensors)
    assert again.mirror.frame.equal(FRAME + 0.1) and again.mirror.is_glass.equal(model.mirror.is_glass)
    rays = rays_to_mirror(10)
    assert again.render(rays).rgb.equal(model.render(rays).rgb)
