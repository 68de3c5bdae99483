"""Nothing in the program opens a pickle, starts a shell, evaluates text, uses the network or gives OpenCV a path."""

import ast
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for folder in ("nerf_app", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]

BANNED = (  # a name as it is imported, called or read; everything below it is banned with it
    "pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve",
    "torch.load", "torch.save", "torch.hub", "torch.utils.cpp_extension",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader",
    "eval", "exec", "os.system", "os.popen", "os.exec*", "os.spawn*", "subprocess.getoutput", "subprocess.getstatusoutput",
    "cv2.imread*", "cv2.imwrite*", "cv2.VideoCapture", "cv2.VideoWriter", "cv2.FileStorage",
    "socket", "urllib.request", "http.client", "http.server", "ftplib", "requests", "httpx", "aiohttp", "webbrowser",
    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES", "tempfile.mktemp",
)
BANNED_KEYWORDS = {"shell": True, "allow_pickle": True, "weights_only": False}
READS_INPUT = ("nerf_app/scene/*", "nerf_app/config.py", "nerf_app/checkpoint.py", "nerf_app/cli.py", "nerf_app/export/paths.py",
               "nerf_app/process/*")  # here an assert would judge what a user brought, and vanish under python -O


def spelled(node: ast.AST, aliases: dict[str, str]) -> str:
    """A name or a chain of attributes as written out in full; "" for any other expression."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = spelled(node.value, aliases)
        return owner and f"{owner}.{node.attr}"
    return ""


def is_banned(name: str) -> bool:
    return any(fnmatch(name, banned) or fnmatch(name, f"{banned}.*") for banned in BANNED)


def names_of(node: ast.AST, aliases: dict[str, str]) -> list[str]:
    """What a node names in full; imports are remembered in `aliases` (here -> in full)."""
    if isinstance(node, ast.Import):
        aliases |= {alias.asname: alias.name for alias in node.names if alias.asname}
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [name] if (name := spelled(node, aliases)) else []


def dangers(source: str, reads_input: bool = False) -> list[str]:
    """What a source text must not contain, one "line: what" each."""
    tree, aliases, found = ast.parse(source), {}, []
    for node in sorted(ast.walk(tree), key=lambda node: not isinstance(node, ast.Import | ast.ImportFrom)):  # imports first
        hits = [name for name in names_of(node, aliases) if is_banned(name)]
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant) and node.arg in BANNED_KEYWORDS:
            hits += [f"{node.arg}={node.value.value}"] if node.value.value is BANNED_KEYWORDS[node.arg] else []
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "0.0.0.0" in node.value:
            hits.append("0.0.0.0")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            hits.append("bare except")
        if isinstance(node, ast.Assert) and reads_input:
            hits.append("assert on input")
        found += [f"{getattr(node, 'lineno', 0)}: {hit}" for hit in hits]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_source_is_free_of_dangerous_calls(path):
    reads_input = any(fnmatch(path.relative_to(ROOT).as_posix(), pattern) for pattern in READS_INPUT)
    assert not dangers(path.read_text(encoding="utf-8"), reads_input)


@pytest.mark.parametrize("source", [
    "import pickle",
    "from pickle import loads",
    "import torch as t\nt.load('x')",
    "from torch import load as fetch\nfetch('x')",
    "import yaml\nyaml.load('a: 1', yaml.SafeLoader)",
    "eval('1')",
    "import os\nos.system('ls')",
    "import os\nos.execv('ls', [])",
    "import subprocess\nsubprocess.run('ls', shell=True)",
    "def f():\n    import cv2 as cv\n    return cv.imread('x')",
    "import cv2\nreader = cv2.VideoCapture",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "import urllib.request",
    "from urllib import request",
    "from PIL import ImageFile\nImageFile.LOAD_TRUNCATED_IMAGES = True",
    "host = '0.0.0.0'",
    "try:\n    pass\nexcept:\n    pass",
    "assert user_input",
])
def test_the_search_finds_each_danger(source):
    assert dangers(source, reads_input=True)


@pytest.mark.parametrize("source", [
    "import yaml\nyaml.safe_load('a: 1')",
    "import subprocess\nsubprocess.run(['git', 'log'])",
    "import numpy as np\nnp.load('x', allow_pickle=False)",
    "field.eval()",
    "from urllib.parse import urlsplit",
    "import cv2\ncv2.undistortPoints(a, b, c)",
])
def test_the_search_leaves_the_harmless_alone(source):
    assert not dangers(source, reads_input=True)
