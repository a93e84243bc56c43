"""rollsafe.celery with Redis as the broker, which goes away in the middle, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("celery", reason="celery is not installed: pip install rollsafe[celery]")
pytest.importorskip("redis", reason="redis is not installed: pip install redis")

from tests.support.celery_programs import FORMAT, project, text_of
from tests.support.redis_server import RedisServer
from tests.support.servers import backups, wait_until

LOST = "Connection to broker lost. Trying to re-establish the connection..."
BEAT = {"beat_schedule": {"tick": {"task": "tick", "schedule": 0.2}}}


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "gevent", "threads"])
def test_no_line_is_lost_when_the_broker_goes_away_and_comes_back(tmp_path: Path, pool: str) -> None:
    live = tmp_path / "celery.log"
    install = {"filename": "celery.log", "format": FORMAT, "when": "S"}
    with (
        RedisServer() as redis,
        project(tmp_path, install, settings=BEAT, broker=redis.url) as celery,
        celery.worker("-l", "INFO", pool=pool, processes=3) as worker,
        celery.program("beat", "-l", "INFO", name="beat"),
    ):
        wait_until(lambda: live.exists() and "] tick\n" in text_of(live), "a tick")
        for _ in range(3):
            celery.send("lines", 300, 0.02)
        celery.wait_for_lines(20)
        wait_until(lambda: not redis.has_unacknowledged(celery.sent), "the worker has taken the tasks")
        redis.stop()
        wait_until(lambda: LOST in text_of(live), "the worker's message about the broker")
        celery.wait_for_lines(300)
        redis.start()

        def goes_on() -> bool:
            # The worker of Celery 5.7 may end ("Unrecoverable error: 'NoneType' object has no attribute 'hostname'").
            worker.revive()
            return text_of(live).rpartition(LOST)[2].count("] tick\n") >= 2

        wait_until(goes_on, "ticks with the new broker")
        for _ in range(3):
            celery.send("lines", 100, 0.01)
        celery.wait_for_lines(100)
        assert worker.stop() == 0
    report = celery.audit(live)
    assert report.flawless, report
    assert report.lines == 3 * 300 + 3 * 100
    assert len(backups(live)) >= 5
    # Celery's message has several lines.
    assert any("Couldn't apply scheduled task tick: " in line and r"\n[" in line for line in text_of(live).splitlines())
