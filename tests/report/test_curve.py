import json

import numpy as np
import pytest

from nerf_app.report.curve import MOST_POINTS, read_curve


def write(folder, lines):
    (folder / "metrics.jsonl").write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                                                    for line in lines))


def stepped(step, loss=1.0, psnr=20.0):
    return {"event": "stepped", "step": step, "fraction": 0.1, "seconds": 0.5 * step, "loss": loss, "psnr": psnr, "rays": 5}


def test_a_validation_stands_at_the_seconds_of_the_step_before_it(tmp_path):
    write(tmp_path, [stepped(1, 0.5), {"event": "note", "text": "x"}, stepped(2, 0.25),
                     {"event": "validated", "step": 2, "psnr": 28.0, "ssim": 0.9}, stepped(3, 0.125)])
    curve = read_curve(tmp_path)
    assert curve.seconds.tolist() == [0.5, 1.0, 1.5] and curve.loss.tolist() == [0.5, 0.25, 0.125]
    assert (curve.val_seconds.tolist(), curve.val_psnr.tolist()) == ([1.0], [28.0])


@pytest.mark.parametrize("count", [1, MOST_POINTS, MOST_POINTS + 1, 3 * MOST_POINTS + 7])
def test_many_steps_become_few_points_with_the_same_mean(tmp_path, count):
    losses = np.random.default_rng(0).uniform(size=count)
    write(tmp_path, [stepped(i + 1, loss) for i, loss in enumerate(losses)])
    curve = read_curve(tmp_path)
    assert len(curve.loss) == min(count, MOST_POINTS)
    assert losses.min() <= curve.loss.min() and curve.loss.max() <= losses.max()
    assert np.isclose(curve.loss.mean(), losses.mean(), rtol=0.02)
    assert (np.diff(curve.seconds) > 0).all()


def test_lines_that_are_not_whole_are_passed_over(tmp_path):
    write(tmp_path, [b"\xff\x00\n", b"[1, 2]\n", stepped(1), b'{"event": "stepped", "loss": "x"}\n', b"{" * 30_000 + b"\n",
                     {**stepped(2), "psnr": None}, b'{"event": "stepped", "seco'])
    assert read_curve(tmp_path).seconds.tolist() == [0.5]


def test_without_a_step_there_is_no_curve(tmp_path):
    assert read_curve(tmp_path) is None
    write(tmp_path, [])
    assert read_curve(tmp_path) is None
