import json
from contextlib import nullcontext
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from nerf_app import flags
from nerf_app.config import Config, with_overrides
from nerf_app.errors import ResourceError, UsageError
from nerf_app.export import frames
from nerf_app.export.frames import CHANNELS, depth_colours, render_path
from nerf_app.export.path_files import CameraPath, PathCamera
from nerf_app.export.paths import camera_path
from nerf_app.scene.camera import Camera, Lens
from tests.export.stand_in import CAMERA, FISHEYE, ball_run, pose_looking


def rendered(run, out, channels=("rgb",), background="white", as_frames=False, path=None, on_frame=lambda *_: None):
    path = camera_path("orbit", run, None, 0.5, 10.0) if path is None else path
    return render_path(run, path, out, channels, background, as_frames, on_frame)


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def everything(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_video_for_each_channel_and_no_frames_stay(tmp_path):
    made = rendered(ball_run(tmp_path / "run"), tmp_path / "orbit.mp4", ("rgb", "depth", "normals", "alpha"))
    assert [path.name for path in made] == ["orbit.mp4", "orbit_depth.mp4", "orbit_normals.mp4", "orbit_alpha.mp4"]
    assert everything(tmp_path) == sorted([*(path.name for path in made), "orbit_depth.json"])
    for path in made:
        with av.open(str(path)) as file:
            assert sum(1 for _ in file.decode(video=0)) == 5


def test_channels_with_a_comma_between_are_side_by_side_in_one_video(tmp_path):
    run = ball_run(tmp_path / "run")
    made = rendered(run, tmp_path / "orbit", ("rgb,alpha", "alpha"))
    assert [path.name for path in made] == ["orbit_rgb_alpha.mp4", "orbit_alpha.mp4"] and len(run.rendered) == 5
    with av.open(str(made[0])) as both, av.open(str(made[1])) as alone:
        left, right = np.split(next(both.decode(video=0)).to_ndarray(format="rgb24"), 2, axis=1)
        expected = next(alone.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(right.astype(int) - expected).mean() < 2.0 < np.abs(left.astype(int) - expected).mean()  # lossy


def test_the_command_line_knows_all_channels():
    assert set(flags.CHANNELS) == set(CHANNELS)


def test_parts_of_a_reflective_run_are_refused_for_another(tmp_path):
    run = ball_run(tmp_path / "run")
    run.config = with_overrides(Config(), {"field.appearance": "diffuse"})
    with pytest.raises(UsageError, match="--channel specular needs a run trained with --appearance reflective; .* is diffuse"):
        rendered(run, tmp_path / "orbit.mp4", ("rgb", "specular"))
    assert everything(tmp_path) == []


def test_frames_are_numbered_pictures_by_channel(tmp_path):
    heard = []
    made = rendered(ball_run(tmp_path), tmp_path / "orbit", ("rgb", "alpha"), as_frames=True,
                    on_frame=lambda *at: heard.append(at))
    assert made == [tmp_path / "orbit.frames" / "rgb", tmp_path / "orbit.frames" / "alpha"]
    assert everything(made[0]) == [f"{i:05d}.png" for i in range(5)]
    assert heard == [(i, 5) for i in range(1, 6)]
    assert pixels(made[0] / "00000.png").shape == (48, 64, 3)


def test_an_interrupted_rendering_goes_on_at_the_missing_frame(tmp_path):
    interrupted = ball_run(tmp_path, fails_at=3)
    with pytest.raises(KeyboardInterrupt):
        rendered(interrupted, tmp_path / "orbit.mp4")
    assert not (tmp_path / "orbit.mp4").exists()
    kept = (tmp_path / "orbit.frames" / "rgb" / "00002.png").stat().st_mtime_ns
    assert len(everything(tmp_path / "orbit.frames" / "rgb")) == 3
    run = ball_run(tmp_path)
    rendered(run, tmp_path / "orbit.mp4", as_frames=True)
    assert len(run.rendered) == 2
    assert (tmp_path / "orbit.frames" / "rgb" / "00002.png").stat().st_mtime_ns == kept


def test_videos_take_frames_as_they_are_drawn(tmp_path, monkeypatch):
    run, events = ball_run(tmp_path / "run"), []
    render = run.render
    run.render = lambda *args, **options: events.append("drawn") or render(*args, **options)
    monkeypatch.setattr(frames, "open_video", lambda out, fps: nullcontext(lambda pixels: events.append(out.name)))
    rendered(run, tmp_path / "orbit.mp4", ("rgb", "alpha"))
    assert events == 5 * ["drawn", "orbit.mp4", "orbit_alpha.mp4"]


def on_gpu(folder, **more):
    run = ball_run(folder, **more)
    run.backend = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    return run


def test_on_a_gpu_frames_go_to_the_video_alone_and_are_the_same(tmp_path):
    stored = []
    (film,) = rendered(on_gpu(tmp_path / "run"), tmp_path / "gpu.mp4", on_frame=lambda *_: stored.extend(tmp_path.rglob("*.png")))
    (truth,) = rendered(ball_run(tmp_path / "run"), tmp_path / "cpu.mp4")
    assert not stored and film.read_bytes() == truth.read_bytes()
    (asked,) = rendered(on_gpu(tmp_path / "run"), tmp_path / "asked", as_frames=True)
    assert len(list(asked.glob("*.png"))) == 5


def test_an_interrupted_film_leaves_no_video(tmp_path):
    for name, run in (("cpu", ball_run(tmp_path / "run", fails_at=3)), ("gpu", on_gpu(tmp_path / "run", fails_at=3))):
        with pytest.raises(KeyboardInterrupt):
            rendered(run, tmp_path / name)
    assert everything(tmp_path) == sorted(["cpu.frames", "cpu.frames/request.json", "cpu.frames/rgb", "gpu.frames",
                                           "gpu.frames/request.json", "gpu.frames/rgb",
                                           *(f"cpu.frames/rgb/0000{i}.png" for i in range(3))])


def test_a_broken_frame_is_rendered_again(tmp_path):
    rendered(ball_run(tmp_path), tmp_path / "orbit", as_frames=True)
    frame = tmp_path / "orbit.frames" / "rgb" / "00001.png"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:len(whole) // 2])
    run = ball_run(tmp_path)
    rendered(run, tmp_path / "orbit", as_frames=True)
    assert len(run.rendered) == 1 and frame.read_bytes() == whole


def changed_path(run, out):
    return rendered(run, out, as_frames=True, path=camera_path("orbit", run, None, 0.4, 10.0))


def changed_background(run, out):
    return rendered(run, out, as_frames=True, background="black")


def changed_state(run, out):
    (run.folder / "scene.safetensors").write_bytes(b"trained further")
    return rendered(run, out, as_frames=True)


@pytest.mark.parametrize("change, count", [(changed_path, 4), (changed_background, 5), (changed_state, 5)])
def test_another_request_starts_anew(tmp_path, change, count):
    rendered(ball_run(tmp_path), tmp_path / "orbit", as_frames=True)
    run = ball_run(tmp_path)
    change(run, tmp_path / "orbit")
    assert len(run.rendered) == count
    assert len(everything(tmp_path / "orbit.frames" / "rgb")) == count


def test_a_video_made_from_frames_that_were_asked_for_leaves_them(tmp_path):
    rendered(ball_run(tmp_path), tmp_path / "orbit", as_frames=True)
    run = ball_run(tmp_path)
    assert rendered(run, tmp_path / "orbit") == [tmp_path / "orbit.mp4"]
    assert not run.rendered and len(everything(tmp_path / "orbit.frames" / "rgb")) == 5


def test_a_folder_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "orbit.frames").mkdir()
    (tmp_path / "orbit.frames" / "holiday.txt").write_text("dear")
    with pytest.raises(ResourceError, match="holds other files"):
        rendered(ball_run(tmp_path), tmp_path / "orbit")
    assert everything(tmp_path / "orbit.frames") == ["holiday.txt"]


def test_a_killed_start_is_no_obstacle(tmp_path):
    (tmp_path / "orbit.frames").mkdir()
    (tmp_path / "orbit.frames" / "request.json.part").write_text("{")
    assert rendered(ball_run(tmp_path), tmp_path / "orbit")[0].exists()


def approach() -> CameraPath:
    """Towards the ball, from 6 to 2 units."""
    return CameraPath(tuple(PathCamera(CAMERA, pose_looking((d, 0, 0), (0, 0, 0))) for d in (6.0, 5.0, 4.0, 3.0, 2.0)), 10.0)


def test_depth_has_one_range_for_all_frames_and_states_it(tmp_path):
    made = rendered(ball_run(tmp_path), tmp_path / "in", ("depth",), as_frames=True, path=approach())
    stated = json.loads((tmp_path / "in_depth.json").read_text())
    assert stated["kind"] == "z" and 1.0 < stated["near"] < 2.0 and 5.0 < stated["far"] < 6.0
    for i, distance in enumerate((5.0, 4.0, 3.0, 2.0, 1.0)):  # of the ball's front, in the middle of the picture
        t = np.log(distance / stated["near"]) / np.log(stated["far"] / stated["near"])
        middle = pixels(made[0] / f"{i:05d}.png")[24, 32].astype(float)
        np.testing.assert_allclose(middle, 255 * depth_colours(np.array(t)), atol=2.0)
    assert (pixels(made[0] / "00000.png")[0, 0] == 255).all()  # nothing there: the background


def test_an_interrupted_depth_video_keeps_its_range(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        rendered(ball_run(tmp_path, fails_at=7), tmp_path / "in", ("depth",), path=approach())
    before = json.loads((tmp_path / "in.frames" / "request.json").read_text())
    run = ball_run(tmp_path)
    rendered(run, tmp_path / "in", ("depth",), as_frames=True, path=approach())
    assert json.loads((tmp_path / "in.frames" / "request.json").read_text())["depth"] == before["depth"]
    assert len(run.rendered) == 3  # no more looking round first


def test_a_lens_that_sees_to_the_sides_gets_distances_along_the_ray(tmp_path):
    path = CameraPath((PathCamera(FISHEYE, pose_looking((4, 0, 0), (0, 0, 0))),), 10.0)
    rendered(ball_run(tmp_path), tmp_path / "in", ("depth",), as_frames=True, path=path)
    assert json.loads((tmp_path / "in_depth.json").read_text())["kind"] == "range"


def test_depth_of_nothing_is_background(tmp_path):
    away = CameraPath((PathCamera(CAMERA, pose_looking((4, 0, 0), (8, 0, 0))),), 10.0)
    run = ball_run(tmp_path)
    run.centre = np.array([-1e6, 0.0, 0.0])
    made = rendered(run, tmp_path / "in", ("depth", "normals"), "#102030", as_frames=True, path=away)
    for folder in made:
        assert (pixels(folder / "00000.png") == [0x10, 0x20, 0x30]).all()


def test_depth_colours_darken_with_distance_and_are_colours():
    colours = depth_colours(np.linspace(-0.5, 1.5, 500))
    assert colours.min() >= 0.0 and colours.max() <= 1.0 + 1e-9
    light = colours[125:375] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) < 0).all() and light[0] > 0.9 and light[-1] < 0.1


def test_normals_are_world_directions(tmp_path):
    path = CameraPath((PathCamera(CAMERA, pose_looking((4, 0, 0), (0, 0, 0))),), 10.0)
    made = rendered(ball_run(tmp_path), tmp_path / "n", ("normals",), as_frames=True, path=path)
    np.testing.assert_allclose(pixels(made[0] / "00000.png")[24, 32], [255, 127.5, 127.5], atol=4)  # towards +x


def test_transparent_frames_have_straight_alpha(tmp_path):
    run = ball_run(tmp_path)
    made = rendered(run, tmp_path / "t", ("rgb", "depth", "normals", "alpha"), "transparent")
    picture = pixels(made[0] / "00000.png")
    assert picture.shape == (48, 64, 4)
    assert (picture[24, 32] == [128, 128, 128, 255]).all() and picture[0, 0, 3] == 0
    assert pixels(made[1] / "00000.png").shape == (48, 64, 4) and pixels(made[3] / "00000.png").shape == (48, 64)
    assert {background for camera, background in run.rendered if camera.width == 64} >= {(0.0, 0.0, 0.0)}


def test_half_transparent_colour_is_divided_by_its_alpha(tmp_path):
    run = ball_run(tmp_path)
    whole = run.render

    def half(*arguments, **more):
        picture = whole(*arguments, **more)
        picture.alpha, picture.rgb = picture.alpha / 2, picture.rgb / 2
        return picture

    run.render = half
    picture = pixels(rendered(run, tmp_path / "t", background="transparent")[0] / "00000.png")
    np.testing.assert_array_equal(picture[24, 32], [128, 128, 128, 128])


@pytest.mark.parametrize("background, colour", [("black", (0.0, 0.0, 0.0)), ("#ff8000", (1.0, 128 / 255, 0.0)),
                                                ("red", (1.0, 0.0, 0.0))])
def test_backgrounds_are_colours(tmp_path, background, colour):
    run = ball_run(tmp_path)
    rendered(run, tmp_path / "o", background=background)
    assert run.rendered[0][1] == pytest.approx(colour)


@pytest.mark.parametrize("channels, background, message", [(("rgb", "heat"), "white", "got heat"), ((), "white", "got none"),
                                                           (("rgb",), "greenish", "got greenish")])
def test_what_cannot_be_drawn_is_refused_before_rendering(tmp_path, channels, background, message):
    run = ball_run(tmp_path)
    with pytest.raises(UsageError, match=message):
        rendered(run, tmp_path / "o", channels, background)
    assert not run.rendered and not everything(tmp_path)


def test_a_video_of_several_sizes_is_refused_but_frames_are_not(tmp_path):
    poses = [one.world_from_camera for one in approach().cameras]
    other = Camera(32, 32, 30.0, 30.0, 16.0, 16.0, Lens())
    path = CameraPath((PathCamera(CAMERA, poses[0]), PathCamera(other, poses[1])), 10.0)
    with pytest.raises(UsageError, match="--size"):
        rendered(ball_run(tmp_path), tmp_path / "o", path=path)
    made = rendered(ball_run(tmp_path), tmp_path / "o", path=path, as_frames=True)
    assert pixels(made[0] / "00001.png").shape == (32, 32, 3)


def test_odd_names_are_names(tmp_path):
    out = tmp_path / "[x]\n:%d"
    assert rendered(ball_run(tmp_path), out)[0].exists()


def test_a_film_leaves_frames_that_were_asked_for_and_files_of_the_user(tmp_path):
    run, out = ball_run(tmp_path), tmp_path / "orbit"
    rendered(run, out, as_frames=True)
    notes = tmp_path / "orbit.frames" / "rgb" / "notes.txt"
    notes.write_text("mine")
    kept = everything(tmp_path / "orbit.frames")
    with pytest.raises(ResourceError, match="asked for with other flags"):
        rendered(run, out, background="black")
    assert everything(tmp_path / "orbit.frames") == kept and notes.read_text() == "mine"


def test_a_film_is_put_into_a_folder_that_is_there_and_needs_a_name(tmp_path):
    assert rendered(ball_run(tmp_path), tmp_path) == [tmp_path / "view.mp4"]
    with pytest.raises(UsageError, match="must name the film"):
        rendered(ball_run(tmp_path), tmp_path / ".mp4")
