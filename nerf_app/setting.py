"""One setting: its default, the sentence that explains it, and what it may be.

The sentence serves `--help`, the comments of configs/base.yaml and the range error alike.
"""

import dataclasses
from typing import Any


def setting(default: Any, text: str, *, low: float | None = None, high: float | None = None,
            choices: tuple[str, ...] | None = None) -> Any:
    """A dataclass field that carries its explanation; `low` and `high` are allowed values themselves."""
    metadata = {"text": text, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)
