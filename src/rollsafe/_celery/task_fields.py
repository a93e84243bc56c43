"""The name and the id of the current task on each line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery._state import get_current_task, get_current_worker_task

OUTSIDE = "-"

_FIELDS = ("task_name", "task_id")


class TaskFields(logging.Filter):
    """A filter for handlers that gives each record the name and the id of the task in which it is logged.

    `task_name` and `task_id`, whichever logger the record comes from. A record of Celery's own that reports on a task
    from outside (that it was received, or has succeeded) has those of that task. Any other record has "-". A field that
    a record has already (through `extra`) stays. No record is rejected.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete `record`; always True."""
        for name, value in zip(_FIELDS, _task_of(record), strict=True):
            if not hasattr(record, name):
                setattr(record, name, value or OUTSIDE)
        return True


def _task_of(record: logging.LogRecord) -> tuple[Any, Any]:
    """The name and the id of the task that a record belongs to; None where there is none."""
    task = get_current_task()
    if task is None:
        about = getattr(record, "data", None)
        if isinstance(about, Mapping) and str(record.name).startswith("celery."):
            return about.get("name"), about.get("id")
        return None, None
    if task.request.id is None:
        # It is called as a function, and has no id of its own.
        task = get_current_worker_task() or task
    return task.name, task.request.id


class ByTask(logging.Formatter):
    """Two formatters in one: for records of tasks, and for all others.

    Args:
        outside: The one for records that belong to no task.
        inside: The one for records that `TaskFields` has given a task's id.
    """

    def __init__(self, outside: logging.Formatter, inside: logging.Formatter) -> None:
        super().__init__()
        self._outside = outside
        self._inside = inside

    def format(self, record: logging.LogRecord) -> str:
        """The text of one of the two."""
        in_task = getattr(record, "task_id", OUTSIDE) != OUTSIDE
        return (self._inside if in_task else self._outside).format(record)
