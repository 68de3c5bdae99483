import cv2
import numpy as np
import pytest
import torch

from nerf_app.errors import DataError
from nerf_app.scene.camera import LENS_FAMILIES, Camera, Lens
from nerf_app.scene.colmap_models import MODEL_NAMES, NOT_READ, camera_from_colmap
from nerf_app.scene.lenses import CameraBatch, valid_radius
from tests.requires import requires

SIZE = (640, 480)
FOCAL = (420.0, 431.0)
CENTRE = (311.5, 249.25)
COLMAP_PARAMS = {
    0: (420.0, 311.5, 249.25),
    1: (*FOCAL, *CENTRE),
    2: (420.0, *CENTRE, -0.11),
    3: (420.0, *CENTRE, -0.11, 0.03),
    4: (*FOCAL, *CENTRE, -0.11, 0.03, 0.004, -0.006),
    5: (*FOCAL, *CENTRE, 0.05, -0.02, 0.006, -0.001),
    6: (*FOCAL, *CENTRE, -0.21, 0.09, 0.004, -0.006, 0.012, 0.02, 0.03, 0.004),
    7: (*FOCAL, *CENTRE, 0.92),
    8: (420.0, *CENTRE, 0.07),
    9: (420.0, *CENTRE, 0.07, -0.02),
    10: (*FOCAL, *CENTRE, 0.05, -0.02, 0.003, -0.002, 0.006, -0.001, 0.004, -0.003),
    14: (420.0, *CENTRE),
    15: (*FOCAL, *CENTRE),
    17: (640.0, 480.0),
}
LENSES = {
    "none": Lens(),
    "barrel": Lens(radial=(-0.28, 0.11, -0.02, 0.0)),
    "pincushion": Lens(radial=(0.4, 0.3, 0.0, 0.0)),
    "rational": Lens(radial=(4.2, 3.1, 0.2, 0.0), denominator=(4.5, 4.6, 1.1), tangential=(0.002, -0.003)),
    "prism": Lens(radial=(-0.1, 0.02, 0.0, 0.003), tangential=(0.01, 0.02), prism=(0.01, 0.002, -0.02, 0.001)),
    "equidistant": Lens("fisheye"),
    "fisheye": Lens("fisheye", radial=(0.05, -0.02, 0.006, -0.001), tangential=(0.004, -0.003), prism=(0.002, 0.0, 0.001, 0.0)),
    "fov": Lens("fov", omega=1.1),
    "fov of nothing": Lens("fov"),
    "panorama": Lens("equirectangular"),
}


def camera_with(lens: Lens, focal: tuple[float, float] = FOCAL) -> Camera:
    return Camera(*SIZE, *focal, *CENTRE, lens)


def pixel_grid(width: int = SIZE[0], height: int = SIZE[1], step: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(0, height + 1, step), torch.arange(0, width + 1, step), indexing="ij")
    return x.flatten().double(), y.flatten().double()


def look(camera: Camera, x_px, y_px) -> tuple[torch.Tensor, torch.Tensor]:
    return CameraBatch.from_cameras([camera]).directions(torch.zeros(len(x_px), dtype=torch.int64), x_px, y_px)


def fall(camera: Camera, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x, y, is_visible = CameraBatch.from_cameras([camera]).project(torch.zeros(len(points), dtype=torch.int64), points)
    return torch.stack([x, y], 1), is_visible


def points_ahead(count: int = 500, spread: float = 0.6) -> np.ndarray:
    """[count, 3] in OpenCV axes."""
    xy = np.random.default_rng(1).uniform(-spread, spread, (count, 2))
    return np.concatenate([xy, np.ones((count, 1))], 1) * np.random.default_rng(2).uniform(0.5, 9, (count, 1))


def to_opengl(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(points * [1.0, -1.0, -1.0])


@pytest.mark.parametrize("lens, opencv", [
    (Lens(), (0.0,) * 4),
    (Lens(radial=(-0.2, 0.05, -0.01, 0.0), tangential=(0.003, -0.004)), (-0.2, 0.05, 0.003, -0.004, -0.01)),
    (Lens(radial=(0.9, 0.2, 0.05, 0.0), denominator=(0.8, 0.3, 0.1), tangential=(0.003, -0.004)),
     (0.9, 0.2, 0.003, -0.004, 0.05, 0.8, 0.3, 0.1)),
    (Lens(radial=(0.9, 0.2, 0.05, 0.0), denominator=(0.8, 0.3, 0.1), tangential=(0.003, -0.004), prism=(0.01, 0.02, -0.03, 0.04)),
     (0.9, 0.2, 0.003, -0.004, 0.05, 0.8, 0.3, 0.1, 0.01, 0.02, -0.03, 0.04)),
], ids=["pinhole", "5 numbers", "8 numbers", "12 numbers"])
def test_a_perspective_lens_projects_as_opencv_does(lens, opencv):
    matrix = np.array([[FOCAL[0], 0, CENTRE[0]], [0, FOCAL[1], CENTRE[1]], [0, 0, 1]])
    points = points_ahead()
    truth, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(opencv))
    pixels, is_visible = fall(camera_with(lens), to_opengl(points))
    np.testing.assert_allclose(pixels, truth[:, 0], atol=1e-9)
    inside = ((truth[:, 0] >= 0) & (truth[:, 0] <= SIZE)).all(1)
    assert is_visible.numpy().tolist() == inside.tolist()


def test_a_fisheye_lens_projects_as_opencv_does():
    matrix = np.array([[FOCAL[0], 0, CENTRE[0]], [0, FOCAL[1], CENTRE[1]], [0, 0, 1]])
    points = points_ahead(spread=3.0)
    radial = (0.05, -0.02, 0.006, -0.001)
    truth, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(radial))
    pixels, _ = fall(camera_with(Lens("fisheye", radial=radial)), to_opengl(points))
    np.testing.assert_allclose(pixels, truth[:, 0], atol=1e-9)


@requires("pycolmap")
@pytest.mark.parametrize("model_id", COLMAP_PARAMS, ids=MODEL_NAMES.get)
def test_every_colmap_model_agrees_with_colmap_in_both_directions(model_id):
    import pycolmap
    theirs = pycolmap.Camera(model=MODEL_NAMES[model_id], width=SIZE[0], height=SIZE[1], params=COLMAP_PARAMS[model_id])
    ours = camera_from_colmap(model_id, *SIZE, COLMAP_PARAMS[model_id])
    points = points_ahead() if model_id != 17 else np.random.default_rng(0).normal(size=(500, 3))
    pixels, is_visible = fall(ours, to_opengl(points))
    np.testing.assert_allclose(pixels, theirs.img_from_cam(points), atol=1e-9)
    assert is_visible.any()
    x, y = pixel_grid(step=40)
    directions, is_valid = look(ours, x, y)
    assert is_valid.all()
    rays = (directions * torch.tensor([1.0, -1.0, -1.0])).numpy()
    np.testing.assert_allclose(theirs.img_from_cam(rays)[:, 1], y, atol=1e-8)
    if model_id != 17:  # COLMAP's own inverse returns x / z, which a panorama has not
        plane = np.stack([theirs.cam_from_img(pixel) for pixel in torch.stack([x, y], 1).numpy()])
        np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], plane, atol=1e-7)


def test_a_thin_prism_fisheye_adds_its_terms_to_theta_times_the_direction():
    points = points_ahead(spread=1.5)
    x, y, z = points.T
    across = np.hypot(x, y)
    theta = np.arctan2(across, z)
    u, v, s = theta * x / across, theta * y / across, theta**2
    lens = LENSES["fisheye"]
    (k1, k2, k3, k4), (p1, p2), (sx, _, sy, _) = lens.radial, lens.tangential, lens.prism
    factor = 1 + k1 * s + k2 * s**2 + k3 * s**3 + k4 * s**4
    truth = np.stack([u * factor + 2 * p1 * u * v + p2 * (s + 2 * u * u) + sx * s,
                      v * factor + 2 * p2 * u * v + p1 * (s + 2 * v * v) + sy * s], 1)
    np.testing.assert_allclose(fall(camera_with(lens), to_opengl(points))[0], truth * FOCAL + CENTRE, atol=1e-9)


@pytest.mark.parametrize("name", LENSES)
def test_projection_undoes_directions_to_a_billionth_of_a_pixel(name):
    camera = camera_with(LENSES[name])
    x, y = pixel_grid()
    directions, is_valid = look(camera, x, y)
    assert is_valid.all()
    torch.testing.assert_close(directions.norm(dim=1), torch.ones_like(x), atol=1e-14, rtol=0)
    pixels, _ = fall(camera, directions * 7.5)
    gap = (pixels - torch.stack([x, y], 1)).abs()
    gap[:, 0] = torch.minimum(gap[:, 0], (gap[:, 0] - SIZE[0]).abs() if name == "panorama" else gap[:, 0])  # its seam
    if name == "panorama":
        gap = gap[(y > 0) & (y < SIZE[1])]  # a pole has every longitude
    assert gap.max() < 1e-9


def test_a_fisheye_sees_behind_itself():
    lens = Lens("fisheye", radial=(0.02, -0.003, 0.0, 0.0))
    camera = Camera(1000, 1000, 230.0, 230.0, 500.0, 500.0, lens)  # the circle of 115 degrees off axis is inside
    x, y = torch.tensor([500.0, 970.0, 500.0, 30.0]).double(), torch.tensor([500.0, 500.0, 970.0, 500.0]).double()
    directions, is_valid = look(camera, x, y)
    assert is_valid.all()
    angles = torch.rad2deg(torch.acos(-directions[:, 2]))
    assert angles[0] == 0
    assert (angles[1:] > 110).all()
    assert directions[1, 0] > 0.8 and directions[2, 1] < -0.8  # right is +x, down is -y
    pixels, is_visible = fall(camera, directions)
    assert is_visible.all()
    torch.testing.assert_close(pixels, torch.stack([x, y], 1), atol=1e-9, rtol=0)


def test_the_point_exactly_behind_a_fisheye_is_nowhere():
    _, is_visible = fall(camera_with(Lens("fisheye"), (50.0, 50.0)), torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]))
    assert is_visible.tolist() == [False, True]


def test_the_radius_of_validity_is_where_the_radial_map_folds():
    assert valid_radius(Lens(radial=(-0.3, 0.0, 0.0, 0.0))) == pytest.approx(1 / 0.9**0.5, rel=1e-12)
    assert valid_radius(Lens(denominator=(-0.25, 0.0, 0.0))) == pytest.approx(2.0, rel=1e-12)  # a pole
    assert valid_radius(Lens(denominator=(0.25, 0.0, 0.0))) == pytest.approx(2.0, rel=1e-12)  # r / (1 + r²/4) falls from 2
    assert valid_radius(Lens(radial=(0.3, 0.0, 0.0, 0.0))) == np.inf
    assert valid_radius(Lens("fisheye")) == np.pi
    for lens in LENSES.values():
        r = np.linspace(0, min(valid_radius(lens), 20), 10_000)
        k, d = lens.radial, lens.denominator
        bent = (r * (1 + k[0] * r**2 + k[1] * r**4 + k[2] * r**6 + k[3] * r**8) / (1 + d[0] * r**2 + d[1] * r**4 + d[2] * r**6))
        assert (np.diff(bent) > 0).all()


def test_pixels_and_points_beyond_the_fold_are_not_valid():
    camera = Camera(1000, 1000, 400.0, 400.0, 500.0, 500.0, Lens(radial=(-0.3, 0.0, 0.0, 0.0)))
    fold = 400 * (2 / 3) / 0.9**0.5  # picture radius of the fold, pixels
    x = 500 + torch.tensor([0.0, 0.5, 0.99, 0.999999, 1.000001, 1.01, 1.7]).double() * fold
    directions, is_valid = look(camera, x, torch.full_like(x, 500.0))
    assert is_valid.tolist() == [True] * 4 + [False] * 3
    assert torch.isfinite(directions).all()
    tangents = torch.tensor([1.05, 1.06, 1.5]).double()  # the middle one would fall inside the image again
    pixels, is_visible = fall(camera, torch.stack([tangents, 0 * tangents, -torch.ones_like(tangents)], 1))
    assert is_visible.tolist() == [True, False, False]
    assert torch.isfinite(pixels).all()


def test_what_is_behind_or_beside_the_picture_is_not_visible():
    points = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [5.0, 0.0, -1.0], [0.0, 5.0, -1.0]])
    for lens in (LENSES["none"], LENSES["barrel"], LENSES["fov"]):
        assert fall(camera_with(lens), points)[1].tolist() == [True, False, False, False, False]


def test_a_panorama_looks_ahead_in_the_middle_and_all_round():
    camera = Camera(800, 400, 400.0, 400.0, 400.0, 200.0, Lens("equirectangular"))
    x, y = torch.tensor([400.0, 600.0, 200.0, 400.0, 400.0, 0.0]).double(), torch.tensor([200.0, 200.0, 200.0, 0.0, 400.0, 200.0])
    directions, is_valid = look(camera, x, y)
    truth = torch.tensor([[0, 0, -1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]]).double()
    torch.testing.assert_close(directions, truth, atol=1e-12, rtol=0)
    assert is_valid.all()
    assert not look(camera, torch.tensor([400.0]), torch.tensor([401.0]))[1].any()


def test_a_mixed_batch_equals_its_cameras_one_by_one():
    cameras = [camera_with(lens, (FOCAL[0] + 10 * i, FOCAL[1])) for i, lens in enumerate(LENSES.values())]
    batch = CameraBatch.from_cameras(cameras)
    x, y = pixel_grid(step=7)
    which = torch.randint(len(cameras), x.shape)
    directions, is_valid = batch.directions(which, x, y)
    x_px, y_px, is_visible = batch.project(which, directions * 3)
    for i, camera in enumerate(cameras):
        mine = which == i
        alone, is_valid_alone = look(camera, x[mine], y[mine])
        assert torch.equal(directions[mine], alone)
        assert torch.equal(is_valid[mine], is_valid_alone)
        pixels, is_visible_alone = fall(camera, alone * 3)
        assert torch.equal(torch.stack([x_px, y_px], 1)[mine], pixels)
        assert torch.equal(is_visible[mine], is_visible_alone)


@pytest.mark.parametrize("name", LENSES)
def test_a_resized_camera_looks_the_same_way_through_scaled_pixels(name):
    camera = camera_with(LENSES[name])
    x, y = pixel_grid()
    directions, is_valid = look(camera, x, y)
    small, is_valid_small = look(camera.resized(160, 240), x / 4, y / 2)
    assert torch.equal(is_valid, is_valid_small)
    torch.testing.assert_close(small, directions, atol=1e-12, rtol=0)


@pytest.mark.parametrize("family", ["perspective", "fisheye"])
def test_strong_lenses_of_any_shape_are_inverted(family):
    random = np.random.default_rng(5)
    rays = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(3000, 3))))
    seen = lost = mistaken = 0
    for _ in range(40):
        lens = Lens(family, radial=tuple(random.normal(0, (0.3, 0.1, 0.05, 0.02))),
                    tangential=tuple(random.normal(0, 0.02, 2)), prism=tuple(random.normal(0, 0.01, 4)))
        camera = camera_with(lens, (300.0, 310.0))
        pixels, is_visible = fall(camera, rays)
        back, is_valid = look(camera, *pixels[is_visible].unbind(1))
        assert (fall(camera, back)[0] - pixels[is_visible])[is_valid].abs().max() < 1e-8
        gap = (back - rays[is_visible]).norm(dim=1)
        seen, lost, mistaken = seen + len(gap), lost + (~is_valid).sum(), mistaken + (is_valid & (gap > 1e-6)).sum()
    assert seen > 10_000
    assert lost + mistaken < seen / 500  # tangential terms that strong fold the picture a second time near its fold


def test_a_million_pixels_of_a_bent_lens_are_straightened_at_once():
    x, y = torch.rand(1_000_000).double() * SIZE[0], torch.rand(1_000_000).double() * SIZE[1]
    directions, is_valid = look(camera_with(LENSES["barrel"]), x, y)
    assert directions.shape == (1_000_000, 3)
    assert is_valid.all()


def test_no_pixels_give_no_directions():
    for lens in LENSES.values():
        directions, is_valid = look(camera_with(lens), torch.zeros(0), torch.zeros(0))
        assert directions.shape == (0, 3) and is_valid.shape == (0,)


def test_every_family_has_a_lens_here():
    assert {lens.family for lens in LENSES.values()} == set(LENS_FAMILIES)


@pytest.mark.parametrize("model_id", sorted(NOT_READ))
def test_a_model_that_is_not_read_is_named(model_id):
    with pytest.raises(DataError, match=MODEL_NAMES[model_id]):
        camera_from_colmap(model_id, 640, 480, [1.0] * 16)


@pytest.mark.parametrize("model_id, params, text", [
    (99, [1.0], "number 99"),
    (4, [1.0, 2.0, 3.0], "OPENCV has 8 parameters, got 3"),
    (1, [1.0, float("nan"), 3.0, 4.0], "finite"),
    (1, [0.0, 1.0, 3.0, 4.0], "positive"),
    (7, [1.0, 1.0, 3.0, 4.0, 3.2], "between -pi and pi"),
    (17, [640.0, 320.0], "640×320"),
])
def test_a_camera_that_cannot_be_is_refused(model_id, params, text):
    with pytest.raises(DataError, match=text):
        camera_from_colmap(model_id, 640, 480, params)
