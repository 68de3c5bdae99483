"""Settings of training."""

from dataclasses import dataclass

from nerf_app.setting import setting


@dataclass(frozen=True)
class TrainingSettings:
    minutes: float | None = setting(5.0, "time budget; null: steps alone decide", low=0.001)
    steps: int | None = setting(None, "number of steps; with minutes, whichever ends first", low=1)
    clock: str = setting("wall", "what a minute is: wall, or cpu (process seconds divided by threads, for busy machines)", choices=("wall", "cpu"))
    samples_per_step: int = setting(16384, "about so many samples are evaluated in a step at first, at last sixteen times as many; rays a step follow from it", low=256, high=1 << 22)
    learning_rate: float = setting(1e-2, "at the start, for the hash grid's table and the nets", low=1e-6)
    final_learning_rate: float = setting(0.1, "at the end, as a part of the first", low=1e-4, high=1.0)
    plateau: float = setting(0.3, "stop early when this last part of the budget brought no better validation score; 1 never stops", low=0.02, high=1.0)
    save_seconds: float = setting(60.0, "between two saved states; 0 saves after every step", low=0.0)


@dataclass(frozen=True)
class PhotoSettings:
    exposure: str = setting("none", "fitted with each photo, and neutral in new views: none, affine (a matrix and an offset of its colours), "
                                    "or code (16 numbers by which the field tells photos apart, where light differs from place to place)",
                            choices=("none", "affine", "code"))
    refine_poses: bool = setting(False, "fit small corrections of the training photos' poses")


@dataclass(frozen=True)
class LossSettings:
    trimmed: float = setting(0.0, "part of a step's pixels, those with the largest errors, that is not believed: people walking through", low=0.0, high=0.5)
    distortion: float | None = setting(None, "weight of how far the light of a ray is spread along it, against haze; null: 0.001 in unbounded space, none in a box", low=0.0)
    closeness: float | None = setting(None, "weight of how close to a lens light stops, before a quarter of the way to the scene's middle, against clouds there; null: 0.01 in unbounded space, none in a box", low=0.0)
    emptiness: float = setting(0.01, "weight of light that is stopped where a photo is wholly transparent, against wisps before nothing", low=0.0)
    points: float | None = setting(None, "weight of light that does not stop at the sparse points that a COLMAP model says a photo shows, falling to nothing in the first half of the training; null: 0.05 in unbounded space, none in a box", low=0.0)
    surface: float = setting(0.003, "reflective: weight of predicted normals that are not those of the density, or look away", low=0.0)
    mirrored: float = setting(0.003, "reflective: weight of light that is said to be mirrored, from the middle of the training on: what looks alike from everywhere is called diffuse", low=0.0)
