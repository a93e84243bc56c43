"""The note of a lock file: what is written is read, and nothing else that a file may hold is believed or raises."""

from __future__ import annotations

import json
import os
import random
import zlib
from pathlib import Path

import pytest

from rollsafe._files.lock_files import lock_path
from rollsafe._files.lock_handles import NOTE_BYTES
from rollsafe._files.note import Archived, Note, parse_note, read_note
from rollsafe._settings import _CHECKS, Settings
from rollsafe._values import fields
from rollsafe.schedule import Schedule

SETTINGS = Settings("MIDNIGHT", tz="Europe/Paris", backupCount=14, max_age=86400.0)
LEDGER = (Archived(41, (2049, 5), 70), Archived(42, (1, 2), 0, 7))
NOTE = Note((2049, 1187), 1763769600, SETTINGS.line(), 1763800123456, 3, 42, LEDGER)


def with_checksum(*lines: bytes) -> bytes:
    """A note of these lines as its writer would end it."""
    content = b"".join(line + b"\n" for line in lines)
    return content + b"end %08x\n" % zlib.crc32(content)


@pytest.mark.parametrize("note", [NOTE, NOTE.replace(number=None, archived=()), Note((0, 7), 0), Note((1, 2), -3600)])
def test_what_is_written_is_read(note: Note) -> None:
    assert parse_note(note.content()) == note
    assert len(note.content()) < NOTE_BYTES


def test_what_a_later_version_may_add_is_ignored_and_the_rest_counts() -> None:
    settings = json.dumps(json.loads(NOTE.settings) | {"later": [1]}).encode()
    lines = NOTE.replace(settings=settings).content().splitlines()[:-1]
    note = parse_note(with_checksum(*lines[:4], b"later 1 2", *lines[4:], b"archived 43 1 2 3 4 5 6", b"more"))
    assert note is not None
    assert note.replace(settings=NOTE.settings) == NOTE
    assert note.parse_settings() == SETTINGS


def test_the_bytes_of_a_note_stay_as_they_are() -> None:
    assert NOTE.content() == (
        b"2049 1187 1763769600\n"
        b'{"when":"MIDNIGHT","tz":"Europe/Paris","backupCount":14,"max_age":86400.0}\n'
        b"1763800123456\n3\nserial 42\narchived 41 2049 5 70 0\narchived 42 1 2 0 7\nend 4cf181a2\n"
    )


def test_the_end_of_an_older_and_longer_note_does_not_count() -> None:
    shorter = NOTE.replace(number=None, archived=())
    content = shorter.content()
    assert parse_note(content + NOTE.content()[len(content) :]) == shorter


def test_of_a_note_that_was_written_in_part_nothing_counts_that_was_not_meant() -> None:
    older, newer = NOTE.replace(start=1763773200, number=71, archived=()), NOTE
    for size in range(len(newer.content())):
        mixed = parse_note(newer.content()[:size] + older.content()[size:])
        assert mixed in (None, older, newer) or not mixed.is_whole
        cut = parse_note(newer.content()[:size])
        # Without its end it counts for as much as one that a person has written.
        assert cut is None or (not cut.is_whole and cut.number is None and not cut.archived)
        assert cut is None or cut.identity == newer.identity


def test_a_note_without_checksum_counts_up_to_its_third_line() -> None:
    assert parse_note(b"5 6 1763769600\n") == Note((5, 6), 1763769600, is_whole=False)
    by_hand = parse_note(b'5 6 1763769600\n{"when":"D"}\n12\n9\narchived 1 2 3\n')
    assert by_hand == Note((5, 6), 1763769600, b'{"when":"D"}', 12, is_whole=False)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"1 2",
        b"1 2 3 4",
        b"a b c",
        b"-1 2 3",
        b"1 -2 3",
        b"1 2 99999999999999999",
        b"1 2 -99999999999999999",
        b"1 2 -99999999",
        b"1 2 253402300800",
        b"1 2 1.5",
        b"1 2 nan",
        b"1 2 1_000",
        b"1 2 +5",
        b"18446744073709551616 2 3",
        b"1 2 " + b"9" * 5000,
        "1 2 \u0663".encode(),
        b"1 2 \xff",
        b"1 2 3\0",
        b"\x001 2 3",
    ],
)
def test_a_first_line_that_cannot_be_right_makes_no_note(line: bytes) -> None:
    assert parse_note(with_checksum(line, b'{"when":"D"}', b"1", b"")) is None
    assert parse_note(line + b'\n{"when":"D"}\n') is None


@pytest.mark.parametrize("made", [b"x", b"-1", b"1e9", b"9" * 5000, b"253402300799001", b"\0", b"1 2"])
def test_a_third_line_that_cannot_be_right_makes_no_note(made: bytes) -> None:
    assert parse_note(with_checksum(b"1 2 3", b"{}", made, b"")) is None
    assert parse_note(b"1 2 3\n{}\n" + made + b"\n") is None


@pytest.mark.parametrize("number", [b"-1", b"x", b"9" * 5000, b"9" * 19, b"1.5"])
def test_a_number_that_cannot_be_right_is_none(number: bytes) -> None:
    note = parse_note(with_checksum(b"1 2 3", b"{}", b"4", number, b"archived 1 2 -3", b"archived 1 2", b"x", b""))
    assert note == Note((1, 2), 3, b"{}", 4)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"5",
        b'"when"',
        b"[" * 3900,
        b'{"when":' * 3900,
        b'{"when":"D"',
        b"\xff\xfe",
        '{"when":"D"}'.encode("utf-16"),
        b'{"interval":' + b"9" * 5000 + b"}",
        b'{"when":["x"],"interval":{}}',
        b'{"when":"fortnight"}',
        b'{"when":null}',
        b'{"when":"D","atTime":"junk"}',
        b'{"when":"D","atTime":5}',
        b'{"when":"D","atTime":"05:00:00+02:00"}',
        b'{"when":"H","atTime":"05:00:00"}',
        b'{"when":"D","interval":0}',
        b'{"when":"D","interval":-1}',
        b'{"when":"D","interval":true}',
        b'{"when":"D","interval":1.5}',
        b'{"when":"W0","interval":9223372036854775807}',
        b'{"when":"D","backupCount":"x"}',
        b'{"when":"D","backupCount":-1}',
        b'{"when":"D","backupCount":9223372036854775808}',
        b'{"when":"D","max_age":"x"}',
        b'{"when":"D","max_age":NaN}',
        b'{"when":"D","max_age":Infinity}',
        b'{"when":"D","max_age":-Infinity}',
        b'{"when":"D","max_age":1e999}',
        b'{"when":"D","max_age":0}',
        b'{"when":"D","max_age":true}',
        b'{"when":"D","max_total_bytes":1.0}',
        b'{"when":"D","min_free_bytes":-1}',
        b'{"when":"D","extension":5}',
        b'{"when":"D","codec":"lzma"}',
        b'{"when":"D","codec":["gz"]}',
        b'{"when":"D","compress_level":true}',
        b'{"when":"D","compress_level":9999999999}',
        b'{"when":"D","on_rollover":1}',
        b'{"when":"D","rotator":null}',
        b'{"when":"D","extension":"gz"}',
        b'{"when":"D","extension":"./../x"}',
        b'{"when":"D","encoding":5}',
        b'{"when":"D","encoding":"no such"}',
        b'{"when":"D","encoding":"rot13"}',
        b'{"when":"D","encoding":"a\\u0000b"}',
        b'{"when":"D","suffix":""}',
        b'{"when":"D","suffix":"a/b"}',
        b'{"when":"D","suffix":"%Y\\u0000"}',
        b'{"when":"D","suffix":["%Y"]}',
        b'{"when":"D","archive_dir":"old"}',
        b'{"when":"D","archive_dir":"/old\\u0000"}',
        b'{"when":"D","archive_dir":"/old\\ud800"}',
        b'{"when":"D","archive_dir":["/old"]}',
        b'{"when":"D","tz":"\\u001b[2J"}',
        b'{"when":"D","tz":5}',
        b'{"when":"D","namer":1}',
        b'{"when":"D","compress":"gz"}',
    ],
)
def test_settings_with_one_value_that_no_handler_has_are_none(line: bytes) -> None:
    assert Settings.read(line) is None
    note = parse_note(with_checksum(b"1 2 3", line, b"4", b""))
    assert note is None or note.parse_settings() is None


def test_each_setting_is_checked_and_its_default_is_right() -> None:
    defaults = {field.name: field.default for field in fields(Settings)}
    assert defaults.keys() == _CHECKS.keys()
    assert all(_CHECKS[name](value) for name, value in defaults.items())


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        Settings("W2", 2, "03:30:00", "unnamed", "%F", True, "latin-1", 5, 100, 0.5, 1, 0, "/old", ".bz2", True),
        Settings("S", tz="No/Such_Zone"),
        Settings("D", archive_dir="/caf\udce9"),  # a name that is no UTF-8, as os.fsdecode gives it
        Settings("D", archive_dir="/" + "\u00e9" * 2000),
    ],
)
def test_settings_that_a_handler_notes_are_read(settings: Settings) -> None:
    assert Settings.read(settings.line()) == settings
    note = parse_note(NOTE.replace(settings=settings.line()).content())
    assert note is not None
    assert note.parse_settings() == settings


def test_nothing_that_a_lock_file_may_hold_raises() -> None:
    dice = random.Random(7)
    for _ in range(3000):
        content = bytearray(NOTE.content())
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(content))
            content[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        note = parse_note(bytes(content))
        assert note is None or note.parse_settings() is None or note.identity
        head = json.loads(SETTINGS.line()) | {dice.choice([*_CHECKS]): dice.choice([None, [], {}, -1, "", "\0", 1e400])}
        Settings.read(json.dumps(head).encode())


@pytest.mark.parametrize("size", [0, 1])
def test_what_a_note_says_of_its_file_is_believed_where_the_file_agrees(size: int, tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    live.write_bytes(b"x" * size)
    schedule = Schedule("H", tz="UTC")
    start = 1763769600.0

    def believed(note: Note, mtime: float) -> bool:
        os.utime(live, (mtime, mtime))
        status = os.stat(live)
        note = note.replace(identity=(status.st_dev, status.st_ino))
        interval = note.believed_interval(status, schedule.interval)
        assert interval in (None, schedule.interval(note.start))
        return interval is not None

    whole = Note((0, 0), int(start))
    by_hand = whole.replace(is_whole=False)
    for note in (whole, by_hand):
        assert believed(note, start)
        assert believed(note, start + 3599)
        assert believed(note, start - 1), "the clock of the kernel is behind"
        assert not believed(note, start - 60), "last written before the interval"
        assert not believed(note.replace(start=253402300799), 253402300799.0), "no such date"
    assert believed(whole, start + 7000) == (size > 0), "touched later"
    assert not believed(by_hand, start + 7000)


def test_a_note_about_another_file_is_not_believed(tmp_path: Path) -> None:
    live = tmp_path / "app.log"
    live.write_bytes(b"line\n")
    status = os.stat(live)
    note = Note((status.st_dev, status.st_ino + 1), int(status.st_mtime))
    assert note.believed_interval(status, Schedule("H").interval) is None


def test_what_is_not_a_lock_file_is_not_read(tmp_path: Path) -> None:
    live, lock = str(tmp_path / "app.log"), Path(lock_path(str(tmp_path / "app.log")))
    assert read_note(live) is None
    assert not lock.exists()
    lock.mkdir()
    assert read_note(live) is None
    lock.rmdir()
    os.mkfifo(lock)
    assert read_note(live) is None, "it does not wait for the writer of a FIFO"
    lock.unlink()
    (tmp_path / "else").write_bytes(NOTE.content())
    lock.symlink_to(tmp_path / "else")
    assert read_note(live) is None
    lock.unlink()
    lock.write_bytes(NOTE.content())
    assert read_note(live) == NOTE
    assert read_note(str(tmp_path / "a\0b")) is None


def test_of_a_large_file_only_the_beginning_is_read(tmp_path: Path) -> None:
    live, lock = str(tmp_path / "app.log"), Path(lock_path(str(tmp_path / "app.log")))
    lock.write_bytes(NOTE.content())
    os.truncate(lock, 1 << 40)
    assert read_note(live) == NOTE
    lock.write_bytes(b"")
    os.truncate(lock, 1 << 40)
    assert read_note(live) is None
