"""Each test of the check runs in a directory of its own; some have a log in it."""

from __future__ import annotations

from pathlib import Path

# This import comes before a test changes the working directory, because gunicorn takes the directory of its import as
# the default of each configuration, and the directory of a test is gone after the test.
import gunicorn.config  # noqa: F401
import pytest

from tests.support.logs import write_log


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A log with two backups."""
    (tmp_path / "logs").mkdir()
    live = tmp_path / "logs" / "app.log"
    write_log(live, backupCount=7)
    return live
