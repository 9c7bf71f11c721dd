"""What the tests of the command line share: a runner that fails on tracebacks, and small pictures."""

import numpy as np
import pytest
from typer.testing import CliRunner

from starconv.cli import app
from starconv.data.images import write_image


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """Help pages wrap at the width of the terminal, which must not decide whether a test passes."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def run():
    """Run `starconv` with arguments; an exception that a user would see as a traceback fails the test."""

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="starconv")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def picture(tmp_path):
    """A colour picture of 8 bits in a file."""
    path = tmp_path / "picture.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8))
    return path
