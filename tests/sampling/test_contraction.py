import pytest
import torch

from nerf_app.sampling.contraction import FAR, LINEAR, NEAR, contract, contraction_jacobian, expand
from tests.analytic import BOX, UNBOUNDED


def points_near_and_far(count=500, dtype=torch.float64):
    """[count, 3], from inside the cube to a thousand units away, none on an edge."""
    directions = torch.nn.functional.normalize(torch.randn(count, 3, dtype=dtype), dim=1)
    return directions * 10.0 ** (5.0 * torch.rand(count, 1, dtype=dtype) - 2.0)


def test_contraction_is_the_identity_inside_the_cube():
    points = 2.0 * torch.rand(1000, 3) - 1.0
    assert torch.equal(contract(points), points)
    assert torch.equal(expand(points), points)


def test_contraction_keeps_directions_and_ends_before_two():
    points = torch.cat([points_near_and_far(), torch.tensor([[1e6, -3e5, 2.0], [0.0, 0.0, -1e12]], dtype=torch.float64)])
    contracted = contract(points)
    assert (contracted.abs() <= 2.0).all()
    assert torch.allclose(torch.nn.functional.normalize(contracted, dim=1), torch.nn.functional.normalize(points, dim=1))
    size, was = contracted.abs().amax(1), points.abs().amax(1)
    assert torch.allclose(size, torch.where(was <= 1, was, 2 - 1 / was))


def test_expanding_undoes_contracting():
    points = points_near_and_far()
    assert torch.allclose(expand(contract(points)), points, rtol=1e-9)
    contracted = 3.99 * torch.rand(500, 3, dtype=torch.float64) - 1.995
    assert torch.allclose(contract(expand(contracted)), contracted, rtol=1e-12)


@pytest.mark.parametrize("space", [BOX, UNBOUNDED])
def test_the_unit_cube_holds_the_space_and_gives_it_back(space):
    points = points_near_and_far() if space is UNBOUNDED else 1.99 * torch.rand(500, 3, dtype=torch.float64) - 0.995
    unit = space.to_unit(points)
    assert ((unit >= 0) & (unit <= 1)).all()
    assert torch.allclose(space.from_unit(unit), points, rtol=1e-9)
    assert torch.equal(space.to_unit(torch.zeros(1, 3)), torch.full((1, 3), 0.5))


def test_points_outside_a_bounded_space_count_as_its_surface():
    assert torch.equal(BOX.to_unit(torch.tensor([[5.0, -7.0, 0.0]])), torch.tensor([[1.0, 0.0, 0.5]]))


@pytest.mark.parametrize("unit", [0.0, 1.0])
def test_even_the_corners_of_the_unit_cube_are_finite_places(unit):
    assert UNBOUNDED.from_unit(torch.full((1, 3), unit)).isfinite().all()


def test_the_jacobian_is_the_derivative():
    points = points_near_and_far(200).requires_grad_()
    truth = torch.stack([torch.autograd.grad(contract(points)[:, axis].sum(), points)[0] for axis in range(3)], 1)
    assert torch.allclose(contraction_jacobian(points), truth, rtol=1e-10, atol=1e-14)
    assert torch.allclose(contraction_jacobian(points.view(4, 50, 3)), truth.view(4, 50, 3, 3), rtol=1e-10, atol=1e-14)


def test_the_jacobian_on_edges_and_in_the_middle_is_finite():
    points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [3.0, -3.0, 3.0], [0.0, 2.0, 2.0]])
    assert contraction_jacobian(points).isfinite().all()
    assert torch.equal(contraction_jacobian(points[:1])[0], torch.eye(3))


def test_contracting_has_the_right_gradient():
    assert torch.autograd.gradcheck(contract, (0.2 * points_near_and_far(50)).requires_grad_())


@pytest.mark.parametrize("space", [BOX, UNBOUNDED])
def test_the_lattice_and_the_distance_undo_each_other(space):
    t = torch.linspace(NEAR, FAR, 5001, dtype=torch.float64)
    s = space.lattice_at(t)
    assert torch.allclose(space.distance_at(s), t, rtol=1e-10)
    assert (s.diff() > 0).all()


def test_the_lattice_is_even_near_by_and_its_slope_has_no_jump():
    s = torch.linspace(0.0, float(UNBOUNDED.lattice_at(torch.tensor(FAR, dtype=torch.float64))), 4001, dtype=torch.float64)
    t = UNBOUNDED.distance_at(s)
    assert torch.equal(t[s <= LINEAR], s[s <= LINEAR])
    growth = t.diff().log().diff()
    assert (growth > -1e-9).all()  # steps only get longer
    assert growth.max() < 0.1  # each by little


def test_nothing_on_the_lattice_lies_beyond_the_far_end():
    s = torch.linspace(0.0, 10.0, 1001)
    t = UNBOUNDED.distance_at(s)
    assert float(t.max()) == pytest.approx(FAR)
    assert (t.diff() >= 0).all()


def test_limits_of_a_box_are_where_a_walk_along_the_ray_finds_it():
    origins = 4.0 * torch.rand(200, 3, dtype=torch.float64) - 2.0  # inside and outside
    directions = torch.nn.functional.normalize(torch.randn(200, 3, dtype=torch.float64), dim=1)
    directions[:60] = torch.eye(3, dtype=torch.float64).repeat(20, 1) * torch.tensor([1.0, -1.0]).repeat(30)[:, None]
    first, last = BOX.limits(origins, directions)
    t = torch.linspace(NEAR, 8.0, 20001, dtype=torch.float64)
    found = 0
    for ray in range(200):
        is_inside = ((origins[ray] + t[:, None] * directions[ray]).abs() <= 1.0).all(1)
        if is_inside.any():
            inside = t[is_inside]
            assert float(first[ray]) == pytest.approx(float(inside[0]), abs=1e-3)
            assert float(last[ray]) == pytest.approx(float(inside[-1]), abs=1e-3)
            found += 1
        else:
            assert last[ray] - first[ray] < 1e-3
    assert 30 < found < 170


@pytest.mark.parametrize("tiny", [0.0, -0.0, 1e-38, -1e-38])
def test_limits_are_numbers_also_for_rays_along_the_faces(tiny):
    for x in (-10.0, -1.0, 0.3, 1.0, 10.0):
        first, last = BOX.limits(torch.tensor([[x, 0.0, -3.0]]), torch.tensor([[tiny, 0.0, 1.0]]))
        assert first.isfinite().all() and last.isfinite().all()
        if abs(x) != 1.0:
            assert bool(last > first) == (abs(x) < 1.0)


def test_an_unbounded_ray_goes_from_near_to_far():
    first, last = UNBOUNDED.limits(torch.randn(5, 3), torch.nn.functional.normalize(torch.randn(5, 3), dim=1))
    assert torch.equal(first, torch.full((5,), NEAR)) and torch.equal(last, torch.full((5,), FAR))


@pytest.mark.parametrize("space", [BOX, UNBOUNDED])
def test_step_length_is_that_of_the_lattice_for_rays_from_the_middle(space):
    step = 1e-4
    t = torch.linspace(0.1, 150.0, 400, dtype=torch.float64)
    s = space.lattice_at(t)
    lengths = space.distance_at(s + step) - t
    points = t[:, None] * torch.nn.functional.normalize(torch.randn(400, 3, dtype=torch.float64), dim=1)
    assert torch.allclose(space.step_length(points, step), lengths, rtol=0.01)
    assert torch.equal(space.step_length(points.view(20, 20, 3), step).reshape(-1), space.step_length(points, step))
