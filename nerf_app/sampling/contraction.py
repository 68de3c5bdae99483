"""Where samples may lie: the cube itself, or all of space contracted around it.

In scene coordinates the thing or place of interest fills the cube [-1, 1]³. A bounded space is that cube. An unbounded
one keeps the cube as it is and folds everything beyond it into [-2, 2]³ (mip-NeRF 360, Eq. 10, with the largest
coordinate as the norm, so that the outer shell is a cube too). Both are mapped on to the unit cube, which is all that
fields and the occupancy grid know.

`t` is a distance along a ray in scene units, `s` the lattice coordinate in which steps are equal: s = t, and beyond
`LINEAR` of an unbounded space equal steps of inverse distance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 0.05  # scene units: nothing is looked for nearer to a camera
LINEAR = 2.0  # scene units: about the way through the cube
FAR = 200.0  # scene units: the end of an unbounded ray

Limits = tuple[Tensor, Tensor]  # [R], [R] scene units: first and last distance on each ray


@dataclass(frozen=True)
class Space:
    """The one description of space that marching, occupancy and fields share."""

    is_bounded: bool

    def to_unit(self, points: Tensor) -> Tensor:
        """[..., 3] scene coordinates -> [..., 3] in [0, 1]; differentiable."""
        if self.is_bounded:
            return (0.5 * (points + 1.0)).clamp(0.0, 1.0)
        return ((contract(points) + 2.0) * 0.25).clamp(0.0, 1.0)

    def from_unit(self, unit: Tensor) -> Tensor:
        """[..., 3] in (0, 1) -> [..., 3] scene coordinates."""
        return 2.0 * unit - 1.0 if self.is_bounded else expand(4.0 * unit - 2.0)

    def limits(self, origins: Tensor, directions: Tensor, within: Limits | None = None) -> Limits:
        """First and last distance worth looking at on each ray, and within these limits; first ≥ last where there is none."""
        near = torch.full_like(origins[:, 0], NEAR)
        if self.is_bounded:
            inverse = 1.0 / torch.where(directions.abs() < 1e-12, 1e-12, directions)  # of finite size also along the faces
            to_low, to_high = (-1.0 - origins) * inverse, (1.0 - origins) * inverse  # [R, 3]
            near = torch.maximum(torch.minimum(to_low, to_high).amax(1), near)
            far = torch.maximum(to_low, to_high).amin(1)
        else:
            far = torch.full_like(near, FAR)
        return (near, far) if within is None else (torch.maximum(near, within[0]), torch.minimum(far, within[1]))

    def distance_at(self, s: Tensor) -> Tensor:
        """t = g(s): monotonic, with a slope of one up to LINEAR; an unbounded lattice stays at FAR once it is there."""
        if self.is_bounded:
            return s
        return torch.where(s <= LINEAR, s, LINEAR**2 / (2.0 * LINEAR - s).clamp(min=LINEAR**2 / FAR))

    def lattice_at(self, t: Tensor) -> Tensor:
        """s = g⁻¹(t)."""
        if self.is_bounded:
            return t
        return torch.where(t <= LINEAR, t, 2.0 * LINEAR - LINEAR**2 / t.clamp(min=LINEAR))

    @property
    def lattice_length(self) -> float:
        """About how much of the lattice lies on a ray: the cube's diagonal, or all as far as FAR."""
        return 2.0 * 3.0**0.5 if self.is_bounded else 2.0 * LINEAR - LINEAR**2 / FAR

    def step_length(self, points: Tensor, step: float) -> Tensor:
        """About how long a lattice step is at these points, seen from near the cube: [..., 3] -> [...] scene units."""
        if self.is_bounded:
            return torch.full_like(points[..., 0], step)
        return step * (points.norm(dim=-1) / LINEAR).clamp(min=1.0, max=FAR / LINEAR) ** 2


def contract(points: Tensor) -> Tensor:
    """All of space -> the open cube (-2, 2)³; the identity inside [-1, 1]³: [..., 3] -> [..., 3]."""
    size = points.abs().amax(-1, keepdim=True).clamp(min=1.0)
    return points * ((2.0 - 1.0 / size) / size)


def expand(contracted: Tensor) -> Tensor:
    """The inverse of `contract`: [..., 3] -> [..., 3]."""
    size = contracted.abs().amax(-1, keepdim=True).clamp(min=1.0)
    return contracted / (size * (2.0 - size).clamp(min=1e-6))


def contraction_jacobian(points: Tensor) -> Tensor:
    """d contract / d points: [..., 3] -> [..., 3, 3]. On the cube's edges the derivative of one side is given."""
    sizes, axis = points.abs().max(-1, keepdim=True)  # [..., 1]
    m = sizes.clamp(min=1.0)
    factor = (2.0 - 1.0 / m) / m
    slope = torch.where(sizes > 1.0, 2.0 / m**3 - 2.0 / m**2, torch.zeros_like(m))  # d factor / d m
    gradient = torch.zeros_like(points).scatter(-1, axis, torch.gather(points.sign(), -1, axis))  # d m / d points
    eye = torch.eye(3, dtype=points.dtype, device=points.device)
    return factor[..., None] * eye + points[..., :, None] * (slope * gradient)[..., None, :]
