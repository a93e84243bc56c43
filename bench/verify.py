"""How fast `rollsafe verify` reads, compared with a loop that only counts lines, and the cost of a stamp for a line.

    python -m bench.verify [--rounds 5] [--lines 1000000] [--out docs/figures]

It takes about two minutes; docs/figures/verify.md is its output.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from statistics import median

from bench.measuring import in_a_process, microseconds_of_a_line, parser_of, shuffled, write
from rollsafe import FileLock
from rollsafe._backups.archives import archive
from rollsafe._backups.codecs import codec_for
from rollsafe._backups.file_names import fingerprint_of
from rollsafe._backups.ledger import Ledger
from rollsafe._lines.stamps import STAMP
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.reading import open_log
from rollsafe.tools.verify import verify

# An afternoon, UTC.
BEGIN = 1_800_000_000 // 86400 * 86400 + 14 * 3600
STREAMS = tuple(f"1lge482{number:02}pa7" for number in range(8))
KINDS = ("the preset's lines", "access lines", "JSON lines")
COMPRESSIONS = ("gz", "zst", "xz")
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the tables."""
    parser = parser_of("verify", __doc__, rounds=5, of="how often each figure is measured")
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of a file (default: %(default)s)")
    options = parser.parse_args(arguments)
    rows = []
    for kind in KINDS:
        rows.append(_row(kind, kind, "", options.lines, options.rounds))
        if kind == KINDS[0]:
            rows += [
                _row(f"the same, .{compress}", kind, compress, options.lines, options.rounds)
                for compress in COMPRESSIONS
            ]
    costs: dict[str, list[float]] = {FORMAT: [], f"{FORMAT} %(stamp)s": []}
    for turn in range(options.rounds):
        for fmt in shuffled(costs, turn):
            costs[fmt].append(in_a_process("verify", fmt, options.lines // 10))
    write(options.out, "verify.md", _page(rows, costs, options.rounds, options.lines))


def lines_of(kind: str, count: int) -> Iterator[bytes]:
    """Stamped lines of some processes, 400 a second."""
    numbers = dict.fromkeys(STREAMS, 0)
    for row in range(count):
        second, thousandths = divmod(row * 10 // 4, 1000)
        stream = STREAMS[row * 7 % 31 % len(STREAMS)]
        numbers[stream] += 1
        stamp = f"~{stream}.{numbers[stream]}~"
        moment = time.gmtime(BEGIN + second % 36000)
        if kind == "access lines":
            clock = time.strftime("%d/%b/%Y:%H:%M:%S +0000", moment)
            yield (
                f'10.0.{row % 250}.7 - - [{clock}] "GET /items/{row} HTTP/1.1" 200 {row % 9999} "-" '
                f'"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0" {stamp}\n'
            ).encode()
            continue
        clock = f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)},{thousandths:03}"
        message = f"order {row} of customer {row * 7 % 9973} accepted in {row % 89}.4 ms"
        if kind == "JSON lines":
            line = json.dumps({"asctime": clock, "levelname": "INFO", "message": message, "stamp": stamp})
            yield f"{line}\n".encode()
        else:
            yield f"{clock} INFO shop.orders {message} {stamp}\n".encode()


def count_lines(path: Path) -> int:
    """Count the lines of a file by the shortest Python loop, for a comparison."""
    count = 0
    with open_log(path) as file:
        for _ in file:
            count += 1
    return count


def cut_lines(path: Path) -> int:
    """Cut the end of each line off, which is the least that a check of the stamps needs of the lines."""
    end = itemgetter(slice(-24, None))
    return sum(len(list(map(end, io.BytesIO(chunk).readlines()))) for chunk in _chunks(path))


def find_stamps(path: Path) -> int:
    """Find the stamps by one regular expression, and do nothing with them."""
    return sum(len(STAMP.findall(chunk)) for chunk in _chunks(path))


def _chunks(path: Path) -> Iterator[bytes]:
    """A file in blocks of whole lines."""
    with open_log(path) as file:
        while block := file.read(1 << 18):
            yield block + file.readline()


def microseconds_per_line(fmt: str, lines: int) -> float:
    """The microseconds of processor time that a line with this format takes."""
    return microseconds_of_a_line(fmt, lines)


def _row(what: str, kind: str, compress: str, lines: int, rounds: int) -> str:
    """Measure one file, all ways in turn."""
    ways: dict[Callable[[Path], int], list[float]] = {
        count_lines: [],
        cut_lines: [],
        find_stamps: [],
        _verify_all: [],
    }
    with tempfile.TemporaryDirectory() as directory:
        # A day, so that no line is misplaced.
        path = Path(directory, f"app.log.{time.strftime('%Y-%m-%d', time.gmtime(BEGIN))}")
        path.write_bytes(b"".join(lines_of(kind, lines)))
        size = path.stat().st_size
        if codec := codec_for(compress or None, None):
            compressed = path.with_name(f"{path.name}.{compress}")
            lock = FileLock(path.with_name("lock"))
            archive(str(path), str(compressed), fingerprint_of(path.stat()), codec, Ledger(lock))
            lock.close()
            path = compressed
        for turn in range(rounds):
            for way in shuffled(ways, turn):
                begun = time.process_time()
                count = way(path)
                ways[way].append(time.process_time() - begun)
                assert count == lines
    counting, verifying = ways[count_lines], ways[_verify_all]
    cut, found, factor = (
        median(one / other for one, other in zip(ways[way], counting, strict=True))
        for way in (cut_lines, find_stamps, _verify_all)
    )
    loop, ours = median(counting), median(verifying)
    speeds = f"{size / loop / 1e6:,.0f} | {size / ours / 1e6:,.0f}"
    return f"| {what} | {size / lines:.0f} | {speeds} | {factor:.1f} | {cut:.1f} | {found:.1f} |"


def _verify_all(path: Path) -> int:
    """Verify a log without faults, and count its lines."""
    report = verify(logs_at([path.parent]))
    assert report.clean, report.found
    assert report.stamped == report.lines, report.notes
    return report.lines


def _page(rows: list[str], costs: dict[str, list[float]], rounds: int, lines: int) -> str:
    """The tables as Markdown."""
    without, stamped = costs.values()
    more = median(one / other for one, other in zip(stamped, without, strict=True)) - 1
    return "\n".join(
        [
            "# How fast verify reads, and what stamps cost",
            "",
            f"Medians of {rounds} rounds in one process (processor time), files of {lines:,} lines of {len(STREAMS)}"
            f" streams in the page cache, Python {sys.version.split()[0]}; made by `python -m bench.verify`."
            " The loop only counts:"
            " `for line in file`. MB are of text, after decompression.",
            "",
            "| file | bytes a line | loop, MB/s | verify, MB/s | verify / loop | cut / loop | find / loop |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "Two floors, as times of the loop's time: to cut off the end of each line (`cut`), and to"
            " find the stamps by one regular expression (`find`), with no look at what was cut or found."
            " `verify` cuts ends and beginnings, and compares them.",
            "",
            "A line with LineFormatter, in microseconds:",
            "",
            "| without stamp | with stamp | more |",
            "|---:|---:|---:|",
            f"| {median(without):.1f} | {median(stamped):.1f} | {more:+.0%} |",
            "",
        ]
    )


if __name__ == "__main__":
    main()
