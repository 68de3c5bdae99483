import dataclasses
import math

import pytest
import torch

from nerf_app.ops import march as contract
from nerf_app.ops.march import reference
from nerf_app.sampling.contraction import Space
from tests.parity import assert_close, runnable
from tests.requires import requires


@dataclasses.dataclass(frozen=True)
class Cube:
    """[-1, 1]³, equal steps of distance."""

    def to_unit(self, points):
        return (points + 1) / 2

    def distance_at(self, s):
        return s

    def lattice_at(self, t):
        return t


class Growing(Cube):
    """Steps grow with distance."""

    def distance_at(self, s):
        return s.exp()

    def lattice_at(self, t):
        return t.log()


def some_rays(count, dtype=torch.float64):
    """Rays that start inside the cube and end on its surface, the last of them empty: as keywords of `march`."""
    origins = torch.rand(count, 3, dtype=dtype) - 0.5
    directions = torch.nn.functional.normalize(torch.randn(count, 3, dtype=dtype), dim=1)
    far = ((directions.sign() - origins) / directions).amin(1) if count else origins[:, 0]
    near = 0.01 + 0.1 * torch.rand(count, dtype=dtype)
    far[-1:] = near[-1:]
    return {"origins": origins, "directions": directions, "near": near, "far": far, "jitter": torch.rand(count, dtype=dtype)}


def some_cells(share=0.3, size=9):
    return torch.rand(size, size, size) < share


def looped(rays, step, occupied, space):
    """[(ray, t_start, t_end)], candidate by candidate."""
    found = []
    size = len(occupied)
    for ray in range(len(rays["near"])):
        near, far, u = (rays[name][ray] for name in ("near", "far", "jitter"))
        s0, k = space.lattice_at(near), 0
        while (t := space.distance_at(s0 + (k + 0.5 + u) * step)) < far:
            point = space.to_unit(rays["origins"][ray] + t * rays["directions"][ray])
            x, y, z = (min(max(math.floor(c * size), 0), size - 1) for c in point.tolist())
            if occupied[z, y, x]:
                found.append((ray, *(float(space.distance_at(s0 + (k + end + u) * step)) for end in (0, 1))))
            k += 1
    return found


@pytest.mark.parametrize("space", [Cube(), Growing()])
@pytest.mark.parametrize("candidates", [100, 2**20])
def test_the_kept_steps_are_those_of_a_loop_over_each_ray(space, candidates, monkeypatch):
    monkeypatch.setattr(reference, "CANDIDATES", candidates)  # 100: many chunks
    rays, occupied = some_rays(23), some_cells()
    truth = looped(rays, 0.05, occupied, space)
    marched = reference.march(**rays, step=0.05, occupied=occupied, space=space, max_samples=None)
    assert marched.ray_indices.tolist() == [ray for ray, _, _ in truth]
    assert len(truth) > 50
    assert_close(marched.t_starts, torch.tensor([t for _, t, _ in truth], dtype=torch.float64), "t_starts")
    assert_close(marched.t_ends, torch.tensor([t for _, _, t in truth], dtype=torch.float64), "t_ends")


def test_starts_and_counts_say_where_each_ray_lies():
    marched = reference.march(**some_rays(40), step=0.03, occupied=some_cells(), space=Cube(), max_samples=None)
    for ray, (start, count) in enumerate(zip(marched.ray_starts.tolist(), marched.ray_counts.tolist(), strict=True)):
        assert (marched.ray_indices[start:start + count] == ray).all()
    assert int(marched.ray_counts.sum()) == len(marched.t_starts)
    assert marched.is_complete.all()


def test_neighbouring_steps_meet_without_a_gap():
    rays = some_rays(30, torch.float32)
    marched = reference.march(**rays, step=0.03, occupied=some_cells(1.0), space=Growing(), max_samples=None)
    same_ray = marched.ray_indices[1:] == marched.ray_indices[:-1]
    assert torch.equal(marched.t_ends[:-1][same_ray], marched.t_starts[1:][same_ray])


def test_a_cell_is_addressed_as_z_y_x():
    occupied = torch.zeros(4, 4, 4, dtype=torch.bool)
    occupied[3, 0, 1] = True  # z in the last quarter, y in the first, x in the second
    rays = {"origins": torch.tensor([[-0.25, -0.75, -1.0]]), "directions": torch.tensor([[0.0, 0.0, 1.0]]),
            "near": torch.tensor([0.1]), "far": torch.tensor([2.0]), "jitter": torch.tensor([0.5])}
    marched = reference.march(**rays, step=0.01, occupied=occupied, space=Cube(), max_samples=None)
    assert float(marched.t_starts.min()) == pytest.approx(1.5, abs=0.01)
    assert float(marched.t_ends.max()) == pytest.approx(2.0, abs=0.01)


def test_rays_that_end_before_they_begin_or_nowhere_get_nothing():
    rays = some_rays(4)
    rays["far"] = torch.tensor([0.0, float("nan"), -1.0, 1.0], dtype=torch.float64)
    rays["near"][3] = float("nan")
    marched = reference.march(**rays, step=0.01, occupied=some_cells(1.0), space=Cube(), max_samples=None)
    assert marched.ray_counts.tolist() == [0, 0, 0, 0]


def test_what_does_not_fit_is_dropped_in_whole_rays_from_the_end():
    rays, occupied = some_rays(30), some_cells()
    full = reference.march(**rays, step=0.03, occupied=occupied, space=Cube(), max_samples=None)
    for room in (0, 17, 100, len(full.t_starts) - 1, len(full.t_starts)):
        marched = reference.march(**rays, step=0.03, occupied=occupied, space=Cube(), max_samples=room)
        fits = (full.ray_counts.cumsum(0) <= room)
        assert torch.equal(marched.ray_counts, torch.where(fits, full.ray_counts, 0))
        assert torch.equal(marched.is_complete, marched.ray_counts == full.ray_counts)
        assert torch.equal(marched.t_starts, full.t_starts[:int(marched.ray_counts.sum())])


EXACT = {name: implementation for name, implementation in contract.IMPLEMENTATIONS.items() if name != "nerfacc"}  # which rounds


@pytest.mark.parametrize("backend", runnable(EXACT))
@pytest.mark.parametrize("is_bounded", [True, False])
@pytest.mark.parametrize("n_rays, room", [(1, None), (63, None), (63, 200), (0, None), (0, 10)])
def test_every_backend_agrees_with_the_reference(backend, is_bounded, n_rays, room):
    rays, space = some_rays(n_rays, torch.float32), Space(is_bounded)
    rays["far"] = rays["far"] if is_bounded else torch.where(rays["far"] > rays["near"], 40.0, rays["far"])
    inputs = {**rays, "step": 0.03, "occupied": some_cells(), "space": space, "max_samples": room}
    truth = reference.march(**inputs)
    marched = contract.IMPLEMENTATIONS[backend]().march(**inputs)
    used = marched.ray_indices < n_rays
    for name in ("t_starts", "t_ends", "ray_indices"):
        assert_close(getattr(marched, name)[used], getattr(truth, name), name)
    for name in ("ray_starts", "ray_counts", "is_complete"):
        assert_close(getattr(marched, name), getattr(truth, name), name)
    assert not used[int(used.sum()):].any()
    assert torch.equal(marched.t_starts[~used], marched.t_ends[~used])


@requires("compiler")
def test_what_was_made_of_a_grid_serves_until_the_grid_changes(monkeypatch):
    cpp, packed = contract.IMPLEMENTATIONS["cpp"](), []
    call = cpp.call
    monkeypatch.setattr(cpp, "call", lambda kernel, *given: packed.append(kernel) or call(kernel, *given))
    inputs = {**some_rays(20, torch.float32), "step": 0.03, "occupied": some_cells(), "space": Space(True), "max_samples": None}
    for times in (1, 1, 2, 2):  # the grid was packed so often, afterwards
        if times > packed.count("march_pack") > 0:
            inputs["occupied"][:5] = ~inputs["occupied"][:5]
        assert_close(cpp.march(**inputs).t_starts, reference.march(**inputs).t_starts, "t_starts")
        assert packed.count("march_pack") == times
