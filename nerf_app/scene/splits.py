"""Who trains, who is looked at on the way (validation), and who is kept for the closing score (test)."""

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from nerf_app.errors import UsageError
from nerf_app.scene.paths import read_file, shown

INTERVAL = 8  # one photo of so many is kept for the test; what the field's papers do
FEWEST = 12  # training photos that validation must leave over
MOST = 4  # validation photos
LIST_BYTES = 2**24


def choose_splits(names: Sequence[str], stated: Sequence[str | None], test: str, root: Path,
                  absent: Collection[str] = ()) -> tuple[list[str], str]:
    """One of train, val, test for each of `names`, and how the test photos were chosen.

    `stated` is the set's own split, None where it has none; `test` is the setting: auto, none, every:N, or a file's name,
    looked for from here and from `root`. Such a file may list photos that are `absent`. Counting goes by sorted paths.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    splits, how = _choose([names[i] for i in order], [stated[i] for i in order], test, root, absent)
    by_position = dict(zip(order, splits))
    return [by_position[i] for i in range(len(names))], how


def _choose(names: Sequence[str], stated: Sequence[str | None], test: str, root: Path,
            absent: Collection[str]) -> tuple[list[str], str]:
    """`choose_splits` for sorted names."""
    splits = [split or "train" for split in stated]
    is_own = test == "auto" and "test" in splits
    if is_own:
        how = "the set's own"
    else:
        chosen, how = _choose_test(names, splits, test, root, absent)
        splits = ["test" if i in chosen else "train" if split == "test" else split for i, split in enumerate(splits)]
    if "val" not in splits:
        for i in _choose_validation([i for i, split in enumerate(splits) if split == "train"]):
            splits[i] = "val"
    if "train" not in splits:
        raise UsageError(f"the set's own files keep all {len(names)} photos that are there for the test: "
                         "put its training photos there, or choose others with --test every:8." if is_own else
                         f"--test {shown(test)} leaves no photo to train on: keep fewer for the test.")
    return splits, how


def _choose_test(names: Sequence[str], splits: Sequence[str], test: str, root: Path,
                 absent: Collection[str]) -> tuple[set[int], str]:
    """Positions in `names`, and the words for it. The set's own validation photos stay what they are, unless listed."""
    free = [i for i, split in enumerate(splits) if split != "val"]
    if test == "none":
        return set(), "none asked for"
    if test == "auto":
        if len(free) - len(free[::INTERVAL]) < 3:
            return set(), "none, too few photos"
        return set(free[::INTERVAL]), f"every {INTERVAL}th"
    if test.startswith("every:"):
        interval = _interval(test)
        return set(free[::interval]), f"every {interval}th" if interval != 2 else "every other"
    return _listed(names, test, root, absent), f"listed in {shown(os.path.basename(test))}"


def _listed(names: Sequence[str], test: str, root: Path, absent: Collection[str]) -> set[int]:
    """Positions of the photos that a text file (a name a line) or a JSON list names: by path, or by last part if unique."""
    by_name = {name: i for i, name in enumerate(names)}
    by_last: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        by_last.setdefault(name.rsplit("/", 1)[-1], []).append(i)
    gone = {*absent, *(name.rsplit("/", 1)[-1] for name in absent)}
    chosen = set()
    for wanted in _read_list(test, root):
        wanted = wanted.removeprefix("./")
        found = [by_name[wanted]] if wanted in by_name else by_last.get(wanted, [])
        if not found and wanted in gone:
            continue
        if len(found) != 1:
            what = "none" if not found else "several: give its path"
            raise UsageError(f"{shown(test)} lists {shown(wanted)}, but of the scene's photos that is {what}, "
                             f"for instance {shown(names[0])}.")
        chosen.add(found[0])
    if not chosen:
        raise UsageError(f"{shown(test)} lists no photo: write one name a line, or say --test none.")
    return chosen


def check_test(test: str, places: Iterable[Path]) -> None:
    """UsageError for a setting that cannot be meant, before anything is loaded; `places` are where a list may lie."""
    if test.startswith("every:"):
        _interval(test)
    elif test not in ("auto", "none"):
        _list_file(test, places)


def _interval(test: str) -> int:
    interval = test.removeprefix("every:")
    if not (interval.isascii() and interval.isdigit() and len(interval) < 10 and int(interval) >= 2):
        raise UsageError(f"--test {shown(test)}: every:N needs a whole number N of at least 2, for instance every:8.")
    return int(interval)


def _list_file(test: str, places: Iterable[Path]) -> Path:
    for path in (Path(test), *(place / test for place in places)):
        with suppress(OSError):  # a name that is too long is no file's
            if path.is_file():
                return path
    raise UsageError(f"--test must be auto, none, every:N or a file that lists photos; {shown(test)} is none of them.")


def _read_list(test: str, root: Path) -> list[str]:
    path = _list_file(test, [root])
    content = read_file(path, LIST_BYTES).removeprefix(b"\xef\xbb\xbf")
    if not content.lstrip().startswith(b"["):
        lines = os.fsdecode(content).splitlines()  # names may hold bytes that are no UTF-8
        return [line.strip() for line in lines if line.strip()]
    try:
        return msgspec.json.decode(content, type=list[str])
    except msgspec.MsgspecError as error:
        raise UsageError(f"{shown(path)} is no JSON list of names ({error}): correct it, or write one name a line.") from None


def _choose_validation(training: Sequence[int]) -> list[int]:
    """A tenth of the training photos, at least one and at most 4, spread evenly; none where fewer than 12 would be left."""
    count = min(max(1, len(training) // 10), MOST, max(0, len(training) - FEWEST))
    return [training[int((k + 0.5) * len(training) / count)] for k in range(count)]
