from pathlib import Path

import numpy as np
import pytest
import torch

from nerf_app.rays import cast_rays, view_rays
from nerf_app.sampling.draws import Draws
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.images import Photos
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Normalisation, Scene, View
from nerf_app.training.batches import BESIDE, PixelBatches
from nerf_app.training.tiles import Tiles
from tests.analytic import reference_ops
from tests.sphere import look_at

SIZES = [(7, 5), (12, 9), (4, 20), (10, 10), (3, 3)]  # width, height
SPLITS = ["train", "val", "train", "test", "train"]


def labelled_scene(channels=4, ignored=None, lens=Lens()):
    """Photos of different sizes whose pixels say who they are: red the view, green the row, blue the column, alpha by row."""
    views, pixels, offsets, behind = [], [], [], 0
    for index, ((width, height), split) in enumerate(zip(SIZES, SPLITS, strict=True)):
        camera = Camera(width, height, 1.1 * width, 1.2 * width, 0.5 * width, 0.45 * height, lens)
        eye = np.array([np.cos(index), np.sin(index), 0.3]) * 4.0 + 100.0
        views.append(View(f"{index}.png", camera, look_at(eye, np.full(3, 100.0)), split))
        offsets.append(-1 if split == "test" else behind)
        if split != "test":
            rows, columns = np.divmod(np.arange(width * height), width)
            pixels.append(np.stack([np.full_like(rows, index), rows, columns, 255 - rows], 1)[:, :channels])
            behind += width * height
    sizes = torch.tensor(SIZES)
    store = torch.from_numpy(np.concatenate(pixels).astype(np.uint8))
    photos = Photos((), store, None if ignored is None else ignored(store), torch.tensor(offsets), sizes[:, 0], sizes[:, 1], "")
    return Scene(Path("labels"), Path("labels"), "blender", tuple(views), photos, Normalisation(np.full(3, 100.0), 0.5), True,
                 np.array([0.0, 0.0, 1.0]), None, None, (), ())


def draw(scene, count, step=0):
    ops = reference_ops()
    batches = PixelBatches(scene, ops)
    return batches.at(Tiles(batches.sizes, ops.device).draw(Draws(ops, 0, step), count))


def labels(batch):
    """View, row and column of each drawn pixel, as its colour says: [R], [R], [R] int64."""
    return (255 * batch.rgb).round().long().unbind(1)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_drawn_colour_belongs_to_its_ray(channels):
    scene = labelled_scene(channels)
    batch = draw(scene, 300)
    view, row, column = labels(batch)
    train = scene.indices("train")
    cameras = CameraBatch.from_cameras([scene.views[i].camera for i in train])
    poses = torch.from_numpy(np.stack([scene.normalisation.pose_to_scene(scene.views[i].world_from_camera) for i in train]))
    for position, index in enumerate(train):
        mine = view == index
        truth = view_rays(cameras, poses, position, row[mine], column[mine])
        assert (batch.rays.view_indices[mine] == position).all()
        for name in ("origins", "directions", "z_per_distance"):
            assert torch.equal(getattr(batch.rays, name)[mine], getattr(truth, name)), name
    assert torch.equal(batch.alpha, 1 - row / 255 if channels == 4 else torch.ones(300))
    assert batch.counts.all()


def test_two_rays_of_a_pixel_go_to_opposite_sides_of_its_middle_and_are_its_mean():
    scene, ops, count = labelled_scene(), reference_ops(), 400
    batches = PixelBatches(scene, ops)
    drawn = Tiles(batches.sizes, ops.device).draw(Draws(ops, 0, 0), count)
    one, two = batches.at(drawn), batches.at(drawn, rays_of_pixel=2)
    for name in ("rgb", "alpha", "counts"):
        assert torch.equal(getattr(two, name), getattr(one, name)), name
    assert torch.equal(two.of_rays(drawn.view), two.rays.view_indices) and torch.equal(one.of_rays(drawn.view), drawn.view)
    ways = set()
    for pixel in range(count):
        offsets = torch.tensor([way for beside in BESIDE for way in (beside, [-part for part in beside])])
        middles = torch.stack([drawn.column[pixel], drawn.row[pixel]]) + 0.5
        near = cast_rays(batches.cameras, batches.poses, drawn.view[pixel].expand(len(offsets)), *(middles + offsets).unbind(1))
        pair = two.rays.directions[2 * pixel:2 * pixel + 2]
        first = (near.directions - pair[0]).abs().amax(1).argmin()
        assert torch.equal(near.directions[first:first + 2], pair)
        ways.add(int(first))
    assert len(ways) == len(BESIDE)
    values = torch.randn(2 * count, 3)
    assert torch.allclose(two.mean(values), 0.5 * (values[::2] + values[1::2]))
    assert torch.equal(one.mean(values[:count]), values[:count])


@pytest.mark.parametrize("degrees", [0, 45, 90, 135])
def test_the_two_rays_of_a_pixel_spread_as_its_area_does_in_every_direction(degrees):
    across = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    assert np.mean((np.array(BESIDE) @ across) ** 2) == pytest.approx(1 / 12, rel=0.2)


def test_only_training_photos_are_drawn_and_each_of_their_pixels_as_often():
    count = 60_000
    view, row, column = labels(draw(labelled_scene(), count))
    assert set(view.tolist()) == {0, 2, 4}
    pixels = sum(width * height for (width, height), split in zip(SIZES, SPLITS, strict=True) if split == "train")
    found, times = torch.stack([view, row, column], 1).unique(dim=0, return_counts=True)
    assert len(found) == pixels  # none was missed
    expected = count / pixels
    chi_square = float(((times - expected) ** 2 / expected).sum())
    assert abs(chi_square - (pixels - 1)) < 5 * (2 * (pixels - 1)) ** 0.5


def test_steps_draw_anew_and_the_same_step_the_same():
    scene = labelled_scene()
    first, again, other = draw(scene, 50, step=3), draw(scene, 50, step=3), draw(scene, 50, step=4)
    assert torch.equal(first.rgb, again.rgb) and not torch.equal(first.rgb, other.rgb)


def test_ignored_pixels_do_not_count():
    batch = draw(labelled_scene(ignored=lambda pixels: pixels[:, 1] % 3 == 0), 500)
    _, row, _ = labels(batch)
    assert torch.equal(batch.counts, row % 3 != 0)
    assert 0.3 < batch.counts.float().mean() < 0.9


def test_pixels_that_the_lens_does_not_vouch_for_do_not_count():
    scene = labelled_scene(lens=Lens(radial=(-0.8, 0.0, 0.0, 0.0)), ignored=lambda pixels: pixels[:, 2] == 1)
    batch = draw(scene, 500)
    _, _, column = labels(batch)
    assert torch.equal(batch.counts, batch.rays.is_valid & (column != 1))
    assert 0.1 < batch.rays.is_valid.float().mean() < 0.9


def test_photos_stay_bytes():
    scene = labelled_scene()
    batches = PixelBatches(scene, reference_ops())
    held = [value for part in (batches, batches.cameras) for value in vars(part).values()
            if isinstance(value, torch.Tensor) and value is not batches.pixels]
    assert batches.pixels.dtype == torch.uint8
    assert scene.photos.pixels.data_ptr() == batches.pixels.data_ptr()  # on a CPU; on a GPU a copy lies there
    assert all(value.shape[:1] != batches.pixels.shape[:1] for value in held)
