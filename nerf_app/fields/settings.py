"""Settings of the fields and their encodings."""

from dataclasses import dataclass, replace

from nerf_app.setting import setting

# From so many minutes of training on: log2 of the table's entries a level, neurons of the nets.
SIZES = ((10.0, 19, 64), (2.5, 19, 32), (0.75, 18, 32), (0.0, 17, 32))


@dataclass(frozen=True)
class HashGridSettings:
    levels: int = setting(8, "resolutions, coarse to fine", low=1, high=32)
    features: int = setting(4, "features per level: 1, 2, 4 or 8", low=1, high=8)
    coarsest: int = setting(16, "cells along an edge at the first level", low=2, high=4096)
    finest: int = setting(1024, "cells along an edge at the last level", low=2, high=65536)
    log2_entries: int | None = setting(None, "at most 2^this entries a level; null: 17 to 19, more for more training.minutes", low=8, high=24)


@dataclass(frozen=True)
class FrequencySettings:
    encoding: str = setting("octaves", "of the position: octaves (NeRF's sines and cosines) or gaussian (Fourier features)",
                            choices=("octaves", "gaussian"))
    position_octaves: int = setting(10, "sine and cosine pairs of the position", low=0, high=16)
    direction_octaves: int = setting(4, "sine and cosine pairs of the viewing direction", low=0, high=8)
    gaussian_features: int = setting(128, "random directions of the gaussian encoding", low=1, high=4096)
    gaussian_sigma: float = setting(4.0, "their deviation, waves across half the cube: larger sees finer detail", low=0.0)
    layers: int = setting(8, "hidden layers; the encoded position enters again in their middle", low=2, high=16)
    width: int = setting(256, "neurons a layer", low=16, high=1024)


@dataclass(frozen=True)
class FieldSettings:
    kind: str = setting("hashgrid", "hashgrid (hash table and small nets) or frequency (NeRF's large net)", choices=("hashgrid", "frequency"))
    hidden_width: int | None = setting(None, "neurons of the small nets; null: 32, or 64 from ten training.minutes on", low=16, high=128)
    colour_layers: int = setting(2, "hidden layers of the small colour net", low=1, high=4)
    appearance: str = setting("plain", "colour may change with the viewing direction (plain), or not (diffuse); shiny surfaces that mirror "
                                       "what is around (reflective); auto tries all three and keeps the best",
                              choices=("plain", "diffuse", "reflective", "auto"))


@dataclass(frozen=True)
class FieldPlan:
    """Everything that decides a field's parameters and their shapes."""

    field: FieldSettings
    encoding: HashGridSettings
    frequency: FrequencySettings


def sized(plan: FieldPlan, minutes: float | None) -> FieldPlan:
    """The plan with the sizes that null leaves to the program: a longer training has use for a larger field."""
    _, entries, width = next(sizes for sizes in SIZES if (minutes or 0.0) >= sizes[0])
    field, encoding = plan.field, plan.encoding
    if field.hidden_width is None:
        field = replace(field, hidden_width=width)
    if encoding.log2_entries is None:
        encoding = replace(encoding, log2_entries=entries)
    return FieldPlan(field, encoding, plan.frequency)
