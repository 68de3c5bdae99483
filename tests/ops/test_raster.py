import itertools
from fractions import Fraction

import pytest
import torch

from nerf_app.ops import raster as contract
from nerf_app.ops.raster import SUBPIXELS, reference
from tests.parity import assert_close, runnable

each_backend = pytest.mark.parametrize("backend", runnable(contract.IMPLEMENTATIONS))


def rasterise(backend, corners, faces, height, width):
    return contract.IMPLEMENTATIONS[backend]().rasterise(corners, faces, height, width)


def soup(count, size=40.0, spread=10.0):
    """Corners and faces of single triangles, some of them partly or wholly outside of a picture of this size."""
    centres = torch.rand(count, 1, 3) * torch.tensor([1.6 * size, 1.6 * size, 2.0]) - torch.tensor([0.3 * size, 0.3 * size, -1.0])
    corners = centres + torch.randn(count, 3, 3) * torch.tensor([spread, spread, 0.2])
    return corners.reshape(-1, 3), torch.arange(3 * count, dtype=torch.int32).view(count, 3)


def fan(centre, count=12, radius=40.0):
    """A closed fan of `count` faces around a point."""
    angles = torch.arange(count) * (2 * torch.pi / count)
    rim = torch.stack([centre[0] + radius * angles.cos(), centre[1] + radius * angles.sin(), torch.ones(count)], 1)
    i = torch.arange(count)
    return torch.cat([torch.tensor([[*centre, 1.0]]), rim]), torch.stack([torch.zeros_like(i), 1 + i, 1 + (i + 1) % count], 1)


def net(rows, columns, places):
    """Two faces for each cell of a net of points: places [rows + 1, columns + 1, 2], all at depth 1."""
    corners = torch.cat([places, torch.ones(rows + 1, columns + 1, 1)], 2).view(-1, 3)
    number = torch.arange((rows + 1) * (columns + 1)).view(rows + 1, columns + 1)
    a, b, c, d = (part.flatten() for part in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    return corners, torch.cat([torch.stack([a, b, c], 1), torch.stack([d, c, b], 1)])


def ball(around=24, down=13, focal_px=70.0, centre=(40.3, 38.6)):
    """A closed ball of radius 1 at distance 3, as a pinhole sees it: corners in the picture, faces."""
    longitude, latitude = (grid.flatten() for grid in torch.meshgrid(
        torch.arange(around) * (2 * torch.pi / around), torch.linspace(0, torch.pi, down + 2)[1:-1], indexing="xy"))
    x, y, z = longitude.cos() * latitude.sin(), latitude.cos(), 3 + longitude.sin() * latitude.sin()
    points = torch.cat([torch.stack([x, y, z], 1), torch.tensor([[0.0, 1.0, 3.0], [0.0, -1.0, 3.0]])])
    i, faces = torch.arange(around), []
    beside = (i + 1) % around
    for row in range(0, around * (down - 1), around):
        below = row + around
        faces += [torch.stack([row + i, row + beside, below + i], 1), torch.stack([row + beside, below + beside, below + i], 1)]
    last = around * (down - 1)
    poles = torch.full_like(i, len(points) - 2), torch.full_like(i, len(points) - 1)
    faces += [torch.stack([poles[0], beside, i], 1), torch.stack([poles[1], last + i, last + beside], 1)]
    places = focal_px * points[:, :2] / points[:, 2:] + torch.tensor(centre)
    return torch.cat([places, points[:, 2:]], 1), torch.cat(faces)


def slivers(count=60):
    """Faces a thousandth of a pixel thick, across the picture."""
    starts, ends = (torch.rand(count, 3) * 40 + 1 for _ in range(2))
    corners = torch.stack([starts, ends, starts + 1e-3 * torch.randn(count, 3)], 1)
    return corners.view(-1, 3), torch.arange(3 * count).view(count, 3)


def covers(triangle, x, y):
    """Whether a triangle covers a point a little to the right of and, by still less, below (x, y): rational numbers."""
    (ax, ay), (bx, by), (cx, cy) = [[Fraction(round(Fraction(float(place)) * SUBPIXELS), SUBPIXELS) for place in corner[:2]]
                                    for corner in triangle]
    x, y = x + Fraction(1, 10**12), y + Fraction(1, 10**24)
    sides = [(qx - px) * (y - py) - (qy - py) * (x - px)
             for px, py, qx, qy in ((ax, ay, bx, by), (bx, by, cx, cy), (cx, cy, ax, ay))]
    return all(side > 0 for side in sides) or all(side < 0 for side in sides)


def depth_in(triangle, x, y):
    """The depth of a triangle's plane, in which 1 / depth is even over the picture."""
    places = torch.cat([triangle[:, :2], torch.ones(3, 1)], 1).double()
    return 1 / float(torch.linalg.solve(places, 1 / triangle[:, 2].double()) @ torch.tensor([x, y, 1.0], dtype=torch.float64))


def test_a_pixel_belongs_to_the_nearest_face_over_its_centre():
    corners, faces = soup(25, size=12, spread=4)
    corners[30:45, :2] = (corners[30:45, :2] * 2).round() / 2  # some have their edges and corners on pixel centres
    raster = reference.rasterise(corners, faces, 12, 14)
    for row, column in itertools.product(range(12), range(14)):
        x, y = column + Fraction(1, 2), row + Fraction(1, 2)
        found = {i: depth_in(triangle, float(x), float(y)) for i, triangle in enumerate(corners[faces.long()])
                 if covers(triangle, x, y)}
        nearest = min(found, key=found.get, default=-1)
        assert int(raster.face_indices[row, column]) == nearest
        assert float(raster.depth[row, column]) == pytest.approx(found.get(nearest, float("inf")), rel=1e-3)


@each_backend
def test_a_slanted_plane_has_its_exact_depth(backend):
    places = torch.tensor([[-8.0, -4.0], [70.0, 3.0], [5.0, 90.0]])
    depth = 1 / (0.1 + 0.004 * places[:, 0] + 0.007 * places[:, 1])  # what a plane has, seen by a pinhole
    raster = rasterise(backend, torch.cat([places, depth[:, None]], 1), torch.tensor([[0, 1, 2]]), 30, 20)
    y, x = torch.meshgrid(torch.arange(30) + 0.5, torch.arange(20) + 0.5, indexing="ij")
    assert (raster.face_indices == 0).all()
    assert_close(raster.depth, 1 / (0.1 + 0.004 * x + 0.007 * y), "depth", 3e-7)


@each_backend
def test_barycentrics_give_the_point_in_space_that_a_pinhole_sees(backend):
    points = torch.tensor([[-2.0, -1.0, 1.5], [3.0, -1.5, 4.0], [0.2, 2.5, 2.0]])
    places = torch.cat([points[:, :2] / points[:, 2:] * 20 + 16, points[:, 2:]], 1)
    raster = rasterise(backend, places, torch.tensor([[2, 0, 1]]), 32, 32)
    row, column = (raster.face_indices == 0).nonzero(as_tuple=True)
    seen = raster.barycentrics[row, column] @ points[[2, 0, 1]]
    assert len(row) > 100
    assert_close(seen[:, 0] / seen[:, 2] * 20 + 16, column + 0.5, "x", 2e-5)  # corners are rounded to 1/4096 pixel
    assert_close(seen[:, 1] / seen[:, 2] * 20 + 16, row + 0.5, "y", 2e-5)
    assert_close(raster.depth[row, column], seen[:, 2], "depth", 1e-6)
    assert_close(raster.barycentrics.sum(2), (raster.face_indices == 0).float(), "sum", 2e-7)


@each_backend
def test_of_two_faces_the_nearer_one_is_seen_in_either_order(backend):
    corners, faces = soup(60)
    ahead, behind = rasterise(backend, corners, faces, 40, 40), rasterise(backend, corners, faces.flip(0), 40, 40)
    assert torch.equal(ahead.depth, behind.depth)
    assert torch.equal(ahead.face_indices, torch.where(behind.face_indices < 0, -1, 59 - behind.face_indices))


@each_backend
def test_of_faces_equally_near_the_first_is_seen(backend):
    corners = torch.tensor([[-3.0, 1.1, 1.0], [12.3, -2.0, 1.0], [4.1, 9.7, 1.0]])
    raster = rasterise(backend, corners, torch.tensor([[0, 1, 2], [1, 2, 0], [0, 2, 1]]), 10, 10)
    assert raster.face_indices.unique().tolist() == [-1, 0]
    assert raster.depth[raster.face_indices == 0].unique().tolist() == [1.0]


def drawn_by_one_face(backend, corners, faces, height, width):
    """Whether each pixel is drawn by one face of those that lie at the same depth, never two."""
    first, last = (rasterise(backend, corners, some, height, width).face_indices for some in (faces, faces.flip(0)))
    return (first >= 0) & (first == len(faces) - 1 - last)


@each_backend
@pytest.mark.parametrize("centre", [(16.0, 16.0), (16.5, 16.5), (16.5, 9.0), (3.217, 20.891), (0.5, 0.5), (-5.3, 16.5)])
@pytest.mark.parametrize("count", [3, 4, 8, 13, 100])
def test_the_faces_of_a_fan_share_the_pixels_among_them(backend, centre, count):
    assert drawn_by_one_face(backend, *fan(centre, count, radius=100.0), 32, 32).all()


@each_backend
@pytest.mark.parametrize("steps_of_a_pixel", [1, 2, 4, 1000])
def test_neighbours_neither_both_claim_nor_both_leave_a_centre_on_their_edge(backend, steps_of_a_pixel):
    y, x = torch.meshgrid(torch.linspace(-3, 35, 11), torch.linspace(-3, 35, 15), indexing="ij")
    places = torch.stack([x, y], 2) + torch.rand(11, 15, 2) - 0.5
    corners, faces = net(10, 14, (places * steps_of_a_pixel + 0.5).round() / steps_of_a_pixel - 0.5)
    assert drawn_by_one_face(backend, corners, faces, 32, 32).all()


@each_backend
def test_neighbours_with_corners_far_outside_agree_about_their_edge(backend):
    corners, faces = net(1, 1, torch.tensor([[[-1e9, -3e7], [2e6, -1e9]], [[-4e8, 1e9], [1e9, 7e8]]]))
    assert drawn_by_one_face(backend, corners, faces, 32, 32).all()


@each_backend
def test_a_closed_ball_has_no_hole(backend):
    corners, faces = ball()
    raster = rasterise(backend, corners, faces, 80, 80)
    a, b, c = corners[faces].unbind(1)
    turns = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    near, far = (rasterise(backend, corners, faces[turning], 80, 80) for turning in (turns < 0, turns > 0))
    if near.depth.min() > far.depth.min():
        near, far = far, near
    assert torch.equal(near.face_indices >= 0, far.face_indices >= 0)  # what goes in comes out again
    assert torch.equal(raster.depth, near.depth) and (near.depth <= far.depth).all()
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    radius = torch.hypot(x - 40.3, y - 38.6) / (70.0 / 8**0.5)  # the silhouette's, 70 / sqrt(3² - 1), is 1
    assert (raster.face_indices[radius < 0.96] >= 0).all()
    assert (raster.face_indices[radius > 1.0] == -1).all()


@each_backend
def test_faces_without_area_or_place_or_before_the_depth_of_zero_are_left_out(backend):
    corners = torch.tensor([[0.0, 0.0, 1.0], [40.0, 0.0, 1.0], [0.0, 40.0, 1.0], [20.0, 20.0, 1.0], [5.0, 5.0, 0.0],
                            [5.0, 5.0, -1.0], [torch.nan, 5.0, 1.0], [5.0, torch.inf, 1.0], [5.0, 5.0, torch.nan],
                            [5.0, 5.0, torch.inf], [-torch.inf, 5.0, 1.0], [3e38, -3e38, 1.0]])
    faces = [[0, 1, 1], [3, 3, 3], [1, 2, 3]] + [[bad, 1, 2] for bad in range(4, 11)]
    raster = rasterise(backend, corners, torch.tensor(faces), 20, 20)
    assert (raster.face_indices == -1).all() and raster.depth.isinf().all() and (raster.barycentrics == 0).all()
    raster = rasterise(backend, corners, torch.tensor([*faces, [0, 1, 2]]), 20, 20)
    assert (raster.face_indices == len(faces)).all()
    rasterise(backend, corners, torch.tensor([[11, 0, 2], [11, 11, 0]]), 20, 20)


@each_backend
def test_a_picture_of_one_pixel_shows_what_covers_its_centre(backend):
    corners = torch.tensor([[0.5, 0.4, 2.0], [0.6, 0.6, 2.0], [0.4, 0.6, 2.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.9, 1.0]])
    raster = rasterise(backend, corners, torch.tensor([[3, 4, 5], [0, 1, 2]]), 1, 1)  # the first comes near to the centre
    assert (int(raster.face_indices), float(raster.depth)) == (1, 2.0)
    assert_close(raster.barycentrics[0, 0], torch.tensor([0.5, 0.25, 0.25]), "barycentrics", 2e-3)  # 0.1 = 410 steps of 4096


@each_backend
@pytest.mark.parametrize("height, width", [(0, 0), (0, 5), (5, 0), (3, 5)])
@pytest.mark.parametrize("count", [0, 4])
def test_nothing_at_all_is_a_picture_of_nothing(backend, height, width, count):
    corners, faces = soup(count)
    raster = rasterise(backend, corners - 1e4, faces, height, width)
    assert [list(part.shape) for part in vars(raster).values()] == [[height, width], [height, width, 3], [height, width]]
    assert (raster.face_indices == -1).all() and raster.depth.isinf().all() and (raster.barycentrics == 0).all()
    assert [part.dtype for part in vars(raster).values()] == [torch.int32, torch.float32, torch.float32]


@each_backend
@pytest.mark.parametrize("faces", [[[0, 1, 3]], [[0, -1, 2]]])
def test_a_face_with_a_corner_that_is_not_there_is_refused(backend, faces):
    with pytest.raises(IndexError, match=r"faces must hold 0 to 2, the rows of corners; got"):
        rasterise(backend, torch.ones(3, 3), torch.tensor(faces), 4, 4)


def test_the_reference_finds_the_same_in_small_chunks(monkeypatch):
    corners, faces = soup(50)
    truth = reference.rasterise(corners, faces, 40, 40)
    monkeypatch.setattr(reference, "CANDIDATES", 100)
    for value, expected in zip(vars(reference.rasterise(corners, faces, 40, 40)).values(), vars(truth).values(), strict=True):
        assert torch.equal(value, expected)


SHAPES = {"one": lambda: soup(1), "soup": lambda: soup(700), "many small ones": lambda: soup(4000, spread=0.5),
          "beyond all bounds": lambda: soup(100, spread=1e9), "fan": lambda: fan((16.5, 16.5), 50), "slivers": slivers,
          "ball": ball, "texture": lambda: net(1, 1, torch.tensor([[[0.0, 0.0], [40.0, 0.0]], [[0.0, 40.0], [40.0, 40.0]]]))}


@each_backend
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("height, width", [(1, 1), (40, 37), (131, 5)])
def test_every_backend_agrees_with_the_reference(backend, shape, height, width):
    corners, faces = SHAPES[shape]()
    truth = reference.rasterise(corners, faces, height, width)
    for some in (faces.int(), faces.long()):
        raster = rasterise(backend, corners, some, height, width)
        assert torch.equal(raster.face_indices, truth.face_indices)
        assert torch.equal(raster.depth, truth.depth)
        assert_close(raster.barycentrics, truth.barycentrics, "barycentrics", 1e-7)
