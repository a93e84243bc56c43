"""A Celery application."""

from __future__ import annotations

import logging

from celery import Celery

from rollsafe.celery import TaskFields, install

app = Celery("shop", broker="redis://")
install("logs/celery.log", when="midnight", backupCount=14, defaults={"user": "-"})
logging.getLogger().handlers[0].addFilter(TaskFields())
