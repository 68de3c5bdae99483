"""A camera's inside: where a pixel looks, in the camera's own axes.

Camera axes are OpenGL's: x right, y up, z backwards; the camera looks along -z. Pixel coordinates count from the
image's corner, so the centre of the first pixel is (0.5, 0.5).
"""

from dataclasses import dataclass

LENS_FAMILIES = ("perspective", "fisheye", "fov", "equirectangular")


@dataclass(frozen=True)
class Lens:
    """How a lens bends the straight picture; all zero is a pinhole (or, as a fisheye, the equidistant one).

    With x right and y down (OpenCV's axes), r² = x² + y² of the point on the plane z = 1 (fisheye: of the point at
    distance theta from the axis), the picture is  x · radial(r) + tangential + prism.
    """

    family: str = "perspective"
    radial: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # k1 k2 k3 k4: factors of r² r⁴ r⁶ r⁸
    denominator: tuple[float, float, float] = (0.0, 0.0, 0.0)  # k4 k5 k6 of OpenCV's rational model: r² r⁴ r⁶ below the line
    tangential: tuple[float, float] = (0.0, 0.0)  # p1 p2
    prism: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # s1 r² + s2 r⁴ on x, s3 r² + s4 r⁴ on y
    omega: float = 0.0  # radians, the FOV family's only parameter


@dataclass(frozen=True)
class Camera:
    """Size, focal lengths and principal point in pixels, and the lens. Equirectangular ones use the size alone."""

    width: int
    height: int
    focal_x_px: float
    focal_y_px: float
    centre_x_px: float  # from the image's left edge
    centre_y_px: float  # from the image's upper edge
    lens: Lens = Lens()

    def resized(self, width: int, height: int) -> "Camera":
        """The same view on another pixel grid."""
        sx, sy = width / self.width, height / self.height
        return Camera(width, height, self.focal_x_px * sx, self.focal_y_px * sy,
                      self.centre_x_px * sx, self.centre_y_px * sy, self.lens)

    def shrunk(self, factor: float, least: int = 1) -> "Camera":
        """The same view on fewer pixels, at least `least` a side; as it is where the factor is above 1."""
        factor = min(1.0, factor)
        return self.resized(max(least, round(self.width * factor)), max(least, round(self.height * factor)))

    def within(self, longest: int) -> "Camera":
        """The same view on at most `longest` pixels a side."""
        return self.shrunk(longest / max(self.width, self.height))
