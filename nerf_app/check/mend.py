"""A corrected copy of a scene that was examined."""

from collections.abc import Callable
from pathlib import Path

from nerf_app.check.examine import Examination
from nerf_app.convert import write_ready
from nerf_app.errors import DataError
from nerf_app.scene.transforms import is_instant_ngp
from nerf_app.scene.writing import require_new


def write_mended(examination: Examination, scene: Path, out: Path, on_progress: Callable[[int, int], None]) -> list[str]:
    """The scene in a new folder in its own format, without what can be mended; notes on what is left."""
    require_new(out)
    if examination.mended is None:
        raise DataError("there is nothing to copy: no photo with a camera could be used; mend what the findings say first.")
    listing = examination.mended.listing
    to = "instant-ngp" if listing.format == "transforms" and is_instant_ngp(scene) else listing.format
    try:
        notes = write_ready(examination.mended, to, out, on_progress)
    except DataError as error:  # Blender's and LLFF's files hold less than their readers take
        if to == "transforms":
            raise
        notes = [f"written as transforms.json: {error}", *write_ready(examination.mended, "transforms", out, on_progress)]
    left = [finding.what for finding in examination.findings if finding.is_fault and not finding.is_mended]
    return [*notes, *(f"still to be mended: {what}" for what in left)]
