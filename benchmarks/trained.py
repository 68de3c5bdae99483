"""A training as users have it, for the benchmarks that look at whole ones."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nerf_app  # noqa: F401 (before torch: it tells torch's threads not to spin)
from nerf_app import run as runs
from nerf_app.config import Config
from nerf_app.run import Run
from nerf_app.scene.scene import Scene
from nerf_app.training.events import Finished, Stepped


@contextmanager
def trained(scene: Scene, config: Config) -> Iterator[tuple[Run, list[Stepped], Finished]]:
    """What training leaves, all its steps and its end; the folder is gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        events = list(runs.train_events(scene, config, Path(place) / "run"))
        steps = [event for event in events if isinstance(event, Stepped)]
        (finished,) = (event for event in events if isinstance(event, Finished))
        yield runs.open_run(Path(place) / "run", config.machine), steps, finished
