"""Subclasses that override what the standard library lets them override."""

from __future__ import annotations

import logging
import os
import shutil
from typing import Any

from rollsafe import LineFormatter, SafeTimedRotatingFileHandler


class Handler(SafeTimedRotatingFileHandler):
    terminator = "\r\n"

    def __init__(self, filename: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(filename, when="midnight", **options)
        self.namer = self.name_backup
        self.rotator = self.hand_over_backup

    def name_backup(self, default_name: str) -> str:
        return f"{default_name}.txt"

    def hand_over_backup(self, source: str, dest: str) -> None:
        shutil.move(source, dest)

    def rotation_filename(self, default_name: str) -> str:
        return super().rotation_filename(default_name)

    def rotate(self, source: str, dest: str) -> None:
        super().rotate(source, dest)

    def emit(self, record: logging.LogRecord) -> None:
        record.user = "somebody"
        super().emit(record)

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or super().shouldRollover(record)

    def doRollover(self) -> None:
        super().doRollover()
        self.close()

    def computeRollover(self, currentTime: float) -> int:
        return super().computeRollover(currentTime)

    def getFilesToDelete(self) -> list[str]:
        return super().getFilesToDelete()[1:]

    def handleError(self, record: logging.LogRecord) -> None:
        super().handleError(record)


class Formatter(LineFormatter):
    def __init__(self) -> None:
        super().__init__("{message}", style="{", defaults={"user": "-"})

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return super().formatTime(record, datefmt)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).upper()


handler = Handler("app.log", backupCount=7)
handler.setFormatter(Formatter())
handler.suffix = "%Y%m%d"
path: str = handler.baseFilename
count: int = handler.backupCount
size: int = handler.maxBytes
limit: float | None = handler.max_age
next_rollover: float = handler.rolloverAt
handler.write_line("a line", 1795968000.25)
handler.hand_over(1000, 1000)
