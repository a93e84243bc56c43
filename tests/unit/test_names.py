"""Names of backups parse back, foreign names never do, and the order of names is the order of time."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollsafe._backups.names import EXTENSIONS, Backup, Names, spread_of
from rollsafe.schedule import Interval, Schedule
from tests.support.zones import HOUR, places, reproducible, schedules

LIVE = "/var/log/app.log"
DAILY = Schedule("D", tz="Europe/Paris")
HOURLY = Schedule("H", tz="Europe/Paris")
OLD_EXT_MATCH = re.compile(r"^\d{4}-\d{2}-\d{2}(\.\w+)?$", re.ASCII)  # the standard library's, to Python 3.11
NEW_EXT_MATCH = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)", re.ASCII)  # the standard library's, since then

NAMERS: dict[str, Callable[[str], str] | None] = {
    "none": None,
    "extension last": lambda name: name.replace("app.log.", "app.") + ".log",
    "suffix first": lambda name: "/var/log/" + name.removeprefix("/var/log/app.log.") + ".app.log",
    "another directory": lambda name: name.replace("/var/log/", "/srv/old/7/"),
    "numbers around": lambda name: name.replace("app.log.", "2.app-10-2001-01-01.") + ".3",
    "no dots": lambda name: name.replace(".", "_"),
    "compressing rotator": lambda name: name + ".gz",
}


def base(path: str) -> str:
    """The path's last part."""
    return path.rpartition("/")[2]


def in_order(names: Names, backups: list[str]) -> list[str]:
    """The names, all of them backups, sorted by Names.order."""
    parsed = [names.parse(name) for name in backups]
    return [backup.name for backup in sorted(filter(None, parsed), key=names.order)]


@settings(reproducible, max_examples=80)
@given(
    places(),
    st.floats(-30, 30),
    st.sampled_from(sorted(NAMERS)),
    st.just(0) | st.integers(1, 10**9),
    st.sampled_from(EXTENSIONS),
    st.data(),
)
def test_every_name_parses_back(
    place: tuple[str, int], hours: float, namer: str, sequence: int, extension: str, data: st.DataObject
) -> None:
    zone_name, change = place
    schedule = data.draw(schedules(zone_name))
    names = Names(LIVE, schedule, namer=NAMERS[namer])
    suffix = schedule.interval(change + hours * HOUR).suffix
    name = base(names.path(suffix, sequence, extension))
    assert names.parse(name) == Backup(name, suffix, sequence, extension)


@settings(reproducible, max_examples=80)
@given(places(), st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.data())
def test_the_order_of_names_is_the_order_of_time(
    place: tuple[str, int], hours: list[float], data: st.DataObject
) -> None:
    zone_name, change = place
    schedule = data.draw(schedules(zone_name))
    names = Names(LIVE, schedule)
    intervals = {schedule.interval(change + after * HOUR) for after in hours}
    by_time = [
        base(names.path(interval.suffix, interval.fold)) for interval in sorted(intervals, key=lambda i: i.start)
    ]
    assert in_order(names, sorted(by_time)) == by_time


@pytest.mark.parametrize(("when", "step"), [("S", 1), ("M", 60), ("H", HOUR)])
def test_an_autumn_night_is_in_the_order_of_time(when: str, step: int) -> None:
    schedule = Schedule(when, tz="Europe/Paris")
    names = Names(LIVE, schedule)
    change = int(datetime.datetime(2026, 10, 25, 2, tzinfo=ZoneInfo("Europe/Paris"), fold=1).timestamp())
    night: list[Interval] = []
    for around in (change - HOUR, change, change + HOUR):
        night += [schedule.interval(t) for t in range(around - 5 * step, around + 5 * step, step)]
    starts = {interval.start: interval for interval in night}
    by_time = [base(names.path(interval.suffix, interval.fold)) for _, interval in sorted(starts.items())]
    assert any(interval.fold for interval in night)
    assert len(set(by_time)) == len(by_time)
    assert in_order(names, sorted(by_time)) == by_time


def test_sequences_are_in_the_order_of_numbers_before_the_next_interval() -> None:
    by_time = [
        "app.log.2026-11-23",
        "app.log.2026-11-23.1.gz",
        "app.log.2026-11-23.2",
        "app.log.2026-11-23.10",
        "app.log.2026-11-24",
    ]
    assert in_order(Names(LIVE, DAILY), sorted(by_time, reverse=True)) == by_time


def test_a_format_that_does_not_sort_as_text_is_in_the_order_of_time() -> None:
    names = Names(LIVE, Schedule("D", tz="Europe/Paris", suffix="%d-%m-%Y"))
    by_time = ["app.log.31-12-2025", "app.log.01-02-2026", "app.log.02-01-2027"]
    assert in_order(names, sorted(by_time)) == by_time


def test_suffixes_without_a_time_are_before_the_others_and_in_the_order_of_text() -> None:
    names = Names(LIVE, DAILY, extMatch=re.compile(r"\d{8}|\d{4}-\d{2}-\d{2}"))
    backups = ["app.log.2026-11-23", "app.log.20261125", "app.log.20261124"]
    assert in_order(names, backups) == ["app.log.20261124", "app.log.20261125", "app.log.2026-11-23"]


@pytest.mark.parametrize(
    ("sequence", "extension", "path"),
    [
        (0, "", "/var/log/app.log.2026-11-23"),
        (2, "", "/var/log/app.log.2026-11-23.2"),
        (0, ".gz", "/var/log/app.log.2026-11-23.gz"),
        (2, ".zst", "/var/log/app.log.2026-11-23.2.zst"),
    ],
)
def test_a_path_is_the_live_file_then_suffix_sequence_and_extension(sequence: int, extension: str, path: str) -> None:
    assert Names(LIVE, DAILY).path("2026-11-23", sequence, extension) == path


def test_a_namer_gets_the_default_path_with_the_sequence_and_without_the_extension() -> None:
    seen = []

    def namer(default: str) -> str:
        seen.append(default)
        return "/elsewhere/name"

    assert Names(LIVE, DAILY, namer=namer).path("2026-11-23", 3, ".xz") == "/elsewhere/name.xz"
    assert seen == ["/var/log/app.log.2026-11-23.3"]


FOREIGN = [
    "app.log",
    "app.log.",
    "app.log.access.log.2026-11-23",  # CPython gh-93205
    "app.log.2026-11-23.bak",
    "app.log.2026-11-23.tmp",
    "app.log.2026-11-23.gz.tmp",
    "app.log.2026-11-23.gz.gz",
    "app.log.2026-11-23.gz.1",
    "app.log.2026-11-23.rolled",
    "app.log.2026-11-23.",
    "app.log.2026-11-23.0",
    "app.log.2026-11-23.01",
    "app.log.2026-11-23.1.1",
    "app.log.2026-11-23.-1",
    "app.log.2026-11-23.\u0661",
    "app.log.2026-11-23.1" + 5000 * "0",
    "app.log.2026-11-23_01",
    "app.log.2026-11-23\n",
    "app.log.2026-13-45",
    "app.log.2026-02-29",
    "app.log.0000-00-00",
    "app.log.2026-1-2",
    "app.log.\u0662\u0660\u0662\u0666-11-23",
    "app.log.12026-11-23",
    "app.log2026-11-23",
    "app.log-2026-11-23",
    "xapp.log.2026-11-23",
    "APP.LOG.2026-11-23",
    ".app.log.2026-11-23",
    "/var/log/app.log.2026-11-23",
    "app.2026-11-23.log",
    "2026-11-23",
    "",
    "\udcff.2026-11-23",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_name_is_no_backup(name: str) -> None:
    assert Names(LIVE, DAILY).parse(name) is None


@pytest.mark.parametrize("name", [name for name in FOREIGN if name != "app.2026-11-23.log"])
def test_a_foreign_name_is_no_backup_with_a_namer_either(name: str) -> None:
    assert Names(LIVE, DAILY, namer=NAMERS["extension last"]).parse(name) is None


@settings(reproducible, max_examples=80)
@given(st.data())
def test_whatever_parses_is_what_path_makes(data: st.DataObject) -> None:
    parts = st.sampled_from(["app", "log", "2026-11-23", "2026-10-25", "1", "01", "12", "gz", "xz", "tmp", ""])
    name = ".".join(data.draw(st.lists(parts, min_size=2, max_size=5)))
    names = Names(LIVE, DAILY, namer=NAMERS[data.draw(st.sampled_from(sorted(NAMERS)))])
    backup = names.parse(name)
    if backup is not None:
        assert backup.name == name == base(names.path(backup.suffix, backup.sequence, backup.extension))


def test_days_that_begin_at_no_interval_are_foreign() -> None:
    weekly = Names(LIVE, Schedule("W0", tz="Europe/Paris"))
    assert weekly.parse("app.log.2026-11-24") is not None  # a Tuesday, whose week ends with the Monday
    assert weekly.parse("app.log.2026-11-23") is None


def test_the_hour_that_spring_skips_is_foreign() -> None:
    assert Names(LIVE, HOURLY).parse("app.log.2026-03-29_03") is not None
    assert Names(LIVE, HOURLY).parse("app.log.2026-03-29_02") is None


def test_a_date_in_the_name_of_the_live_file_is_not_taken_for_the_suffix() -> None:
    names = Names("/var/log/job-2026-01-01.log", DAILY)
    assert names.parse("job-2026-01-01.log") is None
    name = "job-2026-01-01.log.2026-01-01.1"
    assert names.parse(name) == Backup(name, "2026-01-01", 1, "")


@pytest.mark.parametrize("suffix_format", ["%d %b %y", "%Y%m%dT%H%z", "%Y.%j", "%I%p, %A %d %B %Y", "%%%Y-%m-%d%%"])
def test_other_formats_of_the_suffix_parse_back(suffix_format: str) -> None:
    schedule = Schedule("D", tz="Europe/Paris", suffix=suffix_format)
    names = Names(LIVE, schedule)
    suffix = schedule.interval(1_800_000_000).suffix
    for sequence in (0, 7):
        name = base(names.path(suffix, sequence, ".gz"))
        assert names.parse(name) == Backup(name, suffix, sequence, ".gz")


@pytest.mark.parametrize("result", [None, 1, b"x", ["x"]])
def test_a_namer_that_returns_no_text_makes_no_names(result: object) -> None:
    names = Names(LIVE, DAILY, namer=lambda default: result)  # type: ignore[arg-type,return-value]
    assert names.parse("app.log.2026-11-23") is None
    with pytest.raises(TypeError, match="namer returned"):
        names.path("2026-11-23")


def test_a_namer_that_raises_makes_no_names() -> None:
    def namer(default: str) -> str:
        raise RuntimeError(default)

    names = Names(LIVE, DAILY, namer=namer)
    assert names.parse("app.log.2026-11-23") is None
    with pytest.raises(RuntimeError):
        names.path("2026-11-23")


@pytest.mark.parametrize("ext_match", [OLD_EXT_MATCH, NEW_EXT_MATCH])
@pytest.mark.parametrize("namer", ["none", "extension last", "suffix first"])
@pytest.mark.parametrize("sequence", [0, 1, 12])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_patterns_of_the_standard_library_find_the_suffix(
    ext_match: re.Pattern[str], namer: str, sequence: int, extension: str
) -> None:
    names = Names(LIVE, DAILY, namer=NAMERS[namer], extMatch=ext_match)
    name = base(names.path("2026-11-23", sequence, extension))
    assert names.parse(name) == Backup(name, "2026-11-23", sequence, extension)


def test_a_pattern_of_the_users_finds_suffixes_that_the_schedule_does_not_write() -> None:
    names = Names(LIVE, DAILY, extMatch=re.compile(r"\d{8}"))
    assert names.parse("app.log.20261123.2.gz") == Backup("app.log.20261123.2.gz", "20261123", 2, ".gz")
    assert names.parse("app.log.20261123.tmp") is None
    assert names.parse("app.log.2026-11-23") is None


def test_a_pattern_that_matches_nothing_at_all_finds_nothing() -> None:
    names = Names(LIVE, DAILY, extMatch=re.compile(r"x*"))
    assert names.parse("app.log.") is None
    assert names.parse("app.log.2026-11-23") is None


# Namers that spread backups over directories.


@pytest.mark.parametrize(
    ("directory", "found"),
    [
        ("/var/log", ("/var/log", 0)),
        ("/var/log/old", ("/var/log/old", 0)),
        ("/var/log/2026-11", ("/var/log", 1)),
        ("/var/log/2026/11", ("/var/log", 2)),
        ("/var/log/old/2026/11/app", ("/var/log/old", 3)),
        ("/srv/archive/20261123", ("/srv/archive", 1)),
        ("/var/log/v7/old", ("/var/log/v7/old", 0)),
        ("/2026/old", ("/2026/old", 0)),  # never all of the file system
    ],
)
def test_directories_by_date_are_told_by_their_numbers(directory: str, found: tuple[str, int]) -> None:
    assert spread_of(directory, "/var/log", "2026-11-23") == found


def test_numbers_in_the_directory_of_the_live_file_are_no_dates() -> None:
    assert spread_of("/srv/2026/log", "/srv/2026/log", "2026-11-23") == ("/srv/2026/log", 0)
    assert spread_of("/srv/2026/log/2026", "/srv/2026/log", "2026-11-23") == ("/srv/2026/log", 1)


def test_within_a_directory_only_the_names_count_that_are_made_there() -> None:
    names = Names(LIVE, DAILY, namer=lambda name: f"/var/log/{name[-10:-3]}/app.{name[-2:]}")
    assert names.path("2026-11-23") == "/var/log/2026-11/app.23"
    spread = Names(LIVE, DAILY, namer=lambda name: name.replace("/log/", f"/log/{name.split('.')[2][:7]}/"))
    assert spread.path("2026-11-23", 1) == "/var/log/2026-11/app.log.2026-11-23.1"
    name = "app.log.2026-11-23.1.gz"
    assert spread.within("/var/log/2026-11").parse(name) == Backup(name, "2026-11-23", 1, ".gz")
    assert spread.within("/var/log/2026-10").parse(name) is None


def by_three_parts(default: str) -> str:
    """As many write it for the standard library: app.log.DATE to app.DATE.log."""
    base, extension, date = default.rpartition("/")[2].split(".")
    return f"/logs/{base}.{date}.{extension}"


def test_a_namer_that_knows_no_numbers_has_them_put_behind_its_name() -> None:
    names = Names("/logs/app.log", Schedule("D", tz="UTC"), namer=by_three_parts)
    first = "/logs/app.2026-01-05.log"
    assert [names.path("2026-01-05", number) for number in (0, 1, 12)] == [first, f"{first}.1", f"{first}.12"]
    for number in (0, 1, 12):
        for extension in ("", ".gz"):
            name = names.path("2026-01-05", number, extension).rpartition("/")[2]
            assert names.parse(name) == Backup(name, "2026-01-05", number, extension)


@pytest.mark.parametrize("suffix", [None, "%Y-%m-%d.%H", "%d.%m.%Y", "%-d-%m-%Y", "%Y%m%d", "%A_%Y-%m-%d"])
def test_a_default_name_is_read_as_with_a_namer_that_changes_nothing(suffix: str | None) -> None:
    schedule = Schedule("D", tz="UTC", suffix=suffix)
    quickly, by_guesses = Names(LIVE, schedule), Names(LIVE, schedule, namer=lambda name: name)
    right = schedule.interval(1_774_000_000).suffix
    ends = (
        "",
        ".1",
        ".0",
        ".01",
        ".7.gz",
        ".gz",
        ".gz.1",
        ".xz",
        ".zst",
        ".1.2",
        "-1",
        ".1234567890123456789",
        ".rolled",
        ".tmp",
    )
    for beginning in ("app.log.", "app.log", "other.log.", "xapp.log.", "app.log..", "app.log.1.", ""):
        for middle in (right, right[1:], f"{right}{right}", "2026-02-30", ""):
            for end in ends:
                name = f"{beginning}{middle}{end}"
                assert quickly.parse(name) == by_guesses.parse(name), name
