"""Prints functions and files that have grown large. It informs and never fails.

    python tools/size.py            files that differ from the last commit, and new ones
    python tools/size.py --all      every Python file of the project
    python tools/size.py FILE ...
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES, MOST_PARAMETERS, MOST_FILE_LINES = 40, 8, 500


def listed_by_git(*arguments: str) -> list[Path]:
    """The paths git prints for the arguments, those of them that are Python files and exist."""
    output = subprocess.run(["git", *arguments, "-z"], cwd=ROOT, capture_output=True, check=False).stdout  # noqa: S603, S607
    paths = [ROOT / name for name in output.decode("utf-8", "surrogateescape").split("\0") if name.endswith(".py")]
    return sorted(path for path in paths if path.exists())


def chosen(arguments: list[str]) -> list[Path]:
    new = listed_by_git("ls-files", "--others", "--exclude-standard")
    if not arguments:
        return listed_by_git("diff", "--name-only", "HEAD") + new
    if arguments == ["--all"]:
        return listed_by_git("ls-files") + new
    return [Path(argument).resolve() for argument in arguments]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, without signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters without self and cls."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def large(path: Path) -> Iterator[str]:
    """One line for each thing in a file that is larger than it should be."""
    text = path.read_text(encoding="utf-8")
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    if (count := len(text.splitlines())) > MOST_FILE_LINES:
        yield f"{shown}: {count} lines"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if (count := body_lines(node)) > MOST_LINES:
            yield f"{shown}:{node.lineno}: {node.name} has {count} lines"
        if (count := parameters(node)) > MOST_PARAMETERS:
            yield f"{shown}:{node.lineno}: {node.name} has {count} parameters"


def main() -> None:
    paths = chosen(sys.argv[1:])
    lines = [line for path in paths for line in large(path)]
    print(*lines, f"{len(paths)} files looked at, {len(lines)} things large", sep="\n")


if __name__ == "__main__":
    main()
