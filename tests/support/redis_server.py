"""A Redis of one test, which can go away and come back with its data."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from redis import Redis
from redis.exceptions import ConnectionError as NotConnected

from tests.support.needs import require_command
from tests.support.servers import wait_until

STOP_SECONDS = 120.0


class RedisServer:
    """A Redis that runs while the block runs; skips the test if there is none.

    It listens on an address of its own of the loopback network, so that no other program can take the port while it is
    away.
    """

    def __init__(self) -> None:
        self._program = require_command("redis-server", package="redis-server")
        self._directory = Path(tempfile.mkdtemp(prefix="rollsafe-redis-"))
        # SystemRandom, as tests in other processes must not draw the same numbers.
        draw = random.SystemRandom().randint
        self._address = f"127.{draw(1, 254)}.{draw(0, 254)}.{draw(1, 254)}"
        self.url = f"redis://{self._address}:6379/0"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        """Start it, with the data that it had when it was stopped."""
        settings = ["--bind", self._address, "--port", "6379", "--dir", str(self._directory)]
        self._process = subprocess.Popen(
            [self._program, *settings, "--save", "", "--appendonly", "yes", "--appendfsync", "always"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._answers, "an answer of Redis")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(STOP_SECONDS)

    def has_unacknowledged(self, tasks: Collection[str]) -> bool:
        """Whether it would deliver one of these tasks of Celery again, as no worker has said that it has it."""
        with Redis.from_url(self.url) as client:
            waiting: list[bytes] = client.hvals("unacked")
        return any(task.encode() in message for message in waiting for task in tasks)

    def _answers(self) -> bool:
        with Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except NotConnected:
                # Also while it loads its data.
                return False
