"""Shipping with the real rsyslog of Debian and GNU tail: every line that was logged arrives, and arrives once."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from rollsafe.tools.shippers.logs import ShippedLog
from rollsafe.tools.shipping import configuration
from tests.support.crew import Crew, Maker, log_lines, stop_myself, wait_for_next_second
from tests.support.hosts import Host, network, require_rsyslog
from tests.support.load import suffix_of_seconds
from tests.support.needs import require_command
from tests.support.oracle import LINE_FORMAT, audit, read_line
from tests.support.servers import Clients, Server, backups, wait_until

RELP_PORT, TCP_PORT = 2514, 6514
CONFIG = """
from rollsafe._live import renewal
from rollsafe.gunicorn import post_fork, rotating_logs

# A line of a worker that has no processor for longer than this is not seen by rsyslog (docs/how-to/ship.md).
for name, value in {{"LINGER_S": 0.5, "SIZE_LINGER_S": 0.5, "LINGER_SHARE": 1.0}}.items():
    assert hasattr(renewal, name)
    setattr(renewal, name, value)

logconfig_dict = rotating_logs(
    "logs", when="S", utc=True, access=None, error=None, format={format!r}, **{rotation!r}
)
"""
RECEIVER = """
global(workDirectory="{directory}" maxMessageSize="1m" net.enableDNS="off")
# It never throws away what it has no processor for.
main_queue(queue.timeoutEnqueue="600000")
module(load="imtcp") module(load="imrelp")
template(name="line" type="string" string="%msg%\\n")
input(type="imrelp" port="{relp}" ruleset="relp") input(type="imtcp" port="{tcp}" ruleset="tcp")
ruleset(name="relp") {{ action(type="omfile" file="{directory}/relp.log" template="line") }}
ruleset(name="tcp") {{ action(type="omfile" file="{directory}/tcp.log" template="line") }}
"""


class Rsyslog:
    """One rsyslogd on a host, with a configuration and a working directory of its own."""

    def __init__(self, host: Host, directory: Path, stack: ExitStack) -> None:
        directory.mkdir()
        self.directory = directory
        self._host = host
        self._stack = stack

    def start(self, configuration: str) -> None:
        """Start it, and wait until it works."""
        path = self.directory / "rsyslog.conf"
        path.write_text(configuration)
        # Without the first line of a new file there is nothing that says that it is ready but its pid file.
        pid = self.directory / "pid"
        pid.unlink(missing_ok=True)
        self._process = self._host.start(["rsyslogd", "-n", "-i", pid, "-f", path], self._stack)
        wait_until(pid.exists, "rsyslogd has started")

    def stop(self) -> None:
        """Stop it as the system would, so that it saves what it has to."""
        self._process.terminate()
        self._process.wait(120)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid


class Shipper(Rsyslog):
    """One that reads the logs of a gunicorn.conf.py, by the configuration that `rollsafe ship` prints."""

    def __init__(self, host: Host, directory: Path, config: Path, to: str, stack: ExitStack) -> None:
        super().__init__(host, directory, stack)
        self._live = config.parent / "logs" / "app.log"
        self._ship = [sys.executable, "-m", "rollsafe.cli", "ship", "rsyslog", config.name]
        self._ship += ["--to", to, "--state", str(directory)]
        self._cwd = config.parent

    def run(self, *options: str) -> None:
        """Start it with what is printed now, and wait until it reads."""
        printed = subprocess.run([*self._ship, *options], cwd=self._cwd, check=True, capture_output=True, text=True)
        self.start(printed.stdout)
        wait_until(lambda: self._live.stat().st_ino in open_files(self.pid), "rsyslogd reads the live file")


class Line:
    """gunicorn on one host's files, a shipper for each protocol there, and the receiver of both on another host."""

    def __init__(self, directory: Path, stack: ExitStack, **rotation: Any) -> None:
        require_rsyslog()
        site = directory / "site"
        self.live = site / "logs" / "app.log"
        self.live.parent.mkdir(parents=True)
        self._interval: int = rotation["interval"]
        far, near = stack.enter_context(network(2))
        self._receiver = Rsyslog(far, directory / "receiver", stack)
        self.start_receiver()
        # Ended before the lines are counted.
        self._server_stack = stack.enter_context(ExitStack())
        self.server = self._server_stack.enter_context(
            Server(site, CONFIG.format(format=LINE_FORMAT, rotation=rotation))
        )
        config = site / "gunicorn.conf.py"
        self.shippers = [
            Shipper(near, directory / scheme, config, f"{scheme}://{far.address}:{port}", stack)
            for scheme, port in (("relp", RELP_PORT), ("tcp", TCP_PORT))
        ]
        for shipper in self.shippers:
            shipper.run()
        self.readers = [shipper.pid for shipper in self.shippers]
        """The processes that `wait_until_read` waits for."""
        self._read: int | None = None

    def wait_until_read(self) -> None:
        """Wait until the readers have the live file open.

        A client that does so before each request rolls no file over that a reader has not seen: one that has no
        processor meanwhile would never read it, as docs/how-to/ship.md says.
        """
        # Only this is asked each time: it costs less than to look at what others have open.
        if self._live_inode() != self._read:
            wait_until(self._is_read, "the readers read the live file")

    def _is_read(self) -> bool:
        inode = self._live_inode()
        if inode is None or not all(inode in open_files(pid) for pid in self.readers):
            return False
        self._read = inode
        return True

    def _live_inode(self) -> int | None:
        """The inode of the live file; None between its rename and the making of the new one."""
        try:
            return self.live.stat().st_ino
        except FileNotFoundError:
            return None

    def start_receiver(self) -> None:
        """Start the receiver, for the first time or again."""
        directory = self._receiver.directory
        self._receiver.start(RECEIVER.format(directory=directory, relp=RELP_PORT, tcp=TCP_PORT))

    def stop_receiver(self) -> None:
        """Stop the receiver."""
        self._receiver.stop()

    @property
    def outputs(self) -> list[Path]:
        """What has arrived by each protocol."""
        return [self._receiver.directory / "relp.log", self._receiver.directory / "tcp.log"]

    def assert_all_there_once(self, logged: Mapping[str, Collection[int]], outputs: Sequence[Path]) -> None:
        """End the server; every logged line is in the log files once, and in each of `outputs` once, by and by."""
        self._server_stack.close()
        for draft in self.live.parent.glob("*.tmp"):
            # A directory with an archive that was being written when the server ended.
            shutil.rmtree(draft)
        for archive in self.live.parent.glob("*.gz"):
            # And of one that was finished just then; what it was made of has the same lines.
            archive.with_suffix("").unlink(missing_ok=True)
        report = audit(self.live, logged, suffix_of_seconds(self._interval))
        assert report.flawless, f"{report}\n{report.examples}"
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not any(missing(output, logged) for output in outputs), "all has arrived")
        places = self._places()
        for output in outputs:
            lost = sorted(places[line] for line in missing(output, logged))
            print(f"{output.name}: {report.lines} logged, {len(lost)} lost, {len(twice(output))} twice", *lost[:20])
        assert not any(missing(output, logged) or twice(output) for output in outputs)

    def _places(self) -> dict[tuple[str, int], str]:
        """Where in the log files each line is: the name of the file, and how many lines follow."""
        places = {}
        for path in [*backups(self.live), self.live]:
            with opened(path) as file:
                stamps = [read_line(text) for text in file]
            for number, stamp in enumerate(stamps, 1):
                if stamp is not None:
                    what = f"{path.name}[{number - len(stamps) - 1}] {stamp[0].decode()}"
                    places[stamp[1].decode(), int(stamp[2])] = what
        return places


def open_files(pid: int) -> set[int]:
    """The inodes of the files that a process has open; none if it has ended."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.add(entry.stat().st_ino)
    return found


def opened(path: Path) -> BinaryIO:
    """A log file, compressed or not, open for reading."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def tail(live: Path, output: Path) -> Iterator[int]:
    """GNU tail, following the name from the first line on, which must be there; it reads when the block begins.

    Yields:
        Its process id.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(["tail", "-n", "+1", "-F", live], stdout=file, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: output.stat().st_size > 0, "tail reads")
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def arrived(output: Path) -> Counter[tuple[str, int]]:
    """How often each line is in a file."""
    counts: Counter[tuple[str, int]] = Counter()
    for line in output.read_bytes().splitlines(keepends=True):
        stamp = read_line(line)
        if stamp is not None:
            counts[stamp[1].decode(), int(stamp[2])] += 1
    return counts


def missing(output: Path, logged: Mapping[str, Collection[int]]) -> list[tuple[str, int]]:
    """The logged lines that are not in a file."""
    counts = arrived(output)
    return [(stream, number) for stream, numbers in logged.items() for number in numbers if not counts[stream, number]]


def twice(output: Path) -> list[tuple[str, int]]:
    """The lines that are in a file more than once."""
    return [line for line, count in arrived(output).items() if count > 1]


def test_a_line_of_a_worker_that_was_held_off_over_the_rollover_is_in_the_backup_though_tail_does_not_see_it(
    tmp_path: Path,
) -> None:
    require_command("tail", package="coreutils")
    live = tmp_path / "logs" / "app.log"
    live.parent.mkdir()
    make = Maker(live)

    def held_off() -> None:
        handler = make()
        wait_for_next_second()
        log_lines(handler, "held", range(1))
        write = handler._file.write

        def stop_and_write(line: bytes) -> int | None:
            stop_myself()
            return write(line)

        handler._file.write = stop_and_write
        log_lines(handler, "held", range(1, 2))
        handler.close()

    tailed = tmp_path / "tail.log"
    handler = make()
    log_lines(handler, "other", range(1))
    with tail(live, tailed), Crew() as crew:
        child = crew.start(held_off)
        child.wait_until_stopped()
        wait_for_next_second()
        log_lines(handler, "other", range(1, 2))
        logged: dict[str, Collection[int]] = {"held": [0], "other": [0, 1]}
        wait_until(lambda: not missing(tailed, logged), "tail has turned to the new file")
        child.go_on()
        child.join()
        log_lines(handler, "other", range(2, 3))
        handler.close()
        logged = {"held": [0, 1], "other": [0, 1, 2]}
        wait_until(lambda: len(missing(tailed, logged)) <= 1, "the last line has arrived")
    report = audit(live, logged, suffix_of_seconds(1))
    assert report.flawless, f"{report}\n{report.examples}"
    assert missing(tailed, logged) == [("held", 1)], "tail sees such lines by now: tell docs/how-to/ship.md"


@pytest.mark.slow
@pytest.mark.parametrize(
    "rotation",
    [{"interval": 5, "compress": "gz"}, {"interval": 3600, "maxBytes": 1_000_000, "compress": "gz"}],
    ids=["every five seconds", "by size"],
)
def test_every_line_of_four_busy_workers_arrives_once_over_many_rollovers(
    tmp_path: Path, rotation: dict[str, Any]
) -> None:
    require_command("tail", package="coreutils")
    tailed = tmp_path / "tail.log"
    with ExitStack() as stack:
        line = Line(tmp_path, stack, **rotation)
        with tail(line.live, tailed) as tail_pid:
            line.readers.append(tail_pid)
            with Clients(line.server, before=line.wait_until_read) as clients:
                wait_until(lambda: len(backups(line.live)) > 5, "the log is rolled five times")
                wait_until(lambda: any(path.suffix == ".gz" for path in backups(line.live)), "a backup is compressed")
            line.assert_all_there_once(clients.acknowledged, [*line.outputs, tailed])


@pytest.mark.slow
def test_every_line_arrives_once_by_relp_though_receiver_and_shipper_are_stopped_while_the_log_is_rolled(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        line = Line(tmp_path, stack, interval=10)
        with Clients(line.server, name="before", before=line.wait_until_read) as before:
            before.wait_for(300)
            line.stop_receiver()
            before.wait_for(300)
            line.start_receiver()
            before.wait_for(300)
            line.readers.clear()
            for shipper in line.shippers:
                shipper.stop()
            rolled = len(backups(line.live))
            wait_until(lambda: len(backups(line.live)) > rolled, "the log is rolled")
        # No client: a file that is rolled over while they start is not read, as docs/how-to/ship.md says.
        for shipper in line.shippers:
            shipper.run("--catch-up")
        line.readers = [shipper.pid for shipper in line.shippers]
        with Clients(line.server, name="after", before=line.wait_until_read) as after:
            after.wait_for(300)
        # Plain TCP acknowledges nothing: what was under way when the receiver stopped is gone.
        relp, _ = line.outputs
        line.assert_all_there_once(before.acknowledged | after.acknowledged, [relp])


@pytest.mark.slow
def test_a_new_file_that_gets_the_inode_of_a_small_one_that_was_removed_is_read_from_its_beginning(
    tmp_path: Path,
) -> None:
    live, state = tmp_path / "app.log", tmp_path / "shipper"
    small, removed = tmp_path / "app.log.1", tmp_path / "app.log.2"
    numbers = []
    with ExitStack() as stack:
        require_rsyslog()
        far, near = stack.enter_context(network(2))
        receiver = Rsyslog(far, tmp_path / "receiver", stack)
        receiver.start(RECEIVER.format(directory=receiver.directory, relp=RELP_PORT, tcp=TCP_PORT))
        log = ShippedLog("app", str(live))
        printed = configuration("rsyslog", [log], to=f"tcp://{far.address}:{TCP_PORT}", state=str(state))
        output = receiver.directory / "tcp.log"

        def write(line: str) -> None:
            with live.open("a") as file:
                file.write(f"{line}\n")
            numbers.append(live.stat().st_ino)

        def wait_for(line: str) -> None:
            wait_until(lambda: output.exists() and line in output.read_text(), f"{line!r} has arrived")

        write("one in the first file")
        Rsyslog(near, state, stack).start(printed)
        wait_for("one in the first file")
        live.rename(removed)
        write("one in the other file")
        wait_for("one in the other file")
        removed.unlink()
        live.rename(small)
        write("one in the third file")
        write("two in the third file")
        wait_for("two in the third file")
    assert output.read_text().count("one in the third file") == 1
    if numbers[2] != numbers[0]:
        pytest.skip("this file system did not give the number of the removed file to the next one")
