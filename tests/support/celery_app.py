"""The Celery application of the integration tests; CELERY_TEST_* in the environment is its configuration.

Each task logs lines that check themselves, in a stream that is named after the task's id. It notes in files of its
working directory which process it runs in, and after each logging call that the call has returned.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger
from kombu.transport.filesystem import Channel
from kombu.utils.json import dumps

import rollsafe.celery
from tests.support.oracle import make_line

ARGUMENTS = "CELERY_TEST_INSTALL"
SETTINGS = "CELERY_TEST_SETTINGS"
BROKER = "CELERY_TEST_BROKER"
ACKNOWLEDGED = Path("acknowledged")
RUNS_IN = Path("runs-in")
SIZES = (60, 200, 1000, 9000)
SHORT = (60,)
LAST = 10**9
"""The number of the line that `endless` logs at its soft time limit."""
LONGEST = 300.0
"""Seconds after which `endless` ends by itself, because a test that is killed leaves its worker behind."""


def put_whole(self: Channel, queue: str, payload: Any, **_: Any) -> None:
    """Put a message into the folder of a queue, whole.

    kombu's own method writes the file under the name by which workers look for it, and a worker that reads it meanwhile
    ends ("Unrecoverable error: JSONDecodeError").
    """
    path = Path(self.data_folder_out) / f"{time.monotonic_ns()}_{uuid.uuid4()}.{queue}.msg"
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(dumps(payload), encoding="utf-8")  # type: ignore[no-untyped-call]
    draft.rename(path)


Channel._put = put_whole  # type: ignore[method-assign]


def settings_of(broker: str, directory: Path) -> dict[str, Any]:
    """The settings of workers and senders in a directory."""
    settings: dict[str, Any] = {"broker_url": broker, "broker_connection_retry_on_startup": True}
    if broker.startswith("filesystem:"):
        queue = str(directory / "queue")
        settings["broker_transport_options"] = {
            **{"data_folder_in": queue, "data_folder_out": queue, "control_folder": str(directory / "control")},
            "polling_interval": 0.05,
        }
    return settings


if ARGUMENTS in os.environ:
    rollsafe.celery.install(**json.loads(os.environ[ARGUMENTS]))
app = Celery("tests")
app.conf.update(settings_of(os.environ.get(BROKER, "filesystem://localhost/"), Path.cwd()))
app.conf.update(json.loads(os.environ.get(SETTINGS, "{}")))

own = logging.getLogger("shop.orders")
of_tasks = get_task_logger("shop.tasks")


def is_first(task: Any) -> bool:
    """Whether this task has not run before: a worker that ends may hand a task back that it has finished."""
    try:
        with (RUNS_IN / task.request.id).open("x", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def log_lines(task: Any, numbers: Iterable[int], pause: float = 0.0, sizes: Sequence[int] = SIZES) -> None:
    """Log a line for each number, by turns with a logger of a library and with one of Celery's for tasks."""
    stream = task.request.id
    descriptor = os.open(ACKNOWLEDGED / stream, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        for number in numbers:
            (own, of_tasks)[number % 2].info(make_line(stream, number, sizes[number % len(sizes)]))
            os.write(descriptor, b"%d\n" % number)
            if pause:
                time.sleep(pause)
    finally:
        os.close(descriptor)


@app.task(bind=True, name="lines")  # type: ignore[untyped-decorator]
def lines(self: Task[Any, Any], count: int, pause: float = 0.0) -> None:
    """Log some lines."""
    if is_first(self):
        log_lines(self, range(count), pause)


@app.task(bind=True, name="endless")  # type: ignore[untyped-decorator]
def endless(self: Task[Any, Any], pause: float = 0.0) -> None:
    """Log lines until a soft time limit ends that, and then one more."""
    if not is_first(self):
        return
    try:
        end = time.monotonic() + LONGEST
        log_lines(self, itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()), pause, SHORT)
    except SoftTimeLimitExceeded:
        log_lines(self, [LAST])


@app.task(bind=True, name="nested")  # type: ignore[untyped-decorator]
def nested(self: Task[Any, Any]) -> None:
    """Log lines in this task, in one that is run at once, in one that is called as a function, and here again."""
    own.info("before %s", self.request.id)
    told.apply(args=["run at once"], task_id=f"inner-{self.request.id}")
    told("called")
    own.info("after %s", self.request.id)
    print(f"printed {self.request.id}")


@app.task(name="told")  # type: ignore[untyped-decorator]
def told(text: str) -> None:
    """Log a text."""
    own.info(text)


@app.task(name="tick")  # type: ignore[untyped-decorator]
def tick() -> None:
    """What beat sends."""
    own.info("tick")
