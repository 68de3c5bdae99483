"""Why photos found no place: what the comparison of all photos says about each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from nerf_app.process.photos import Photo, blurred
from nerf_app.scene.scene import Dropped

FEW_FEATURES = 150
ONE_IS_ENOUGH = 100  # points in common: with fewer a photo has too few even where all of them have a known place
BLURRED = 0.25  # of the middle photo's sharpness


def reasons(photos: Sequence[Photo], placed: set[str], links: Mapping[str, Any]) -> list[Dropped]:
    """A line for each photo that is not among the `placed` ones (keys); `links` as `process.colmap.links` gives them."""
    partners = defaultdict(dict)
    for first, second, matches in links["pairs"]:
        partners[first][second] = matches
        partners[second][first] = matches
    dull = blurred(photos, BLURRED)
    return [Dropped(photo.source, _reason(photo, partners[photo.key], placed, links["features"].get(photo.key, 0), dull))
            for photo in photos if photo.key not in placed]


def _reason(photo: Photo, partners: Mapping[str, int], placed: set[str], n_features: int, dull: set[str]) -> str:
    with_placed = {key: matches for key, matches in partners.items() if key in placed}
    if n_features < FEW_FEATURES:
        return f"shows hardly anything to hold on to ({n_features} features): blurred, dark or plain"
    if photo.key in dull:
        return "blurred: take it again, or leave it out"
    if not partners:
        return "no overlap: shows nothing that another photo shows; take photos between it and the others"
    if not with_placed:
        return f"overlaps only with photos without a place ({len(partners)}): take photos between them and the others"
    most = max(with_placed.values())
    if most >= ONE_IS_ENOUGH:
        return f"{most} points in common with one of the placed photos, but too few with two of them: take photos around it"
    return f"too little overlap: {most} points in common with the nearest of the placed photos; take photos between them"
