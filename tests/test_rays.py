import numpy as np
import pytest
import torch

from nerf_app.rays import cast_rays, view_rays
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Normalisation
from tests.sphere import CENTRE, RADIUS, look_at, photograph, sphere_scene

PINHOLE = Camera(40, 30, 50.0, 55.0, 19.0, 16.0)
CAMERAS = [
    PINHOLE,
    Camera(64, 48, 60.0, 60.0, 32.0, 24.0, Lens(radial=(-0.1, 0.02, 0.0, 0.0), tangential=(1e-3, -2e-3))),
    Camera(50, 50, 16.0, 16.0, 25.0, 25.0, Lens("fisheye", radial=(0.01, 0.0, 0.0, 0.0))),
    Camera(80, 40, 1.0, 1.0, 1.0, 1.0, Lens("equirectangular")),
]


def some_poses(count):
    """[count, 4, 4] float64."""
    eyes = np.random.default_rng(1).normal(size=(count, 3)) * 3.0
    return torch.from_numpy(np.stack([look_at(eye, np.zeros(3)) for eye in eyes]))


def all_pixels(camera):
    """Rows [H·W], columns [H·W]."""
    pixels = torch.arange(camera.width * camera.height)
    return pixels // camera.width, pixels % camera.width


def test_rays_meet_the_ball_where_the_photos_show_it():
    scene = sphere_scene(n_views=3, size=24)
    camera, to_scene = scene.views[0].camera, scene.normalisation
    batch = CameraBatch.from_cameras([view.camera for view in scene.views])
    poses = torch.from_numpy(np.stack([to_scene.pose_to_scene(view.world_from_camera) for view in scene.views]))
    centre, radius = torch.from_numpy(to_scene.to_scene(CENTRE)).float(), RADIUS * to_scene.scale
    for index, view in enumerate(scene.views):
        rays = view_rays(batch, poses, index, *all_pixels(camera))
        middle = ((centre - rays.origins) * rays.directions).sum(1)  # distance to the point nearest to the centre
        miss = (rays.origins + middle[:, None] * rays.directions - centre).norm(dim=1)
        alpha = scene.photos.picture(index)[0][..., 3].reshape(-1)
        assert (miss[alpha == 255] < radius).all()
        assert (miss[alpha == 0] > radius).all()
        truth = torch.from_numpy(photograph(camera, view.world_from_camera)[1]).reshape(-1)  # input units
        z = (middle - (radius**2 - miss**2).clamp(min=0.0).sqrt()) * rays.z_per_distance / to_scene.scale
        is_hit = (miss < radius)
        assert torch.equal(is_hit, ~truth.isnan())
        assert torch.allclose(z[is_hit], truth[is_hit].float(), rtol=1e-4)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.lens.family)
def test_a_point_on_a_ray_falls_back_on_its_pixel_and_has_the_z_depth_promised(camera):
    batch, pose = CameraBatch.from_cameras([camera]), some_poses(1)
    rows, columns = all_pixels(camera)
    rays = view_rays(batch, pose, 0, rows, columns)
    assert torch.allclose(rays.directions.norm(dim=1), torch.ones(rays.count), atol=1e-6)
    distance = 1.0 + torch.arange(rays.count) % 7
    points = (rays.origins + distance[:, None] * rays.directions).double()
    local = (points - pose[0, :3, 3]) @ pose[0, :3, :3]
    x, y, _ = batch.project(torch.zeros(rays.count, dtype=torch.int64), local)
    assert torch.allclose(-local[:, 2], (distance * rays.z_per_distance).double(), atol=1e-5)
    valid = rays.is_valid
    assert valid.float().mean() > 0.7
    assert torch.allclose(torch.stack([x, y], 1)[valid], torch.stack([columns, rows], 1)[valid].double() + 0.5, atol=1e-3)


def test_a_batch_of_different_cameras_gives_each_the_rays_it_has_alone():
    poses, batch = some_poses(len(CAMERAS)), CameraBatch.from_cameras(CAMERAS)
    which = torch.randint(len(CAMERAS), (300,))
    x = torch.rand(300) * torch.tensor([camera.width for camera in CAMERAS])[which]
    y = torch.rand(300) * torch.tensor([camera.height for camera in CAMERAS])[which]
    mixed = cast_rays(batch, poses, which, x, y)
    assert torch.equal(mixed.view_indices, which)
    for index, camera in enumerate(CAMERAS):
        mine = which == index
        alone = cast_rays(CameraBatch.from_cameras([camera]), poses[[index]], torch.zeros_like(which[mine]), x[mine], y[mine])
        for name in ("origins", "directions", "z_per_distance", "is_valid"):
            assert torch.equal(getattr(mixed, name)[mine], getattr(alone, name)), name


def test_rays_follow_small_changes_of_their_poses():
    poses = some_poses(2).requires_grad_()
    which, x, y = torch.tensor([0, 1, 1, 0]), torch.tensor([3.5, 20.0, 39.5, 0.5]), torch.tensor([2.5, 12.0, 29.5, 0.5])
    rays = cast_rays(CameraBatch.from_cameras([PINHOLE, PINHOLE]), poses, which, x, y)
    inside, _ = CameraBatch.from_cameras([PINHOLE]).directions(torch.zeros_like(which), x, y)
    d_origins, d_directions = torch.randn(2, 4, 3)
    (d_poses,) = torch.autograd.grad((rays.origins, rays.directions), poses, (d_origins, d_directions))
    truth = torch.zeros_like(poses)
    for ray, view in enumerate(which.tolist()):  # an origin is the last column, a direction the turn times what the lens says
        truth[view, :3, 3] += d_origins[ray]
        truth[view, :3, :3] += d_directions[ray][:, None] * inside[ray]
    assert torch.allclose(d_poses, truth, atol=1e-6)


def test_rays_of_a_scene_in_survey_coordinates_are_those_of_the_same_scene_at_the_origin():
    offset = np.array([498_765.25, 5_412_345.75, 612.5])  # metres east, north, up
    here, there = some_poses(5).numpy(), some_poses(5).numpy()
    there[:, :3, 3] += offset
    rows, columns = all_pixels(PINHOLE)
    batch = CameraBatch.from_cameras([PINHOLE] * 5)
    for view in range(5):
        near = view_rays(batch, torch.from_numpy(Normalisation(np.zeros(3), 0.5).pose_to_scene(here)), view, rows, columns)
        far = view_rays(batch, torch.from_numpy(Normalisation(offset, 0.5).pose_to_scene(there)), view, rows, columns)
        assert torch.allclose(near.origins, far.origins, atol=1e-7, rtol=1e-6)
        assert torch.equal(near.directions, far.directions)
