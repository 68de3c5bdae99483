import dataclasses
import json
import math
import os

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.export.crop import Box
from nerf_app.export.depth import known_words, shots_of_path, shots_of_split, write_depth
from nerf_app.export.float_files import FLOAT_FILES
from nerf_app.export.path_files import CameraPath, PathCamera
from nerf_app.picture import FRONT, NEARBY, pixel_directions
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.scene import View
from tests.analytic import UNBOUNDED, AnalyticField, fog, orange
from tests.export.analytic_run import CENTRE, field_run
from tests.export.stand_in import FISHEYE, pose_looking, ring

CAMERA = Camera(40, 30, 50.0, 50.0, 20.5, 15.0)
BENT = dataclasses.replace(CAMERA, lens=Lens(radial=(-0.2, 0.05, 0.0, 0.0)))
QUIET = lambda done, total: None  # noqa: E731
FROM_AFAR = pose_looking(CENTRE + np.array([0.0, -4.0, 0.0]), CENTRE)
IN_THE_MIDDLE = pose_looking(CENTRE, CENTRE + np.array([0.0, 1.0, 0.0]))


def around(camera=CAMERA, count=3, folder="photos"):
    return [View(f"{folder}/{i:02}.jpg", camera, pose, "test") for i, pose in enumerate(ring(count, centre=CENTRE))]


def wall(place, density=1e5, before=0.0):
    """Opaque beyond y = `place` in scene coordinates, thin fog in front of it."""
    return AnalyticField(lambda points: torch.where(points[:, 1] > place, density, before), orange)


def export(out, run, **flags):
    return write_depth(run, shots_of_split(run, "test"), out, QUIET, **flags)[0]


def ball_depths(camera, pose):
    """The true z and range at pixel centres, [H, W] each, NaN beside the ball of radius 1."""
    x, y = np.meshgrid((np.arange(camera.width) + 0.5 - camera.centre_x_px) / camera.focal_x_px,
                       (np.arange(camera.height) + 0.5 - camera.centre_y_px) / camera.focal_y_px)
    lengths = np.sqrt(x**2 + y**2 + 1)
    directions = np.stack([x, -y, -np.ones_like(x)], -1) / lengths[..., None] @ pose[:3, :3].T
    to_centre = CENTRE - pose[:3, 3]
    along = directions @ to_centre
    under_root = along**2 - to_centre @ to_centre + 1.0
    distance = np.where(under_root > 0, along - np.sqrt(np.maximum(under_root, 0)), np.nan)
    return distance / lengths, distance


def test_every_file_holds_the_balls_true_depth_on_the_photos_own_pixels(tmp_path):
    run = field_run(around(), samples=1500)
    index = json.loads(export(tmp_path, run).read_text())
    assert index["depths"] == ["photos/00", "photos/01", "photos/02"] and index["png"]["factor"] == 10_000.0
    for view, place in zip(run.views, index["depths"], strict=True):
        truth_z, truth_range = ball_depths(CAMERA, view.world_from_camera)
        base = str(tmp_path / place)
        z, distance, mean_z, mean_range = (np.load(f"{base}.{kind}.npy") for kind in ("z", "range", "mean_z", "mean_range"))
        assert all(depth.dtype == np.float32 and depth.shape == (30, 40) for depth in (z, distance, mean_z, mean_range))
        sure = truth_range < 3.5
        assert sure.sum() > 150 and (np.isnan(z) != np.isnan(truth_z)).mean() < 0.03
        for depth, truth in ((z, truth_z), (mean_z, truth_z), (distance, truth_range), (mean_range, truth_range)):
            np.testing.assert_allclose(depth[sure], truth[sure], rtol=5e-3)
        steps = np.array(Image.open(f"{base}.png"))
        assert steps.dtype == np.uint16 and np.array_equal(steps, cv2.imread(f"{base}.png", cv2.IMREAD_UNCHANGED))
        assert np.array_equal(steps == 0, np.isnan(z))
        np.testing.assert_allclose(steps[steps > 0] / 10_000.0, z[steps > 0], atol=0.51e-4)
        facts = json.loads((tmp_path / f"{place}.json").read_text())
        np.testing.assert_array_equal(facts["transform_matrix"], view.world_from_camera)
        words = {"fl_x": 50.0, "cx": 20.5, "camera_model": "PINHOLE", "known_pixels": int(np.isfinite(z).sum())}
        assert facts | words == facts


def test_a_point_made_from_the_sidecar_and_the_files_lies_on_the_ball(tmp_path):
    export(tmp_path, field_run(around(BENT), samples=1500))
    facts, z = json.loads((tmp_path / "photos/01.json").read_text()), np.load(tmp_path / "photos/01.z.npy")
    rows, columns = np.nonzero(np.load(tmp_path / "photos/01.range.npy") < 3.4)
    matrix = np.array([[facts["fl_x"], 0, facts["cx"]], [0, facts["fl_y"], facts["cy"]], [0, 0, 1]])
    bent = np.array([facts["k1"], facts["k2"], facts["p1"], facts["p2"]])
    pixels = np.stack([columns + 0.5, rows + 0.5], 1)
    x, y = cv2.undistortPoints(pixels[:, None], matrix, bent)[:, 0].T
    inside = np.stack([x, -y, -np.ones_like(x)], 1) * z[rows, columns, None]
    pose = np.array(facts["transform_matrix"])
    points = inside @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(np.linalg.norm(points - CENTRE, axis=1), 1.0, atol=0.015)


def test_in_uniform_fog_a_depth_ends_where_the_front_of_the_light_is_gone_however_long_the_samples_are(tmp_path):
    density, begin = 12.0, 0.05 * 2.0  # per scene unit; where rays begin, input units
    shots = {"fog": PathCamera(CAMERA, IN_THE_MIDDLE)}
    for samples in (3, 200):
        run = field_run([], fog(density), samples)
        write_depth(run, shots, tmp_path, QUIET)
        front = np.load(tmp_path / "fog.range.npy")
        np.testing.assert_allclose(front, begin - 2.0 * math.log(1.0 - FRONT) / density, rtol=1e-3)
    mean = np.load(tmp_path / "fog.mean_range.npy")
    np.testing.assert_allclose(mean, begin + 2.0 / density, rtol=5e-3)


def test_confidence_is_the_light_stopped_near_the_depth_in_fog_at_walls_and_behind_haze():
    def middle(field):
        picture = field_run([], field, 3000).render(CAMERA, IN_THE_MIDDLE)
        assert picture.confidence.shape == (30, 40) and 0.0 <= picture.confidence.min() <= picture.confidence.max() <= 1.00001
        return float(picture.confidence[15, 20]), float(picture.range[15, 20]) / 2.0
    sure, distance = middle(fog(12.0))
    assert sure == pytest.approx(2.0 * (1.0 - FRONT) * math.sinh(12.0 * NEARBY * distance), rel=1e-3)
    sure, distance = middle(wall(0.5))
    assert sure == pytest.approx(1.0, abs=1e-3) and distance == pytest.approx(0.5, abs=1e-3)
    tau = 0.3 * (0.99 * 0.5 - 0.05)  # of the haze before the wall: its light is stopped far from the wall
    sure, _ = middle(wall(0.5, before=0.3))
    assert sure == pytest.approx(math.exp(-tau), abs=1e-3)


def test_where_less_than_half_is_stopped_nothing_is_known_and_nothing_is_confident(tmp_path):
    run = field_run([View("thin.png", CAMERA, FROM_AFAR, "test")], fog(0.1))
    export(tmp_path, run)
    for kind in ("z", "range", "mean_z", "mean_range"):
        assert np.isnan(np.load(tmp_path / f"thin.{kind}.npy")).all()
    assert not np.array(Image.open(tmp_path / "thin.png")).any()
    assert not np.array(Image.open(tmp_path / "thin.confidence.png")).any()
    assert known_words(tmp_path / "depth.json") == "NONE OF THE PIXELS HAS ONE: nothing opaque is seen there"


def test_how_many_pixels_have_a_depth_is_said(tmp_path):
    index = export(tmp_path, field_run(around(count=2)))
    part = np.mean([np.isfinite(np.load(tmp_path / f"photos/0{i}.z.npy")).mean() for i in (0, 1)])
    assert 0.0 < part < 1.0 and known_words(index) == f"{100 * part:.3g} % of the pixels have one"


def test_with_a_metric_scale_the_pictures_hold_millimetres_and_the_floats_stay_input_units(tmp_path):
    run = field_run(around(count=1))
    export(tmp_path / "units", run)
    export(tmp_path / "metres", run, metres_per_unit=0.25)
    z = np.load(tmp_path / "metres/photos/00.z.npy")
    np.testing.assert_array_equal(z, np.load(tmp_path / "units/photos/00.z.npy"))
    millimetres = np.array(Image.open(tmp_path / "metres/photos/00.png"))
    np.testing.assert_allclose(millimetres[millimetres > 0], 250.0 * z[millimetres > 0], atol=0.51)
    facts = json.loads((tmp_path / "metres/photos/00.json").read_text())
    assert facts["png"] == {"holds": "z", "steps_per": "metre", "factor": 1000.0, "unknown": 0, "too_far": 0}
    assert facts["metres_per_unit"] == 0.25


@pytest.mark.parametrize("metres_per_unit, factor", [(1.0, 1000.0), (30.0, 100.0), (3000.0, 1.0)])
def test_millimetres_that_do_not_fit_into_16_bits_become_coarser_steps(tmp_path, metres_per_unit, factor):
    run = field_run(around(count=1))
    index = json.loads(export(tmp_path, run, metres_per_unit=metres_per_unit).read_text())
    assert index["png"]["factor"] == factor  # the ball is 3 to 4 input units away
    z, steps = np.load(tmp_path / "photos/00.z.npy"), np.array(Image.open(tmp_path / "photos/00.png"))
    np.testing.assert_allclose(steps[steps > 0] / factor, z[steps > 0] * metres_per_unit, atol=0.51 / factor)


def test_a_few_far_pixels_cost_no_digits_and_are_counted(tmp_path):
    near = field_run([View("near.png", CAMERA, FROM_AFAR, "test")])
    render = type(near).render

    class Specked(type(near)):
        def render(self, camera, *args, **flags):
            picture = render(self, camera, *args, **flags)
            if camera.width == 200:
                picture.z_depth[0, 0] = 1e4
            return picture
    camera = Camera(200, 150, 250.0, 250.0, 100.0, 75.0)
    run = Specked(**{field.name: getattr(near, field.name) for field in dataclasses.fields(near)})
    write_depth(run, {"specked": PathCamera(camera, FROM_AFAR)}, tmp_path, QUIET)
    facts = json.loads((tmp_path / "specked.json").read_text())
    assert facts["png"]["factor"] == 10_000.0 and facts["png"]["too_far"] == 1
    assert np.array(Image.open(tmp_path / "specked.png"))[0, 0] == 0


def test_undistort_writes_what_a_pinhole_in_the_lens_place_sees(tmp_path):
    bent, straight = field_run(around(BENT, 1)), field_run(around(CAMERA, 1))
    export(tmp_path / "bent", bent)
    export(tmp_path / "undistorted", bent, undistort=True)
    export(tmp_path / "straight", straight)
    z = {name: np.load(tmp_path / name / "photos/00.z.npy") for name in ("bent", "undistorted", "straight")}
    np.testing.assert_array_equal(z["undistorted"], z["straight"])
    assert not np.array_equal(z["bent"], z["straight"], equal_nan=True)
    assert json.loads((tmp_path / "undistorted/photos/00.json").read_text())["camera_model"] == "PINHOLE"
    panorama = Camera(40, 20, 6.0, 6.0, 20.0, 10.0, Lens("equirectangular"))
    with pytest.raises(UsageError, match="a panorama sees all round"):
        export(tmp_path, field_run(around(panorama)), undistort=True)


def test_a_lens_that_sees_to_the_sides_has_its_range_in_the_pictures(tmp_path):
    index = json.loads(export(tmp_path, field_run(around(FISHEYE, 1))).read_text())
    assert index["png"]["holds"] == index["colours"]["kind"] == "range"
    distance, steps = np.load(tmp_path / "photos/00.range.npy"), np.array(Image.open(tmp_path / "photos/00.png"))
    np.testing.assert_allclose(steps[steps > 0] / index["png"]["factor"], distance[steps > 0], atol=1e-4)


def test_the_same_depth_has_the_same_colour_in_every_picture_of_a_sequence(tmp_path):
    poses = [pose_looking(CENTRE + np.array([0.0, -y, 0.0]), CENTRE) for y in (3.0, 6.0)]
    run = field_run([])
    write_depth(run, shots_of_path(CameraPath(tuple(PathCamera(CAMERA, pose) for pose in poses), 24.0)), tmp_path, QUIET)
    near, far = (np.array(Image.open(tmp_path / f"{i:05d}.colour.png"))[15, 20].astype(int) for i in (0, 1))
    assert near.sum() > far.sum() + 200  # near is bright; each with a range of its own, both middles would be


def test_what_lies_outside_of_the_crop_is_unknown_and_the_rest_as_before(tmp_path):
    run, box = field_run(around()), Box(CENTRE + (0.0, 0.0, 1.0), np.eye(3), np.ones(3))  # the ball's upper half
    for folder, crop in (("all", None), ("half", box)):
        write_depth(run, shots_of_split(run, "all"), tmp_path / folder, QUIET, box=crop)
    half, whole = (tmp_path / folder / "photos/00" for folder in ("half", "all"))
    for kind in ("z", "range", "mean_z", "mean_range"):
        values, before = (np.load(f"{place}.{kind}.npy") for place in (half, whole))
        is_kept = ~np.isnan(values)
        assert 20 < is_kept.sum() < (~np.isnan(before)).sum() and (values == before)[is_kept].all()
    steps, sure = (np.array(Image.open(f"{half}.{ending}")) for ending in ("png", "confidence.png"))
    assert ((steps > 0) == is_kept).all() and not sure[~is_kept].any()
    view, ranges = run.views[0], np.load(f"{half}.range.npy")
    ways = pixel_directions(view.camera) @ view.world_from_camera[:3, :3].T
    points = view.world_from_camera[:3, 3] + ranges[..., None] * ways
    assert box.contains(points[is_kept]).all()
    assert json.loads((tmp_path / "half/depth.json").read_text())["crop"]["half_sizes"] == [1.0, 1.0, 1.0]


def test_a_crop_that_no_picture_shows_is_refused_before_anything_is_written(tmp_path):
    run = field_run(around())
    with pytest.raises(DataError, match="none of these pictures shows anything opaque in the crop box of 1 × 1 × 1"):
        write_depth(run, shots_of_split(run, "all"), tmp_path / "new", QUIET, box=Box(CENTRE + 9.0, np.eye(3), np.full(3, 0.5)))
    assert not (tmp_path / "new").exists()


def test_float_depths_may_be_exr(tmp_path):
    run = field_run(around())
    for form in ("npy", "exr"):
        files = write_depth(run, shots_of_split(run, "all"), tmp_path / form, QUIET, form=form)
        assert sorted(files) == sorted(path for path in (tmp_path / form).rglob("*") if path.is_file())
    assert np.array_equal(FLOAT_FILES["exr"].read(tmp_path / "exr/photos/00.z.exr"), np.load(tmp_path / "npy/photos/00.z.npy"),
                          equal_nan=True)
    assert (tmp_path / "exr/photos/00.png").read_bytes() == (tmp_path / "npy/photos/00.png").read_bytes()


def test_lenses_that_transforms_json_cannot_say_are_described_in_our_own_words(tmp_path):
    rational = dataclasses.replace(CAMERA, lens=Lens(radial=(0.1, 0.0, 0.0, 0.0), denominator=(0.05, 0.0, 0.0)))
    export(tmp_path, field_run(around(rational, 1)))
    facts = json.loads((tmp_path / "photos/00.json").read_text())
    assert facts["lens"]["denominator"] == [0.05, 0.0, 0.0] and facts["focal_x_px"] == 50.0


def test_photos_of_one_name_and_hostile_names_stay_apart_and_below_the_folder(tmp_path):
    names = ["a/1.jpg", "a/1.png", "b/1.png", "../../out.png", "/abs.png", os.fsdecode(b"\xff[/x]\n.png"), "c.png",
             "c.colour.png", "d.jpg", "d.jpg-8.confidence.png", "d.png"]
    tiny = Camera(4, 3, 4.0, 4.0, 2.0, 1.5)
    run = field_run([View(name, tiny, FROM_AFAR, "test") for name in names])
    told = []
    index, *files = write_depth(run, shots_of_split(run, "all"), tmp_path / "deep/out", lambda *state: told.append(state))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 11 * 8 + 1 and all(path.is_relative_to(tmp_path / "deep/out") for path in written)
    places = json.loads(index.read_text())["depths"]
    assert [json.loads((index.parent / f"{place}.json").read_text())["name"] for place in places] == names
    assert told == [(i + 1, 11) for i in range(11)]
    assert sorted([index, *files]) == sorted(written), "every file is named"


@pytest.mark.parametrize("name", ["depth.png", "depth"])
def test_a_photo_called_depth_keeps_its_own_words_beside_the_summary(tmp_path, name):
    tiny = Camera(4, 3, 4.0, 4.0, 2.0, 1.5)
    index, *files = write_depth(field_run([]), {name: PathCamera(tiny, FROM_AFAR)}, tmp_path, QUIET)
    assert index.name == "depth.json" and len({index, *files}) == 9
    place, = json.loads(index.read_text())["depths"]
    assert json.loads((tmp_path / f"{place}.json").read_text())["name"] == name


def test_a_split_without_photos_and_a_folder_that_cannot_be_made_are_said(tmp_path):
    run = field_run(around())
    with pytest.raises(UsageError, match="no train photos; --split test or all has some"):
        shots_of_split(run, "train")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot make .*give another --out"):
        export(tmp_path / "file", run)


def test_an_unbounded_scene_knows_far_depths_too(tmp_path):
    field = AnalyticField(lambda points: torch.where(points[:, 1] > 5.0, 1e5, 0.0), orange, UNBOUNDED)
    run = field_run([], field, 3000)
    write_depth(run, {"far": PathCamera(CAMERA, IN_THE_MIDDLE)}, tmp_path, QUIET)
    np.testing.assert_allclose(np.load(tmp_path / "far.z.npy"), 10.0, rtol=5e-3)
    assert np.array(Image.open(tmp_path / "far.confidence.png")).min() > 200
