from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf_app.export.mesh_check import check_mesh
from nerf_app.export.sightings import Sightings, exposure_gains
from nerf_app.export.texture import divided, filled, texture_mesh, texture_size
from nerf_app.scene.camera import Lens
from tests import sphere
from tests.export.shape_run import edge_counts, quiet
from tests.export.sheets import CAMERA, ORANGE, Sheet, painted, photograph, run_of, scene_of
from tests.export.stand_in import pose_looking
from tests.export.test_visibility import ball, together

GREY = painted(0.5, 0.6, 0.7)
GREY_BYTES = np.array([127.5, 153.0, 178.5])
ABOVE = [pose_looking([x, y, 3.0], [0.0, 0.0, 0.0], up=(0.0, 1.0, 0.0))
         for x, y in ((-1.2, 0), (1.2, 0), (0, 1.2), (0, -1.2), (0, 0))]
RIM = 0.12  # units: nearer to the rim of a sheet a photo's pixels are not all sheet, and the field may have its say


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def round_ball(splits=4):
    mesh = ball(splits, sphere.RADIUS, sphere.CENTRE)
    return replace(mesh, normals=((mesh.vertices - sphere.CENTRE) / sphere.RADIUS).astype(np.float32))


def with_pixels(scene, change):
    """The scene with `change`(photo's number, its pixels [H, W, C] float64) in place of each photo's pixels."""
    parts = [change(i, scene.photos.picture(i)[0].numpy().astype(float)) for i in range(len(scene.views))]
    pixels = torch.from_numpy(np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts]).round().astype(np.uint8))
    return replace(scene, photos=replace(scene.photos, pixels=pixels))


def colours_of(scene, mesh, **how):
    """The vertices' colours [V, 3] as numbers, V those of the mesh that was given; of those there twice, both are looked at."""
    textured = texture_mesh(run_of(scene), scene, mesh, quiet, **how)
    assert textured.texture.dtype == textured.colours.dtype == np.uint8 and textured.texture.any(2).all()
    assert (textured.vertices[textured.faces] == mesh.vertices[mesh.faces]).all()
    colours = np.zeros((len(mesh.vertices), 3))
    colours[mesh.faces] = textured.colours[textured.faces]
    return colours


def off_the_rim(mesh, height=0.0, half_size=0.7):
    """Vertices [V] of a sheet at a height that photos show well."""
    return (mesh.vertices[:, 2] == height) & (np.abs(mesh.vertices[:, :2]) < half_size - RIM).all(1)


def assert_grey_or_orange(colours):
    """Nothing but the sheet's grey and the field's orange, in any mixture, is in colours [V, 3]."""
    way = ORANGE - GREY_BYTES
    share = ((colours - GREY_BYTES) @ way / (way @ way)).clip(0.0, 1.0)
    assert np.abs(colours - GREY_BYTES - share[:, None] * way).max() < 6


def test_a_ball_gets_its_own_colours_back():
    scene, mesh = sphere.sphere_scene(24, 96), round_ball()
    textured = texture_mesh(run_of(scene), scene, mesh, quiet)
    apart = np.abs(textured.colours - 255 * sphere._colour(textured.vertices)).max(1)
    assert np.median(apart) < 2 and np.quantile(apart, 0.98) < 6
    assert check_mesh(run_of(scene), scene, textured)["psnr"] > 33


@pytest.mark.parametrize("lens", [Lens(radial=(-0.1, 0.02, 0.0, 0.0)), Lens("fisheye")], ids=["bent", "fisheye"])
def test_photos_are_looked_up_through_their_lens(lens):
    def striped(x, y):
        return 0.5 + 0.3 * np.stack([np.sin(4 * x), np.sin(4 * y), np.sin(3 * (x + y))], 1)
    camera, sheet = replace(CAMERA, lens=lens), Sheet(0.0, 0.9, striped)
    scene = scene_of([photograph(camera, pose, [sheet]) for pose in ABOVE], ABOVE, camera)
    mesh = sheet.mesh(32)
    apart = np.abs(colours_of(scene, mesh) - 255 * striped(*mesh.vertices[:, :2].T)).max(1)
    assert apart[off_the_rim(mesh, half_size=0.9)].max() < 8


def test_photos_of_different_exposure_give_an_even_texture():
    scene, mesh = sphere.sphere_scene(24, 64), round_ball(3)
    factors = np.where(np.arange(24) % 3 == 0, 0.7, 1.0)
    uneven = with_pixels(scene, lambda i, pixels: pixels * [factors[i]] * np.array([1, 1, 1, 1 / factors[i]]))
    ratios = colours_of(uneven, mesh) / colours_of(scene, mesh)
    neutral = np.exp(np.log(factors[scene.indices("train")]).mean())
    assert np.abs(ratios.mean(0) / neutral - 1).max() < 0.02 and ratios.std(0).max() < 0.03


def test_gains_undo_what_was_done_to_the_photos_and_their_mean_is_neutral():
    done = torch.tensor([[1.0, 0.8, 1.2], [0.7, 1.0, 1.0], [1.3, 1.1, 0.9], [1.0, 1.0, 1.1]])  # [P, 3]
    own = 0.2 + 0.4 * torch.rand(300, 3)
    vertices, photos = (part.flatten() for part in torch.meshgrid(torch.arange(300), torch.arange(4), indexing="ij"))
    seen = Sightings(vertices, photos, torch.rand(1200) + 0.1, own[vertices] * done[photos])
    gains = exposure_gains(seen, 300, 4)
    assert float(gains.log().mean(0).abs().max()) < 1e-6
    evened = done * gains
    assert float((evened / evened.mean(0) - 1).abs().max()) < 0.02


def test_what_stands_in_front_does_not_print_on_what_is_behind():
    sheets = [Sheet(0.0, 0.9, GREY), Sheet(0.6, 0.3, painted(1.0, 0.0, 0.0))]
    scene = scene_of([photograph(CAMERA, pose, sheets) for pose in ABOVE[:4]], ABOVE[:4])
    mesh = together(sheets[0].mesh(30), sheets[1].mesh(10))
    mesh = replace(mesh, normals=np.full((len(mesh.vertices), 3), [0, 0, 1], np.float32))
    colours = colours_of(scene, mesh)
    below = off_the_rim(mesh, half_size=0.9)
    assert_grey_or_orange(colours[mesh.vertices[:, 2] == 0])  # right below the middle no photo sees it
    assert np.quantile(np.abs(colours[below] - GREY_BYTES), 0.9) < 4
    assert np.abs(colours[off_the_rim(mesh, 0.6, half_size=0.3)] - [255, 0, 0]).max() < 4


def test_what_lies_behind_an_alpha_edge_does_not_bleed():
    sheet = Sheet(0.0, 0.7, GREY)
    scene = scene_of([photograph(CAMERA, pose, [sheet]) for pose in ABOVE], ABOVE)
    def green_outside(i, pixels):
        return np.where(pixels[..., 3:] > 0, pixels, [0.0, 255.0, 0.0, 0.0])
    mesh = sheet.mesh()
    colours = colours_of(with_pixels(scene, green_outside), mesh)
    assert np.abs(colours[off_the_rim(mesh)] - GREY_BYTES).max() < 4
    assert_grey_or_orange(colours)


def test_ignored_pixels_lend_no_colour():
    sheet = Sheet(0.0, 0.9, GREY)
    pictures = [photograph(CAMERA, pose, [sheet])[..., :3].copy() for pose in ABOVE]
    ignored = [np.zeros((96, 96), bool) for _ in ABOVE]
    for i, (picture, mask) in enumerate(zip(pictures, ignored, strict=True)):
        mask[20 + 12 * i:40 + 12 * i, 30:70] = True
        picture[mask] = [255, 0, 0]
    assert np.abs(colours_of(scene_of(pictures, ABOVE, ignored=ignored), Sheet(0.0, 0.8, GREY).mesh()) - GREY_BYTES).max() < 4


def test_somebody_in_one_photo_does_not_show():
    sheet = Sheet(0.0, 1.5, GREY)
    pictures = [photograph(CAMERA, pose, [sheet])[..., :3].copy() for pose in ABOVE]
    pictures[4][30:70, 30:70] = [20, 20, 200]  # the photo that looks straight down, and so counts most
    apart = np.abs(colours_of(scene_of(pictures, ABOVE), Sheet(0.0, 0.8, GREY).mesh()) - GREY_BYTES).max(1)
    assert apart.max() < 8


def test_what_no_photo_sees_gets_the_fields_colour():
    top, bottom = Sheet(0.0, 0.7, GREY), Sheet(-0.5, 0.7, GREY, faces_up=False)
    scene = scene_of([photograph(CAMERA, pose, [top, bottom]) for pose in ABOVE], ABOVE)
    mesh = together(top.mesh(), bottom.mesh())
    is_top = mesh.vertices[:, 2] == 0
    mesh = replace(mesh, normals=np.where(is_top[:, None], [0, 0, 1], [0, 0, -1]).astype(np.float32))
    colours = colours_of(scene, mesh)
    assert np.abs(colours[off_the_rim(mesh)] - GREY_BYTES).max() < 4
    assert np.abs(colours[~is_top] - ORANGE).max() < 2


def test_a_mesh_that_no_photo_sees_is_said_and_gets_the_fields_colour():
    mesh = Sheet(0.0, 0.5, GREY, faces_up=False).mesh(4)
    scene = scene_of([photograph(CAMERA, pose, []) for pose in ABOVE[:2]], ABOVE[:2])
    with pytest.warns(UserWarning, match="no photo sees the mesh"):
        assert np.abs(colours_of(scene, mesh) - ORANGE).max() < 2


def test_seams_do_not_show():
    scene, mesh = sphere.sphere_scene(24, 64), round_ball(3)
    textured = texture_mesh(run_of(scene), scene, mesh, quiet)
    _, numbers = np.unique(textured.vertices, axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    low, high = np.full((numbers.max() + 1, 3), 255), np.zeros((numbers.max() + 1, 3), int)
    np.minimum.at(low, numbers, textured.colours)
    np.maximum.at(high, numbers, textured.colours)
    assert len(low) < len(textured.vertices) and np.quantile(high - low, 0.95) <= 6


def test_a_texel_is_about_half_as_wide_as_a_pixel_on_the_surface():
    mesh, scene = Sheet(0.0, 1.0, GREY).mesh(), scene_of([np.zeros((96, 96, 3), np.uint8)], ABOVE[4:])
    size = texture_size(mesh, scene.views)  # 2 units wide, 3 away, 110 pixels to a unit at 1: 73 pixels, so the least there is
    assert size == 256
    near = [replace(scene.views[0], camera=replace(CAMERA, focal_x_px=1100.0, focal_y_px=1100.0))]
    assert texture_size(mesh, near) in (1024, 2048)  # 733 pixels


def test_divided_meshes_have_short_edges_no_gaps_and_the_same_area():
    mesh = round_ball(1)
    mesh = replace(mesh, uvs=np.zeros((len(mesh.vertices), 2), np.float32))
    fine = divided(mesh, 0.2)
    corners = fine.vertices[fine.faces]
    assert np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max() <= 0.2 and (edge_counts(fine.faces) >= 1).all()
    def area(one):
        a, b, c = one.vertices[one.faces].transpose(1, 0, 2)
        return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    assert area(fine) == pytest.approx(area(mesh)) and np.allclose(np.linalg.norm(fine.normals, axis=1), 1)


def test_gaps_are_filled_with_what_lies_around_them():
    values, is_set = torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    values[..., 10:20, 10:20], is_set[..., 10:20, 10:20] = 0.25, 1.0
    values[..., 40:50, 40:50], is_set[..., 40:50, 40:50] = 0.75, 1.0
    whole = filled(values, is_set)
    assert float((whole[..., 6:24, 6:24] - 0.25).abs().max()) < 1e-6
    assert 0.25 - 1e-6 <= float(whole.min()) and float(whole.max()) <= 0.75 + 1e-6
