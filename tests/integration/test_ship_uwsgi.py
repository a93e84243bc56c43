"""The lines of a real uWSGI, taken apart by each shipper as the configuration says that its log directory gives."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rollsafe._preset import LINE_FORMAT
from rollsafe.tools.ship_sources import logs_of
from rollsafe.tools.shipping import configuration
from tests.support.other_servers import NO_PYUWSGI, PYUWSGI
from tests.support.servers import wait_until
from tests.support.shippers import by_alloy, by_filebeat, by_fluent_bit, by_vector
from tests.support.uwsgi_logs import LoggingUwsgi, lines_of

ZONE = "Europe/Paris"
"""The zone of the machine."""
ENGINES = {"vector": by_vector, "fluent-bit": by_fluent_bit, "filebeat": by_filebeat, "alloy": by_alloy}


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", ZONE)
        time.tzset()
        yield
    time.tzset()


class DefaultUwsgi(LoggingUwsgi):
    """A uWSGI that writes requests in its own format."""

    def _command(self, listener: int) -> Sequence[str]:
        command = [*super()._command(listener)]
        place = command.index("--log-format")
        return [*command[:place], *command[place + 2 :]]


@pytest.mark.slow
@pytest.mark.parametrize("stamps", [False, True])
@pytest.mark.skipif(PYUWSGI is None, reason=NO_PYUWSGI)
def test_uwsgis_own_lines_of_requests_are_taken_apart(tmp_path: Path, stamps: bool) -> None:
    preset: dict[str, Any] = {"when": "midnight", "interval": 30, "format": LINE_FORMAT, "stamps": stamps}
    before = time.time()
    with DefaultUwsgi(tmp_path, program=PYUWSGI, **preset) as uwsgi:
        uwsgi.get("/own/ship/0/60")
        wait_until(lambda: any("/own/ship/0/60" in line for line in lines_of(tmp_path, "access.log")), "the request")
        after = time.time()
        logs, left_out = logs_of(str(tmp_path / "logs"))
    assert left_out == []
    line = next(line for line in lines_of(tmp_path, "access.log") if "/own/ship/0/60" in line)
    for engine, parser in ENGINES.items():
        parsed = parser(configuration(engine, logs), "access", ZONE)(line)
        expected = {"method": "GET", "uri": "/own/ship/0/60", "status": "200", "remote_addr": "127.0.0.1"}
        assert {name: parsed.fields[name] for name in expected} == expected
        assert ("stamp" in parsed.fields) is stamps
        assert parsed.time is not None
        assert before - 1.1 <= parsed.time <= after
    for log in logs:
        assert log.line is not None, log
        if log.name != "access":
            assert log.line.fields[:3] == ("asctime", "process", "levelname")
