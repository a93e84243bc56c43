"""The page of a report: what stands on it, in which order, and that nothing in it can be more than text."""

from __future__ import annotations

import html.parser
import re
from typing import Any

import pytest

from rollsafe.tools import page
from rollsafe.tools.page import page_of
from rollsafe.tools.verify import KINDS, FileReport, Finding, Report, StreamReport

NOON = 1_800_014_400.0
HOUR = 3600.0
LIVE = "/srv/logs/app.log"
HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
UNPRINTABLE = "\x1b[31m \u202e\u2028\udc80\x00\x85"


def backup(number: int, **changes: Any) -> FileReport:
    """One file of an hour with three lines of stream "one"."""
    fields: dict[str, Any] = {
        "path": f"{LIVE}.{number}",
        "log": LIVE,
        "live": False,
        "extension": ".gz",
        "start": NOON + number * HOUR,
        "end": NOON + (number + 1) * HOUR,
        "size": 100,
        "bytes": 1000,
        "lines": 3,
        "stamped": 3,
        "unstamped": 0,
        "blanked": 0,
        "notices": 0,
        "first_time": NOON + number * HOUR,
        "last_time": NOON + number * HOUR + 60,
        "found": {},
        "streams": {"one": 3},
    }
    return FileReport(**fields | changes)


def stream(name: str, **changes: Any) -> StreamReport:
    """One stream."""
    fields: dict[str, Any] = {"stream": name, "log": LIVE, "lines": 3, "first": 1, "last": 3}
    return StreamReport(**fields | changes)


def finding(kind: str, path: str = f"{LIVE}.1", **changes: Any) -> Finding:
    """One finding an hour after noon."""
    fields: dict[str, Any] = {
        "line": 7,
        "count": 1,
        "stream": None,
        "since": NOON + HOUR,
        "until": NOON + 1.5 * HOUR,
        "text": f"a case of {kind}",
    }
    return Finding(**{"kind": kind, "path": path} | fields | changes)


def drawn(report: Report) -> str:
    """The page."""
    return page_of(report.as_dict(), NOON)


def clean_report(files: int = 3) -> Report:
    """Nothing amiss."""
    return Report([backup(number) for number in range(files)], [stream("one")])


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def having(self, css_class: str) -> list[dict[str, str | None]]:
        """The attributes of the elements of a class."""
        return [found for _, found in self.elements if css_class in (found.get("class") or "").split()]


@pytest.mark.parametrize(
    ("report", "headline"),
    [
        (clean_report(), "Every line is there"),
        (Report([backup(0, stamped=0, streams={})]), "Nothing amiss"),
        (Report(), "Nothing amiss"),
        (Report([backup(0)], found={"gap": 1}), "1 missing line"),
        (Report([backup(0)], found={"gap": 1200, "torn": 1, "leftover": 2}), "1,200 missing lines, 1 torn line and 2"),
    ],
)
def test_the_headline_says_what_was_found_and_no_more_than_can_be_told(report: Report, headline: str) -> None:
    assert f"<h1>{headline}" in drawn(report)


def test_what_is_misplaced_is_explained_and_nothing_else() -> None:
    text = drawn(Report([backup(0)], found={"misplaced": 2}))
    assert "A line is misplaced if its time is outside the interval of its file." in text
    assert "A line is missing if" not in text


def test_a_stream_of_one_line_is_told_without_a_range() -> None:
    alone = stream("alone", lines=1, first=7, last=7, first_time=NOON, last_time=NOON)
    facts = re.search("1 line at [^,]*, number 7", drawn(Report([backup(0)], [alone])))
    assert facts, "neither from nor to"


def test_every_kind_of_finding_has_words_and_a_colour() -> None:
    assert set(page._WORDS) == set(KINDS)
    report = Report([backup(1)], [], [finding(kind) for kind in KINDS], dict.fromkeys(KINDS, 1))
    text = drawn(report)
    for kind in KINDS:
        assert f"a case of {kind}" in text
        assert re.search(rf"--{kind}: #.*--{kind}: #", text, re.DOTALL), "once light, once dark"
        assert f".{kind} {{ --mark: var(--{kind}); }}" in text


def saying(text: str) -> str:
    """The page of a report that has `text` wherever something from a file stands."""
    return drawn(
        Report(
            [backup(0, path=f"/logs/{text}", log=f"/logs/{text}", extension=f".{text}", streams={text: 3})],
            [stream(text, log=f"/logs/{text}", missing=1)],
            [finding("torn", f"/logs/{text}", text=text), finding("gap", f"/logs/{text}", text=text, stream=text)],
            {"torn": 1, "gap": 1},
            [text],
        )
    )


def test_whatever_comes_from_files_is_text_and_nothing_else() -> None:
    text = saying(HOSTILE + UNPRINTABLE)
    text.encode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in text)
    hostile, harmless = Reader(text), Reader(saying("harmless"))
    assert HOSTILE in hostile.text
    assert "\\x1b[31m \\u202e\\u2028\\x80\\x00\\x85" in hostile.text
    assert [(tag, list(found)) for tag, found in hostile.elements] == [
        (tag, list(found)) for tag, found in harmless.elements
    ]


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = drawn(Report([backup(1)], [stream("one")], [finding("gap", stream="one")], {"gap": 1}))
    found = Reader(text).elements
    assert not [tag for tag, _ in found if tag in ("script", "link", "iframe", "img", "object")]
    assert [attributes["href"] for _, attributes in found if "href" in attributes] == ["#ticks-1", "#ticks-1"]
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_marks_stand_where_it_happened() -> None:
    report = clean_report()
    report.streams = [stream("one", missing=5)]
    report.findings = [finding("gap", stream="one", count=5)]
    report.found = {"gap": 5}
    marks = [mark for mark in Reader(drawn(report)).having("mark") if "style" in mark]
    # An hour after the beginning of three hours, for half an hour: once in all lines, once in its stream.
    assert [mark["style"] for mark in marks] == ["left:33.33%;width:16.67%"] * 2
    assert [mark["title"] for mark in marks] == ["a case of gap"] * 2


def test_streams_with_something_amiss_come_first_and_the_many_others_are_folded() -> None:
    streams = [stream(f"s{number:03}") for number in range(300)]
    streams[250].missing = 4
    text = drawn(Report([backup(0)], streams, [], {"gap": 4}))
    assert re.findall(r">(s\d+)</code>", text)[:3] == ["s250", "s000", "s001"]
    assert "4 missing lines" in text
    assert f"{300 - page._OPEN_STREAMS} more streams" in text


def test_many_intervals_share_bars_and_no_line_is_left_out() -> None:
    spans = [(NOON + number, NOON + number + 1) for number in range(10_000)]
    line = page._TimeLine(spans)
    bins = line.bins({span: 2 for span in spans})
    assert len(bins) == page._BARS
    assert sum(bins.values()) == 20_000
    assert line.ticks() == ""
    assert len(line.labels()) <= page._LABELS


def test_what_is_not_listed_is_counted() -> None:
    report = clean_report()
    report.findings = [finding("torn") for _ in range(700)]
    report.found = {"torn": 5000}
    assert "4500 more are counted, but not listed" in drawn(report)


def test_files_without_a_known_time_are_listed_though_they_cannot_be_drawn() -> None:
    unknown = {"start": None, "end": None, "first_time": None, "last_time": None}
    text = drawn(Report([backup(0, **unknown)], [stream("one")]))
    assert "app.log.0" in text
    assert "Lines over time" not in text
    assert "Lines over time" in drawn(Report([backup(0, start=None, end=None)], [stream("one")]))
