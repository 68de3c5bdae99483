"""What only a reflective field tells apart: diffuse and mirrored light, roughness."""

from typing import TYPE_CHECKING

from nerf_app.errors import UsageError
from nerf_app.scene.paths import shown

if TYPE_CHECKING:
    from nerf_app.run import Run


def require_parts(run: "Run", asked: str) -> None:
    """UsageError for a run that does not know what was asked for."""
    if run.config.field.appearance != "reflective":
        raise UsageError(f"{asked} needs a run trained with --appearance reflective; {shown(run.folder)} is "
                         f"{run.config.field.appearance}: leave {asked} out, or train again.")
