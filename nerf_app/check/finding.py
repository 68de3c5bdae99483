"""What `check` has to say about a scene: a line that says what, one with the evidence, one with the cure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nerf_app.scene.paths import shown

MOST_NAMES = 5


@dataclass(frozen=True)
class Finding:
    """Something about a scene. A fault makes a training fail or learn something wrong; a note is worth knowing."""

    is_fault: bool
    what: str
    evidence: str
    cure: str
    photos: tuple[str, ...] = ()  # that it is about; none: the whole scene
    is_mended: bool = False  # --fix takes it away

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {"level": "fault" if self.is_fault else "note", **{key: value for key, value in asdict(self).items()
                                                                 if key != "is_fault"}}

    def lines(self) -> list[str]:
        """For a person."""
        names = f" ({some(self.photos)})" if self.photos else ""
        return [f"{'FAULT' if self.is_fault else 'note'}: {self.what}{names}", f"  seen: {self.evidence}", f"  cure: {self.cure}"]


def some(names: Sequence[str]) -> str:
    """The first few names, and how many there are."""
    more = f", … {len(names)} in all" if len(names) > MOST_NAMES else ""
    return ", ".join(map(shown, names[:MOST_NAMES])) + more
