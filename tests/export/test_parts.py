"""What only a reflective field tells apart."""

from types import SimpleNamespace

import pytest

from nerf_app.errors import UsageError
from nerf_app.export.parts import require_parts
from tests.sphere import small_config


def test_a_run_that_does_not_know_what_is_mirrored_is_refused_and_the_flag_is_named(tmp_path):
    run = SimpleNamespace(config=small_config(1), folder=tmp_path)
    with pytest.raises(UsageError, match="^--texture diffuse needs a run trained with --appearance reflective; .* is plain"):
        require_parts(run, "--texture diffuse")
    run.config = small_config(1, {"field.appearance": "reflective"})
    require_parts(run, "--texture diffuse")
