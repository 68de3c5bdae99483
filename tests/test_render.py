import math
from dataclasses import replace

import pytest
import torch

from nerf_app import render
from nerf_app.ops.composite.reference import DARK
from nerf_app.rays import Rays, cast_rays
from nerf_app.render import SEEN, distance_of_light, over, render_samples
from nerf_app.sampling.samples import Samples
from nerf_app.sampling.uniform import spread_evenly
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch
from tests.analytic import BOX, AnalyticField, ball, crossing_rays, fog, free_rays, median_distance, orange, reference_ops


def rendered(rays, field, count=64, **options):
    return render_samples(rays, spread_evenly(rays, BOX, count, None), field, BOX, reference_ops(), **options)


def in_double(rays):
    return replace(rays, origins=rays.origins.double(), directions=rays.directions.double())


@pytest.mark.parametrize("density", [0.02, 0.7, 5.0])
@pytest.mark.parametrize("count", [1, 7, 256])
def test_fog_in_the_box_hides_as_much_as_it_should_however_it_is_cut(density, count):
    rays = crossing_rays(50)
    near, far = BOX.limits(rays.origins, rays.directions)
    seen = rendered(rays, fog(density), count)
    opacity = 1.0 - torch.exp(-density * (far - near))
    assert torch.allclose(seen.opacity, opacity, atol=DARK)  # the last ten-thousandth of the light is not followed
    median = near + math.log(2.0) / density
    assert torch.equal(median_distance(seen).isnan(), opacity < 0.5)
    assert torch.allclose(median_distance(seen), torch.where(opacity < 0.5, torch.nan, median), atol=1e-3, equal_nan=True)
    front = torch.where(opacity < 0.5, torch.nan, near - math.log(0.7) / density)
    assert torch.allclose(distance_of_light(seen, 0.3, reference_ops()), front, atol=1e-3, equal_nan=True)
    assert torch.allclose(seen.weights.view(50, count).sum(1), seen.opacity, atol=1e-5)


@pytest.mark.parametrize("density", [0.3, 3.0])
def test_the_mean_distance_in_fog_is_that_of_the_stopped_light(density):
    rays = crossing_rays(30)
    near, far = BOX.limits(rays.origins, rays.directions)
    length = far - near
    mean = near + 1.0 / density - length / torch.expm1(density * length)  # of an exponential law cut off at `length`
    assert torch.allclose(rendered(rays, fog(density), 400).distance, mean, atol=1e-3)


def test_fog_shows_its_colour_in_proportion_to_its_opacity():
    rays = crossing_rays(20)
    seen = rendered(rays, fog(2.0))
    assert torch.allclose(seen.rgb, seen.opacity[:, None] * orange(seen.rgb), atol=1e-5)


def test_a_wall_is_opaque_and_stands_where_it_stands():
    wall = AnalyticField(lambda points: 1e6 * (points[:, 2] < 0.25), lambda points: points.abs())
    rays = free_rays(torch.tensor([[0.1, -0.3, 4.0], [0.5, 0.5, 3.0]]), torch.tensor([[0.0, 0.0, -1.0], [-0.1, -0.2, -1.0]]))
    seen = rendered(rays, wall, 1000)
    distance = (rays.origins[:, 2] - 0.25) / -rays.directions[:, 2]
    step = 2.0 * 1.05 / 1000
    assert torch.allclose(seen.opacity, torch.ones(2))
    for found in (seen.distance, median_distance(seen)):
        assert ((found - distance).abs() < 2 * step).all()
    hits = rays.origins + distance[:, None] * rays.directions
    assert torch.allclose(seen.rgb, hits.abs(), atol=2 * step)


def test_nothing_shows_where_there_is_nothing():
    seen = rendered(crossing_rays(5), fog(0.0), with_normals=True)
    for value in (seen.rgb, seen.opacity, seen.distance, seen.normals):
        assert not value.any()
    assert median_distance(seen).isnan().all()


def test_there_may_be_rays_without_samples_and_no_rays():
    empty = torch.zeros(0)
    for count in (3, 0):
        zeros = torch.zeros(count, dtype=torch.int64)
        samples = Samples(empty, empty, torch.zeros(0, dtype=torch.int64), zeros, zeros, count)
        seen = render_samples(crossing_rays(count), samples, ball(0.5), BOX, reference_ops(), with_normals=True)
        assert seen.rgb.shape == seen.normals.shape == (count, 3)
        assert not seen.opacity.any() and median_distance(seen).isnan().all()


def test_unused_entries_of_a_buffer_change_nothing():
    rays, field = crossing_rays(6), ball(0.7)
    samples = spread_evenly(rays, BOX, 32, None)
    zeros = torch.zeros(11)
    padded = replace(samples, t_starts=torch.cat([samples.t_starts, zeros]), t_ends=torch.cat([samples.t_ends, zeros]),
                     ray_indices=torch.cat([samples.ray_indices, torch.full((11,), 6)]))
    plain, with_unused = (render_samples(rays, each, field, BOX, reference_ops(), with_normals=True)
                          for each in (samples, padded))
    assert torch.allclose(median_distance(with_unused), median_distance(plain), atol=1e-6, equal_nan=True)
    for name in ("rgb", "opacity", "distance", "normals"):
        assert torch.allclose(getattr(with_unused, name), getattr(plain, name), atol=1e-6, equal_nan=True), name
    assert not with_unused.weights[-11:].any()


@pytest.mark.parametrize("field", [ball(0.8), ball(0.5, 20.0, 0.1)])
def test_leaving_out_the_colour_of_what_is_hardly_seen_is_not_seen(field, monkeypatch):
    rays = crossing_rays(200)
    quick = rendered(rays, field, 300)
    monkeypatch.setattr(render, "SEEN", -1.0)
    exact = rendered(rays, field, 300)
    hidden = torch.where(quick.weights > SEEN, 0.0, quick.weights).view(200, 300).sum(1)  # what goes uncoloured on each ray
    assert ((exact.rgb - quick.rgb).abs().amax(1) <= hidden + 1e-6).all()
    assert (exact.rgb - quick.rgb).abs().max() < 1 / 255
    for name in ("opacity", "distance", "weights"):
        assert torch.equal(getattr(exact, name).nan_to_num(), getattr(quick, name).nan_to_num()), name


def test_normals_of_a_ball_point_outwards():
    rays = crossing_rays(300)
    nearest = (rays.origins - (rays.origins * rays.directions).sum(1, keepdim=True) * rays.directions).norm(dim=1)
    rays = Rays(*(value[nearest < 0.5] for value in vars(rays).values()))  # those that do not graze it
    seen = rendered(rays, ball(0.7), 400, with_normals=True)
    hits = rays.origins + median_distance(seen)[:, None] * rays.directions
    assert rays.count > 100
    assert torch.allclose(hits.norm(dim=1), torch.full((rays.count,), 0.7), atol=0.06)
    outwards = torch.nn.functional.normalize(hits, dim=1)
    assert (seen.normals.norm(dim=1) <= 1.0001).all()
    assert ((seen.normals * outwards).sum(1) > 0.99).all()


def test_asking_for_normals_changes_nothing_else():
    rays = crossing_rays(40)
    plain, rich = rendered(rays, ball(0.7)), rendered(rays, ball(0.7), with_normals=True)
    assert plain.normals is None
    for name in ("rgb", "opacity", "distance", "weights"):
        assert torch.equal(getattr(plain, name).nan_to_num(), getattr(rich, name).nan_to_num()), name


def test_without_gradients_there_are_normals_all_the_same():
    with torch.no_grad():
        seen = rendered(crossing_rays(10), ball(0.7), with_normals=True)
    assert seen.normals.abs().max() > 0.5
    assert not any(value.requires_grad for value in vars(seen).values() if torch.is_tensor(value))


@pytest.mark.parametrize("with_normals", [False, True])
def test_a_rendering_follows_small_moves_of_its_rays(with_normals):
    rays, field = in_double(crossing_rays(8)), ball(0.6, 8.0, 0.1)
    samples = spread_evenly(rays, BOX, 40, None)
    cotangents = torch.randn(8, 5, dtype=torch.float64)

    def pulled(origins, directions):
        moved = replace(rays, origins=origins, directions=directions)
        seen = render_samples(moved, samples, field, BOX, reference_ops(), with_normals=with_normals)
        return (torch.cat([seen.rgb, seen.opacity[:, None], seen.distance[:, None]], 1) * cotangents).sum()

    assert torch.autograd.gradcheck(pulled, (rays.origins.requires_grad_(), rays.directions.requires_grad_()), atol=1e-5)


def test_a_rendering_follows_small_moves_of_its_camera():
    camera = Camera(8, 8, 10.0, 10.0, 4.0, 4.0)
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = 3.0

    def opacity(pose):
        rays = cast_rays(CameraBatch.from_cameras([camera]), pose[None], torch.zeros(1, dtype=torch.int64),
                         torch.tensor([6.5]), torch.tensor([4.0]))
        return rendered(rays, ball(0.6, 3.0, 0.2), 100).opacity[0]

    (gradient,) = torch.autograd.grad(opacity(pose.requires_grad_()), pose)
    with torch.no_grad():
        for axis in range(3):
            step = torch.zeros_like(pose)
            step[axis, 3] = 1e-2
            numerical = float((opacity(pose + step) - opacity(pose - step)) / 2e-2)
            assert float(gradient[axis, 3]) == pytest.approx(numerical, rel=0.02, abs=1e-3)
    assert gradient[0, 3] < -0.1  # towards the ball's edge


def test_a_picture_stands_in_front_of_its_background():
    rays = crossing_rays(9)
    seen = rendered(rays, fog(0.5))
    papers = torch.rand(9, 3)
    assert torch.allclose(over(seen, papers), seen.rgb + (1 - seen.opacity[:, None]) * papers)
    assert torch.allclose(over(seen, papers[0]), over(seen, papers[:1].expand(9, 3)))
    assert torch.allclose(over(rendered(rays, fog(0.0)), papers), papers)
