import numpy as np
import pytest

from nerf_app.check.conventions import CONVENTIONS, OF_FORMAT
from nerf_app.check.judge import judge, matches_of
from nerf_app.check.looks import FEATURES_SIDE, look_at
from nerf_app.check.sizes import fit_photos
from nerf_app.scene.load import read_listing
from nerf_app.scene.matching import choose_pairs
from nerf_app.scene.settings import SceneSettings
from tests.check.scenes import DATA


@pytest.fixture(scope="module", params=["object", "room"])
def seen(request):
    """(matches, poses, format) of a bundled scene."""
    listing, _ = read_listing(DATA / request.param, SceneSettings())
    sized, findings = fit_photos(listing.frames)
    poses = np.stack([one.frame.world_from_camera for one in sized])
    pairs = choose_pairs(poses, 18)
    assert not findings
    features = {i: look_at(sized[i].file, True).features for i in {i for pair in pairs for i in pair}}
    return matches_of(pairs, features, [one.fit.camera for one in sized], FEATURES_SIDE), poses, listing.format


def as_if(poses, format, convention):
    """The poses that the format's reader makes of a file that was written in another convention."""
    return OF_FORMAT[format].read(convention.stored(poses))


@pytest.mark.parametrize("truth", CONVENTIONS, ids=str)
def test_the_convention_of_the_bundled_scenes_is_named_whichever_it_is(seen, truth):
    found, poses, format = seen
    named, by_convention, findings = judge(found, as_if(poses, format, truth), format)
    assert named == truth and len(by_convention) == 8
    if truth == OF_FORMAT[format]:
        assert findings == []
    else:
        (finding,) = findings
        assert finding.is_fault and finding.is_mended and f"the poses are {truth}, not {OF_FORMAT[format]}" in finding.what
        assert "% agree with the poses as they stand" in finding.evidence and "must be camera-to-world" in finding.cure
        assert ("invert the matrices" in finding.cure) == (truth.direction != OF_FORMAT[format].direction)


def test_poses_in_another_order_than_the_photos_are_named_hopeless(seen):
    found, poses, format = seen
    _, _, (finding,) = judge(found, np.random.permutation(poses), format)
    assert finding.is_fault and not finding.is_mended and "do not belong to these photos" in finding.what


def test_too_few_matches_are_said_and_blamed_on_nobody(seen):
    found, poses, format = seen
    named, by_convention, (finding,) = judge(found[:3], as_if(poses, format, CONVENTIONS[5]), format)
    assert named == OF_FORMAT[format] and by_convention == {} and not finding.is_fault


def test_some_wrong_poses_do_not_change_the_verdict(seen):
    found, poses, format = seen
    spoilt = poses.copy()
    spoilt[::5] = np.roll(poses[::5], 1, 0)
    named, _, findings = judge(found, spoilt, format)
    assert named == OF_FORMAT[format] and findings == []
