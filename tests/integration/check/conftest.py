"""Each test runs in a directory of its own, and some have a log there."""

from __future__ import annotations

from pathlib import Path

# Before a test changes the working directory: that of the import is gunicorn's default for each configuration, and the
# directory of a test is gone after it.
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
