"""What the guide shows for Django, in a project as `django-admin startproject` makes it: every line counted."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.oracle import audit
from tests.support.servers import Clients, Server, backups, get, server_environment, wait_until
from tests.support.stacks import documented, everything

pytest.importorskip("django", reason="django is not installed: pip install django")

pytestmark = pytest.mark.slow

READY = "/line/ready/0/60"
ROLLOVERS = 3

URLS = """
import logging
import os

from django.http import HttpResponse
from django.urls import path

from tests.support.oracle import make_line

logger = logging.getLogger("shop.views")


def line(request, stream, number, size):
    logger.info(make_line(stream, number, size))
    return HttpResponse(str(os.getpid()))


def boom(request):
    raise ZeroDivisionError("first\\nsecond")


urlpatterns = [path("line/<stream>/<int:number>/<int:size>", line), path("boom", boom)]
"""
COMMAND = """
import logging

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    def handle(self, *args, **options):
        logging.getLogger("shop.jobs").warning("cleaned up")
"""

TEXT = re.compile(
    rb"(?P<created>[\d-]+ [\d:]+,\d{3}) \[\d+\] \[INFO\] shop.views: (?P<stream>\w+) (?P<number>\d+) \d{5,7} .*"
)
JSON = re.compile(
    rb'\{"asctime": "(?P<created>[^"]+)", "process": \d+, "levelname": "INFO", "name": "shop.views", '
    rb'"message": "(?P<stream>\w+) (?P<number>\d+) \d{5,7} \w*[^"]*"\}'
)
OTHER_TEXT = re.compile(rb".* (django.request|shop.jobs): .*")
OTHER_JSON = re.compile(rb'.*"name": "(django.request|shop.jobs)".*')


def seconds_of(text: bytes) -> float:
    """The time of a line, which is in UTC as the project."""
    moment = datetime.datetime.fromisoformat(text.decode().replace(",", "."))
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def suffix_in_utc(created: float) -> str:
    """The backup suffix of when="S" in the zone of the project."""
    return datetime.datetime.fromtimestamp(created, datetime.timezone.utc).strftime("%Y-%m-%d_%H-%M-%S")


def manage(project: Path, *arguments: str) -> str:
    """Run `manage.py`; what it printed."""
    return run(project, sys.executable, "manage.py", *arguments)


def run(directory: Path, *command: str) -> str:
    """Run a command that must succeed; what it printed."""
    ran = subprocess.run(
        command, cwd=directory, env=server_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def start_project(directory: Path, *snippets: str) -> Path:
    """A new project `shop` with the snippets at the end of its settings, in the state in which it goes live."""
    run(directory, sys.executable, "-m", "django", "startproject", "shop")
    project = directory / "shop"
    settings = project / "shop" / "settings.py"
    text = settings.read_text(encoding="utf-8")
    text = text.replace("DEBUG = True", "DEBUG = False").replace("ALLOWED_HOSTS = []", 'ALLOWED_HOSTS = ["*"]')
    settings.write_text("\n\n".join([text, *snippets]), encoding="utf-8")
    (project / "shop" / "urls.py").write_text(URLS, encoding="utf-8")
    commands = project / "jobs" / "management" / "commands"
    commands.mkdir(parents=True)
    (commands / "cleanup.py").write_text(COMMAND, encoding="utf-8")
    with settings.open("a", encoding="utf-8") as file:
        file.write('\nINSTALLED_APPS += ["jobs"]\n')
    return project


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_new_project_on_gunicorn_as_documented(kind: str, tmp_path: Path) -> None:
    snippets = [documented("django.md", "python settings.py")]
    if kind == "json":
        snippets.append(documented("django.md", "python json settings.py"))
    project = start_project(tmp_path, *snippets, 'LOGGING["handlers"]["file"] |= {"when": "S", "backupCount": 0}')
    assert "no issues" in manage(project, "check")
    config = documented("django.md", "python gunicorn.conf.py")
    live = project / "logs" / "app.log"
    server = Server(project, config, app="shop.wsgi", ready=READY)
    with server, Clients(server) as clients:
        wait_until(lambda: len(backups(live)) >= ROLLOVERS, f"{ROLLOVERS} rollovers")
        manage(project, "cleanup")
        with closing(server.connect()) as connection:
            status, _ = get(connection, "/boom")

    pattern, others = (TEXT, OTHER_TEXT) if kind == "text" else (JSON, OTHER_JSON)
    report = audit(live, clients.acknowledged, suffix_in_utc, pattern=pattern, moment=seconds_of, notices=others)
    lines = everything(live).splitlines()
    assert clients.refused == []
    assert report.flawless, report
    assert status == 500
    (boom,) = (line for line in lines if "Internal Server Error: /boom" in line)
    (job,) = (line for line in lines if "cleaned up" in line)
    if kind == "text":
        assert re.search(r" \[ERROR\] django.request: .*\\nTraceback.*first\\nsecond$", boom)
        assert re.search(r" \[WARNING\] shop.jobs: cleaned up$", job)
    else:
        assert json.loads(boom)["exc_info"].endswith("ZeroDivisionError: first\nsecond")
        assert json.loads(boom)["status_code"] == 500
        assert json.loads(job)["levelname"] == "WARNING"
    assert server.output == ""
