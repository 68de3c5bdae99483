"""The door to OpenCV: arrays in, arrays out. It never gets a path, because a name that is no UTF-8 ends the process."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MARKER_FAMILIES = ("4X4_1000", "5X5_1000", "6X6_1000", "7X7_1000", "ARUCO_ORIGINAL", "APRILTAG_36h11")  # with those of 50 to 250


@dataclass(frozen=True)
class Marker:
    """A printed square marker as one photo shows it."""

    family: str  # one of MARKER_FAMILIES
    number: int
    corners: np.ndarray  # [4, 2] float64 x and y in pixels from the image's corner; its own upper left first, clockwise


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece (corners touch) of a bool [H, W]; all False where nothing is set."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:  # the background alone
        return np.zeros_like(mask)
    return labels == 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())


def without_holes(mask: np.ndarray) -> np.ndarray:
    """A bool [H, W] with all set from which no way leads to the border."""
    count, labels = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=4)
    return (labels != labels[0, 0])[1:-1, 1:-1] if count > 1 else mask


def find_markers(grey: np.ndarray, families: Sequence[str] = MARKER_FAMILIES) -> list[Marker]:
    """The ArUco and AprilTag markers in a uint8 [H, W] picture, to a part of a pixel; one that is there twice is left out.

    OpenCV's default search is quick, and its corners lie inside the printed ones by up to half a pixel; the lines that
    AprilTag fits to the sides meet where they should, but take four times as long: they follow where there is something.
    """
    grey, exact = np.ascontiguousarray(grey), cv2.aruco.DetectorParameters()
    exact.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_APRILTAG
    markers = []
    for family in families:
        known = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{family}"))
        if not cv2.aruco.ArucoDetector(known).detectMarkers(grey)[0]:
            continue
        squares, numbers, _ = cv2.aruco.ArucoDetector(known, exact).detectMarkers(grey)
        numbers = numbers.ravel().tolist() if squares else []
        markers += [Marker(family, number, np.float64(square.reshape(4, 2)))  # these lines count from the corner, as we do
                    for number, square in zip(numbers, squares, strict=True) if numbers.count(number) == 1]
    return markers


@dataclass(frozen=True)
class Features:
    """Places in a picture that can be found again in another one (SIFT)."""

    places: np.ndarray  # [N, 2] float64 x and y in pixels from the image's corner
    descriptors: np.ndarray  # [N, 128] float32


def find_features(grey: np.ndarray, most: int) -> Features:
    """Those of a uint8 [H, W] picture, at most `most`, the strongest first."""
    finder = cv2.SIFT_create(nfeatures=most, enable_precise_upscale=True)  # else places are a quarter of a pixel off
    points, descriptors = finder.detectAndCompute(np.ascontiguousarray(grey), None)
    if not points:
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    places = np.array([point.pt for point in points], np.float64) + 0.5  # OpenCV counts from the first pixel's centre
    return Features(places, descriptors)


def match_features(first: Features, second: Features, ratio: float = 0.8) -> np.ndarray:
    """[M, 2] int64 rows of both that show the same: each the other's nearest, the runner-up clearly farther away."""
    if min(len(first.places), len(second.places)) < 2:
        return np.zeros((0, 2), np.int64)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    there, back = (_nearest(matcher, a, b, ratio) for a, b in ((first, second), (second, first)))
    pairs = [(i, j) for i, j in there.items() if back.get(j) == i]
    return np.array(pairs, np.int64).reshape(-1, 2)


def reversed_features(descriptors: np.ndarray) -> np.ndarray:
    """What the same places would have in a mirror: [N, 128] -> [N, 128]. SIFT's are 4 × 4 cells of 8 directions around the main
    one: across it the cells change places, and directions turn the other way."""
    cells = descriptors.reshape(-1, 4, 4, 8)[:, ::-1]
    return np.ascontiguousarray(cells[..., -np.arange(8) % 8]).reshape(-1, 128)


def _nearest(matcher: cv2.BFMatcher, first: Features, second: Features, ratio: float) -> dict[int, int]:
    found = matcher.knnMatch(first.descriptors, second.descriptors, k=2)
    return {best.queryIdx: best.trainIdx for best, other in found if best.distance < ratio * other.distance}
