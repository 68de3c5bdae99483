import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from nerf_app import cli
from nerf_app.check.conventions import CONVENTIONS
from nerf_app.errors import DataError
from nerf_app.scene.load import load_scene, read_listing
from nerf_app.scene.settings import SceneSettings
from tests.check.scenes import copy_object, copy_room, read, write, write_as

SETTINGS = SceneSettings()
W2C_OPENCV = CONVENTIONS[5]


def check(scene, *flags, capsys):
    """(exit code, the object that --json prints)."""
    code = cli.main(["check", str(scene), "--out", str(scene.parent / f"{scene.name}.png"), "--json", *map(str, flags)])
    return code, json.loads(capsys.readouterr().out)


def faults(result):
    return [finding["what"] for finding in result["findings"] if finding["level"] == "fault"]


def poses_of(folder):
    return {frame.name.rsplit("/", 1)[1]: frame.world_from_camera for frame in read_listing(folder, SETTINGS)[0].frames}


def mended(scene, capsys):
    """(what was found, the corrected copy), the copy certain to be fit for the loader."""
    out = scene.parent / "mended"
    code, result = check(scene, "--fix", out, capsys=capsys)
    assert code == 3 == result["exit_code"] and result["files"][-1] == str(out)
    load_scene(out)
    return faults(result), out


@pytest.mark.parametrize("copy", [copy_object, copy_room])
def test_an_untouched_scene_has_no_fault_and_its_picture_is_made(tmp_path, capsys, copy):
    code, result = check(copy(tmp_path / "scene"), capsys=capsys)
    assert (code, faults(result), result["exit_code"]) == (0, [], 0)
    assert max(result["conventions"], key=result["conventions"].get) == "camera-to-world, OpenGL (right, up, back)"
    assert result["files"] == [str(tmp_path / "scene.png")]
    with Image.open(tmp_path / "scene.png") as picture:
        assert picture.width > 1000


def test_poses_in_another_convention_are_named_and_mended(tmp_path, capsys):
    scene = copy_object(tmp_path / "scene")
    before = poses_of(scene)
    write_as(scene, W2C_OPENCV, "transforms_train.json")
    (fault,), out = mended(scene, capsys)
    assert check(out, capsys=capsys)[0] == 0
    assert f"the poses are {W2C_OPENCV}, not camera-to-world, OpenGL" in fault
    after = poses_of(out)
    for name, pose in before.items():
        np.testing.assert_allclose(after[name], pose, atol=1e-9)
    assert os.path.exists(out / "transforms_train.json")  # still Blender's


def test_exchanged_sides_which_the_loader_refuses_are_named_and_mended(tmp_path, capsys):
    scene = copy_room(tmp_path / "scene")
    content = read(scene)
    write(scene, content | {"w": content["h"], "h": content["w"]})
    with pytest.raises(DataError, match="its camera says 360×480"):
        load_scene(scene)
    (fault,), out = mended(scene, capsys)
    assert "width and height exchanged: 12" in fault
    camera = read_listing(out, SETTINGS)[0].frames[0].camera
    assert (camera.width, camera.height, camera.centre_x_px) == (content["w"], content["h"], content["cx"])


def test_a_principal_point_half_a_pixel_off_is_nothing_to_speak_of(tmp_path, capsys):
    scene = copy_room(tmp_path / "scene")
    content = read(scene)
    write(scene, content | {"cx": content["cx"] + 0.5, "cy": content["cy"] - 0.5})
    assert check(scene, capsys=capsys)[0] == 0


def test_inverted_masks_are_found_and_turned_round(tmp_path, capsys):
    scene = copy_object(tmp_path / "scene")
    (scene / "masks").mkdir()
    alphas = {}
    for name in os.listdir(scene / "train"):
        rgba = np.asarray(Image.open(scene / "train" / name))
        alphas[name] = rgba[..., 3]
        Image.fromarray(rgba[..., :3]).save(scene / "train" / name)
        Image.fromarray(255 - rgba[..., 3]).save(scene / "masks" / name)
    (fault,), out = mended(scene, capsys)
    assert "the masks look inverted" in fault
    for name, alpha in alphas.items():
        np.testing.assert_array_equal(np.asarray(Image.open(out / "images/train" / name))[..., 3], alpha)


def test_an_inverted_alpha_is_found_and_turned_round(tmp_path, capsys):
    scene = copy_object(tmp_path / "scene")
    before = {name: np.asarray(Image.open(scene / "train" / name)) for name in os.listdir(scene / "train")}
    for name, rgba in before.items():
        Image.fromarray(np.dstack([rgba[..., :3], 255 - rgba[..., 3]])).save(scene / "train" / name)
    (fault,), out = mended(scene, capsys)
    assert "alpha looks inverted" in fault and check(out, capsys=capsys)[0] == 0
    for name, rgba in before.items():
        np.testing.assert_array_equal(np.asarray(Image.open(out / "images/train" / name)), rgba)


def test_twins_and_broken_photos_stay_behind(tmp_path, capsys):
    scene = copy_room(tmp_path / "scene")
    content = read(scene)
    frames = content["frames"]
    for name, photo, pose in (("twin", 3, 3), ("torn", 5, 10)):
        shutil.copy(scene / frames[photo]["file_path"], scene / f"images/{name}.jpg")
        frames.append(dict(frames[pose], file_path=f"images/{name}.jpg"))
    (scene / frames[8]["file_path"]).write_bytes((scene / frames[8]["file_path"]).read_bytes()[:3000])
    frames.append(dict(frames[0], file_path="images/gone.jpg"))
    write(scene, content)
    found, out = mended(scene, capsys)
    assert found == ["photos that are there again with another pose: 1"]
    assert len(poses_of(out)) == 11 and not {"twin.jpg", "torn.jpg", "gone.jpg", "frame_00009.jpg"} & set(poses_of(out))


def test_faults_that_nobody_can_mend_are_left_and_said(tmp_path, capsys):
    scene = copy_room(tmp_path / "scene")
    content = read(scene)
    names = [entry["file_path"] for entry in content["frames"]]
    for entry, name in zip(content["frames"], names[5:] + names[:5], strict=True):
        entry["file_path"] = name
    write(scene, content)
    code, result = check(scene, "--fix", tmp_path / "out", capsys=capsys)
    assert code == 3 and faults(result) == ["the poses do not belong to these photos"]
    assert "still to be mended: the poses do not belong to these photos" in result["notes"]


@pytest.mark.parametrize("spoil, words", [
    (lambda content: content["frames"][2]["transform_matrix"][0].reverse(), "the scene's files cannot be used"),
    (lambda content: [entry.update(transform_matrix=np.eye(4).tolist()) for entry in content["frames"]],
     "these cameras cannot be learnt from"),
    (lambda content: content.update(fl_x=2.0, fl_y=2.0, camera_model="OPENCV", k1=0, k2=0, k3=0, k4=0),
     "photos with an impossible angle of view: 5"),
    (lambda content: content.update(w=100), "photos that do not go together with their cameras: 5"),
    (lambda content: content.update(frames=content["frames"][:2]), "too few photos can be used")])
def test_what_the_loader_would_refuse_is_a_finding_here(tmp_path, capsys, spoil, words):
    scene = copy_room(tmp_path / "scene", 5)
    content = read(scene)
    spoil(content)
    write(scene, content)
    code, result = check(scene, "--fix", tmp_path / "out", capsys=capsys)  # findings are told also where nothing can be copied
    assert code == 3 and words in faults(result)
    assert str(tmp_path / "out") in result["files"] or "no corrected copy: " in result["notes"][0]
    assert all(finding["evidence"] and finding["cure"] for finding in result["findings"])


def test_where_there_is_no_scene_one_line_says_so(tmp_path, capsys):
    assert cli.main(["check", str(tmp_path / "nowhere")]) == 3
    assert "does not exist" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path), "--out", str(tmp_path / "a.jpg")]) == 2
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("")
    assert cli.main(["check", str(tmp_path), "--fix", str(tmp_path / "there")]) == 2


def test_a_person_gets_each_finding_in_three_lines_and_the_files_last(tmp_path, capsys):
    scene = copy_room(tmp_path / "scene", 5)
    (scene / read(scene)["frames"][1]["file_path"]).unlink()
    assert cli.main(["check", str(scene), "--out", str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "note: photos that are listed but not there: 1 (images/frame_00002.jpg)"
    assert lines[1].startswith("  seen: ") and lines[2].startswith("  cure: ") and lines[-1] == str(tmp_path / "a.png")
    assert "photo 4 of 4" in said.err and "on 4 photos" in lines[-2]
