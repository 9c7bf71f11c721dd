"""The gallery page is what its maker writes, and every call it shows runs as it stands."""

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from starconv.cli import app
from starconv.data.images import write_image
from starconv.data.synthetic import shapes_picture
from starconv.view import Animation, Still

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "gallery.md").read_text(encoding="utf-8")
PREPARE, *CALLS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"```\n(starconv .*?)\n```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_gallery", DOCS / "make_gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def names():
    found = {}
    exec(PREPARE, found)
    return found


def test_the_page_is_the_one_that_its_maker_writes(maker):
    assert maker.page() == TEXT
    assert {path.name for path in (DOCS / "gallery").iterdir()} == {entry.file for entry in maker.ENTRIES}
    assert sum(path.stat().st_size for path in (DOCS / "gallery").iterdir()) < 1_500_000


@pytest.mark.parametrize("call", CALLS, ids=[re.findall(r'"([^"]+)"\)\n$', call)[0] for call in CALLS])
def test_the_calls_run_as_they_stand(call, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = eval(call, names)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("command", COMMANDS, ids=[command.split()[1] + command[-12:] for command in COMMANDS])
def test_the_commands_run_as_they_stand(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("photo.png", np.random.default_rng(0).integers(0, 256, (48, 56), dtype=np.uint8))
    np.save("shapes.npy", shapes_picture(24))
    words = shlex.split(command)
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, result.output
    assert (tmp_path / words[-1]).stat().st_size > 1000


def test_drawings_are_stills_or_animations(maker, names):
    assert {type(eval(entry.call, names)) for entry in maker.ENTRIES[:2]} == {Animation, Still}
