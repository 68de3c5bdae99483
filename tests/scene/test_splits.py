import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerf_app.errors import UsageError
from nerf_app.scene.splits import check_test, choose_splits

NAMES = [f"images/{i:03d}.jpg" for i in range(40)]
NONE = [None] * 40


def positions(splits, split):
    return [i for i, one in enumerate(splits) if one == split]


def test_every_eighth_photo_by_path_is_kept_for_the_test(tmp_path):
    splits, how = choose_splits(NAMES, NONE, "auto", tmp_path)
    assert positions(splits, "test") == [0, 8, 16, 24, 32] and how == "every 8th"


def test_counting_goes_by_path_whatever_the_order_of_listing(tmp_path):
    splits, _ = choose_splits(NAMES, NONE, "auto", tmp_path)
    backwards, _ = choose_splits(NAMES[::-1], NONE, "auto", tmp_path)
    assert backwards == splits[::-1]


def test_the_sets_own_test_and_validation_photos_are_kept(tmp_path):
    stated = ["test"] * 5 + ["val"] * 7 + ["train"] * 28
    splits, how = choose_splits(NAMES, stated, "auto", tmp_path)
    assert splits == stated and how == "the set's own"


def test_own_validation_photos_stay_when_the_test_is_counted_out(tmp_path):
    stated = ["val"] * 4 + [None] * 36
    splits, _ = choose_splits(NAMES, stated, "every:4", tmp_path)
    assert positions(splits, "val") == [0, 1, 2, 3] and positions(splits, "test") == list(range(4, 40, 4))


def test_none_lets_every_photo_train_even_the_sets_own_test(tmp_path):
    splits, _ = choose_splits(NAMES, ["test"] * 20 + ["val"] * 2 + ["train"] * 18, "none", tmp_path)
    assert "test" not in splits and splits.count("train") == 38


@given(st.integers(1, 200))
def test_validation_takes_at_most_four_and_leaves_twelve(count):
    splits, _ = choose_splits([f"{i:03d}" for i in range(count)], [None] * count, "none", None)
    taken = splits.count("val")
    assert taken <= 4 and taken <= max(1, count // 10) and (taken == 0 or count - taken >= 12)
    assert (taken > 0) == (count > 12)


def test_validation_photos_are_spread_evenly(tmp_path):
    splits, _ = choose_splits(NAMES, NONE, "none", tmp_path)
    assert positions(splits, "val") == [5, 15, 25, 35]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_photos_all_train(count, tmp_path):
    assert set(choose_splits(NAMES[:count], NONE[:count], "auto", tmp_path)[0]) == {"train"}


@pytest.mark.parametrize("content", ["images/003.jpg\n\n  ./images/007.jpg\r\n", json.dumps(["003.jpg", "images/007.jpg"])])
def test_a_file_lists_the_test_photos_by_path_or_last_part(content, tmp_path):
    (tmp_path / "held_out.txt").write_text(content)
    splits, how = choose_splits(NAMES, NONE, "held_out.txt", tmp_path)
    assert positions(splits, "test") == [3, 7] and "held_out.txt" in how


def test_a_list_may_name_photos_that_are_not_there(tmp_path):
    (tmp_path / "list").write_text("\ufeffimages/003.jpg\ngone.jpg\nlost.jpg\n")
    assert positions(choose_splits(NAMES, NONE, "list", tmp_path, {"gone.jpg", "images/lost.jpg"})[0], "test") == [3]


@pytest.mark.parametrize("test", ["every:1", "every:0", "every:-3", "every:x", "every:", "every:²", "nonsense", "every:8.0"])
def test_a_value_that_cannot_be_meant_is_a_usage_error(test, tmp_path):
    with pytest.raises(UsageError) as caught:
        choose_splits(NAMES, NONE, test, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["other.jpg", "", "[1, 2]", "[\"a\"", "front/1.jpg\n1.jpg"])
def test_a_list_that_cannot_be_followed_is_a_usage_error(content, tmp_path):
    (tmp_path / "list").write_text(content)
    names = ["front/1.jpg", "back/1.jpg", *NAMES]
    with pytest.raises(UsageError, match="list"):
        choose_splits(names, [None] * len(names), "list", tmp_path)


def test_a_set_that_keeps_all_photos_for_the_test_is_told_what_to_type(tmp_path):
    with pytest.raises(UsageError, match="set's own files keep all .* --test every:8"):
        choose_splits(NAMES, ["test"] * len(NAMES), "auto", tmp_path)
    assert len(positions(choose_splits(NAMES, ["test"] * len(NAMES), "every:8", tmp_path)[0], "train")) > 30


def test_a_test_that_leaves_nothing_to_train_on_is_refused(tmp_path):
    (tmp_path / "list").write_text("\n".join(NAMES))
    with pytest.raises(UsageError, match="no photo to train on"):
        choose_splits(NAMES, NONE, "list", tmp_path)


def test_a_name_that_is_too_long_for_a_file_is_refused_in_one_line():
    with pytest.raises(UsageError, match="--test must be auto, none, every:N or a file that lists photos"):
        check_test("x" * 5000, [Path(".")])
