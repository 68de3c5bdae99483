"""Settings of loading a scene."""

from dataclasses import dataclass

from nerf_app.setting import setting

NO_MIRROR, ANY_MIRROR = "none", "auto"


@dataclass(frozen=True)
class SceneSettings:
    test: str = setting("auto", "photos kept for the closing score: auto (the set's own, else every:8), none, every:N, or a file that lists them")
    masks: str = setting("auto", "what masks mean: ignore (do not look there), object (nothing is there), none (leave them out), auto (decide by looking)",
                         choices=("auto", "ignore", "object", "none"))
    space: str = setting("auto", "box (all lies where the cameras look) or unbounded (a place around it), auto decides by cameras, alpha and points",
                         choices=("auto", "box", "unbounded"))
    mirror: str = setting(NO_MIRROR, "a flat mirror: none, auto (found by what shows in it), or a folder of masks, named as their photos, "
                                     "that are white where it shows")
    longest_side: int | None = setting(1600, "training photos with a longer side are reduced to it, pixels; null keeps all", low=16)
    is_strict: bool = setting(False, "stop at the first photo that cannot be used instead of leaving it out")
    outside_root: str | None = setting(None, "a folder outside the scene's own from which photos may be read")
