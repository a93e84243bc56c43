"""Log files opened for reading: every kind of compression, whole and cut short."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollsafe.errors import LogFileError
from rollsafe.tools import reading
from rollsafe.tools.reading import DAMAGED, open_log

TEXT = b"".join(b"line %d\n" % number for number in range(10_000))


def _zstd(text: bytes) -> bytes:
    """TEXT as zst."""
    zstd: Any = reading._ZSTD
    if zstd is None:
        pytest.skip("neither Python 3.14 nor backports.zstd is here: pip install 'rollsafe[zstd]'")
    compressed: bytes = zstd.compress(text)
    return compressed


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": _zstd,
}


@pytest.mark.parametrize("extension", COMPRESS)
def test_what_the_name_ends_in_tells_how_to_read(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"app.log.2027-01-15{extension}"
    path.write_bytes(COMPRESS[extension](TEXT))
    with open_log(path) as file:
        assert b"".join(file) == TEXT


@pytest.mark.parametrize("extension", [extension for extension in COMPRESS if extension])
def test_an_archive_that_is_cut_short_is_damaged(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"app.log.2027-01-15{extension}"
    path.write_bytes(COMPRESS[extension](TEXT)[:-20])
    with open_log(path) as file, pytest.raises(DAMAGED):
        b"".join(file)


@pytest.mark.parametrize("extension", [extension for extension in COMPRESS if extension])
def test_an_archive_of_something_else_is_damaged(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"app.log.2027-01-15{extension}"
    COMPRESS[extension](b"")
    path.write_bytes(TEXT)
    with open_log(path) as file, pytest.raises(DAMAGED):
        b"".join(file)


def test_without_zstd_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_ZSTD", None)
    with pytest.raises(LogFileError, match=r"pip install 'rollsafe\[zstd\]'"):
        open_log(tmp_path / "app.log.2027-01-15.zst")
