"""The page of verify in a real browser: what a reader sees of a damaged log, in the light and in the dark."""

from __future__ import annotations

import html
import json
import logging
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.page import page_of
from rollsafe.tools.verify import verify
from tests.support.needs import require_command

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

HOUR = 3600
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--virtual-time-budget=10000",
)
SCHEMES = {"dark": 0, "light": 1}
HOSTILE = "<script>parent.hit = document.title = 'hit'</script><img src=x onerror=\"parent.hit = 1\">"

# Opens the page in two widths, and writes down how it looks there.
LOOK = """<!doctype html><meta charset="utf-8"><body><pre id="seen"></pre>
<iframe src="PAGE" width="1200" height="900"></iframe><iframe src="PAGE" width="390" height="900"></iframe>
<script>
addEventListener("load", () => {
  const looks = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, style = element => frame.contentWindow.getComputedStyle(element);
    const sizes = found => [...page.querySelectorAll(found)].map(each => each.getBoundingClientRect())
      .map(box => [box.width, box.height]);
    return {
      title: page.title, text: page.body.innerText, background: style(page.body).backgroundColor,
      color: style(page.body).color, soft: style(page.querySelector(".soft")).color,
      card: style(page.querySelector("section")).backgroundColor,
      overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
      bars: sizes(".bars"), marks: sizes(".strip .mark"), scripts: page.scripts.length, hit: String(window.hit),
    };
  });
  document.getElementById("seen").textContent = JSON.stringify(looks);
});
</script>"""


def damaged_log(directory: Path) -> None:
    """Four hours of one process; lines are missing, one is torn, and one message is no friend of the reader."""
    handler = SafeTimedRotatingFileHandler(directory / "app.log", when="H", utc=True, encoding="utf-8")
    formatter = LineFormatter("%(asctime)s %(message)s %(stamp)s")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    now = time.time()
    for number in range(200):
        record = {"msg": f"line {number}", "created": now + (number // 50 - 3) * HOUR}
        handler.handle(logging.makeLogRecord(record))
    handler.close()
    backup = sorted(directory.glob("app.log.*"))[1]
    lines = backup.read_text().splitlines(keepends=True)
    lines[10:15] = [f"{lines[12][:23]} {HOSTILE}\n"]
    backup.write_text("".join(lines))


def looks_of(page: Path, scheme: str) -> list[dict[str, Any]]:
    """How a page looks in the browser, wide and narrow."""
    look = page.with_name("look.html")
    look.write_text(LOOK.replace("PAGE", page.name))
    profile = page.with_name(f"profile-{scheme}")
    options = [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--user-data-dir={profile}"]
    command = [require_command(*BROWSERS, package="chromium"), *FLAGS, *options, "--dump-dom", look.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    seen = re.search(r'<pre id="seen">(.+?)</pre>', ran.stdout, re.DOTALL)
    assert seen, ran.stdout + ran.stderr
    looks: list[dict[str, Any]] = json.loads(html.unescape(seen[1]))
    return looks


def luminance(colour: str) -> float:
    """The relative luminance of an rgb() colour (WCAG 2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2); text needs 4.5."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_browser_shows_what_is_amiss_and_runs_nothing_of_it(scheme: str, tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    damaged_log(directory)
    report = verify(logs_at([directory]))
    assert report.found == {"gap": 5, "torn": 1}
    page = tmp_path / "report.html"
    page.write_text(page_of(report.as_dict(), time.time()), encoding="utf-8")
    for look in looks_of(page, scheme):
        assert look["title"] == "5 missing lines and 1 torn line · rollsafe verify"
        assert "5 missing lines" in look["text"]
        assert "<script>parent.hit" in look["text"]
        assert (look["hit"], look["scripts"]) == ("undefined", 0)
        assert look["overflow"] == 0
        # All lines and the one stream; the gap is marked in both, the torn line among all.
        assert len(look["bars"]) == 2
        assert len(look["marks"]) == 3
        assert all(width >= 2 and height >= 8 for width, height in look["bars"] + look["marks"])
        assert (luminance(look["background"]) < 0.2) is (scheme == "dark")
        for ink in (look["color"], look["soft"]):
            assert min(contrast(ink, look["background"]), contrast(ink, look["card"])) >= 4.5
