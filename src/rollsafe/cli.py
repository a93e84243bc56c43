"""The `rollsafe` command. Each command is a thin function: it reads the arguments, calls a tool, prints the result."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from rollsafe import __version__
from rollsafe._options import checked_age, checked_size, number_or_text
from rollsafe.errors import ConfigurationError
from rollsafe.tools.catalog import logs_at
from rollsafe.tools.checks import check_path
from rollsafe.tools.findings import LEVELS
from rollsafe.tools.prune import excess_of, limits_of, removals_by_author, remove
from rollsafe.tools.roll import roll as roll_log
from rollsafe.tools.several import logs_of_hosts
from rollsafe.tools.shipping import ENGINES, printed_configuration
from rollsafe.tools.status import Openers, status_of
from rollsafe.tools.verify import verify as verify_logs
from rollsafe.tools.words import DOUBTED_CLOCK, MISSING_PACKAGES, printable, uncertain_words

try:
    import click
    from click.shell_completion import get_completion_class

    from rollsafe.tools import screen
    from rollsafe.tools.line_commands import cat, tail
    from rollsafe.tools.output import complain, echo, standard_output
    from rollsafe.tools.page import page_of
    from rollsafe.tools.running import HELP_OPTIONS, run_command, sentence_of, spelling
    from rollsafe.tools.write_command import write
except ImportError:
    sys.exit(MISSING_PACKAGES)


def _spelled(name: str) -> str:
    """The name of an option in any of its spellings."""
    return spelling(rollsafe, name)


@click.group(
    commands=[cat, tail, write],
    context_settings={
        "help_option_names": HELP_OPTIONS,
        "max_content_width": 100,
        "token_normalize_func": _spelled,
    },
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def rollsafe() -> None:
    """Inspect and check log files that several processes write."""


@rollsafe.command(short_help="Print the script that completes commands in your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete the commands and options of rollsafe.

    For bash: rollsafe completion bash > ~/.local/share/bash-completion/completions/rollsafe
    """
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(rollsafe, {}, "rollsafe", "_ROLLSAFE_COMPLETE").source())


@rollsafe.command(short_help="Show files, sizes, the next rollover, and who has them open.")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list, an object for each log.")
def status(paths: tuple[str, ...], as_json: bool) -> None:
    """Show files, sizes, the next rollover, and who has the log open and locked.

    PATHS are log directories, or live files. The command takes no lock and changes nothing. Only root sees the
    processes of other users.
    """
    openers = Openers()
    found = [status_of(log, openers) for log in logs_at(paths)]
    if as_json:
        echo(json.dumps([each.as_dict() for each in found], indent=2) + "\n")
    else:
        with standard_output():
            screen.show_status(screen.Screen(), found, time.time())


@rollsafe.command()
@click.argument("path", type=click.Path(), default="gunicorn.conf.py")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- GUNICORN ARGUMENTS]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list, an object for each finding.")
def check(path: str, arguments: tuple[str, ...], as_json: bool) -> int:
    """Find what could go wrong, before you go live.

    PATH is a log directory, a live file, or a configuration: a gunicorn.conf.py; Django's settings (shop.settings, the
    file, manage.py or its directory); a logging configuration in a file (.json, .yaml, .toml, .ini), as for the option
    --log-config of uvicorn; or MODULE:NAME of a dictionary for dictConfig. Code is executed, in another process. Put
    the other arguments of gunicorn after two dashes: rollsafe check gunicorn.conf.py -- --user www-data shop:app

    Several processes try appends, locks, renames and permissions in a temporary directory beside the log. If root runs
    the command, they run as the user that the workers become, or as the owner of the live file. The command makes each
    handler of a configuration, gives it a record, tries each step up to the removal of a backup, and imports the
    application if it is named. It calls neither on_rollover nor another function of the application.

    The exit code is 0 if all is well, 1 if there are warnings, 2 if there are errors.
    """
    findings = check_path(path, arguments)
    if as_json:
        echo(json.dumps([each.as_dict() for each in findings], indent=2) + "\n")
    else:
        with standard_output():
            screen.show_findings(screen.Screen(), findings)
    return max(LEVELS.index(each.level) for each in findings)


@rollsafe.command(short_help="Prove that no line is missing, doubled, torn or misplaced.")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--html", type=click.Path(dir_okay=False, writable=True), help="Write a page with pictures to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(paths: tuple[str, ...], html: str | None, as_json: bool) -> int:
    """Read logs and prove that no line is missing, doubled, torn or in the file of a wrong interval.

    PATHS are log directories, live files, or single backups; a directory without a log stands for the directories in
    it, such as one for each host. The command finds missing and doubled lines by the stamps of the lines (the format
    field stamp, or stamps=True of rotating_logs). The exit code is 0 if it finds nothing, 1 if it finds something, 2 if
    it could not read the files.
    """
    failures: list[str] = []
    logs = logs_of_hosts(paths, failures.append)
    for failure in failures:
        complain(failure)
    total = sum(os.path.getsize(file.path) for log in logs for file in log.files if os.path.exists(file.path))
    with click.progressbar(length=total, label="reading", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        report = verify_logs(logs, bar.update, jobs=os.cpu_count() or 1)
    if as_json:
        echo(json.dumps(report.as_dict(), indent=2) + "\n")
    else:
        with standard_output():
            screen.show_report(screen.Screen(), report)
    if html is not None:
        with open(html, "w", encoding="utf-8") as file:
            file.write(page_of(report.as_dict(), time.time()))
    return 2 if failures else 0 if report.clean else 1


@rollsafe.command(short_help="Remove the backups that exceed the limits, and say why.")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only show what would be removed, and why.")
@click.option("--backupCount", "backup_count", type=click.IntRange(1), help="Keep this number of backups.")
@click.option("--max_age", metavar="AGE", help="Remove backups whose interval ended longer ago: '30 days'.")
@click.option("--max_total_bytes", metavar="SIZE", help="Keep the newest backups up to this size together: '2 GiB'.")
@click.option("--min_free_bytes", metavar="SIZE", help="Remove the oldest backups while less is free: '500 MB'.")
def prune(
    paths: tuple[str, ...],
    dry_run: bool,
    backup_count: int | None,
    max_age: str | None,
    max_total_bytes: str | None,
    min_free_bytes: str | None,
) -> int:
    """Remove the backups that exceed the limits, and say why.

    PATHS are log directories or live files. The limits are those that the handler has written into the lock file; an
    option replaces the limit of its name. The exit code is 1 if something could not be removed.
    """
    given: dict[str, Any] = {
        "count": backup_count,
        "max_age": checked_age(max_age),
        "max_total_bytes": checked_size(
            "max_total_bytes", max_total_bytes and number_or_text(max_total_bytes), least=1
        ),
        "min_free_bytes": checked_size("min_free_bytes", min_free_bytes and number_or_text(min_free_bytes)),
    }
    failures: list[str] = []

    def fail(sentence: str) -> None:
        failures.append(sentence)
        complain(sentence)

    logs = logs_at(paths)
    for log in logs:
        limits = limits_of(log).replace(**{name: value for name, value in given.items() if value is not None})
        try:
            if dry_run:
                gone, found = removals_by_author(log, limits)
            else:
                gone, found = remove(log, limits, fail), excess_of(log, limits)
            kept = [uncertain_words(found.uncertain)] if found.uncertain else []
            kept += [DOUBTED_CLOCK] if found.doubts_clock else []
        except (ConfigurationError, OSError) as error:
            if len(logs) == 1 or isinstance(error, BrokenPipeError):
                raise
            # The limits of the other logs of the directory are applied all the same.
            fail(sentence_of(error))
            continue
        with standard_output():
            screen.show_removals(screen.Screen(), log, limits, gone, kept, dry_run=dry_run)
    return 1 if failures else 0


@rollsafe.command(short_help="Roll over the live files whose interval is over, and finish their backups.")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--now", is_flag=True, help="Also in the middle of an interval: its next part gets a number.")
def roll(paths: tuple[str, ...], now: bool) -> int:
    """Roll over the live files whose interval is over, and finish their backups: compress them, and apply the limits.

    PATHS are log directories or live files. The command goes by the lock file, and may run beside the processes that
    log. An empty file is not rolled over. A function of the application (on_rollover, a rotator, a namer, its own
    compression) is called by the application's processes, not by the command.

    The exit code is 0 if all is done or nothing is to be done, and 1 if something could not be done.
    """
    failures: list[str] = []

    def fail(sentence: str) -> None:
        failures.append(sentence)
        complain(sentence)

    for log in logs_at(paths):
        try:
            echo(f"{printable(str(roll_log(log, fail, now=now)))}\n")
        except (ConfigurationError, OSError) as error:
            fail(sentence_of(error))
    return 1 if failures else 0


@rollsafe.command(short_help="Print a configuration for a log shipper.")
@click.argument("engine", type=click.Choice(list(ENGINES)))
@click.argument("path", type=click.Path(), default="gunicorn.conf.py")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- GUNICORN ARGUMENTS]")
@click.option("--to", metavar="URL", help="Where to send the lines. Without it, the destination is an example to edit.")
@click.option("--state", metavar="DIRECTORY", help="The directory in which the shipper stores its positions.")
@click.option(
    "--catch-up",
    is_flag=True,
    help="rsyslog only, while it is stopped: also read the backups that it has missed, by the positions in --state.",
)
def ship(engine: str, path: str, arguments: tuple[str, ...], to: str | None, state: str | None, catch_up: bool) -> None:
    """Print a configuration for a log shipper, with the logs of PATH.

    PATH is a gunicorn.conf.py, or whatever else `rollsafe check` takes: a log directory, a live file, Django's
    settings, a logging configuration. The command executes Python files, but opens no log for writing.

    The shipper then reads the live files, and also the backups if it recognises a file after its rename. It reads
    nothing that is compressed. Comments in the configuration say what is left out, and why.
    """
    echo(printed_configuration(engine, path, arguments, to=to, state=state, catch_up=catch_up))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a failure ends with one sentence on standard error and exit code 2."""
    run_command(rollsafe, arguments, "rollsafe")


def help_pages() -> str:
    """The help of every command as Markdown, for the reference page."""
    pages = []
    for name, command in [("", rollsafe), *sorted(rollsafe.commands.items())]:
        path = f"rollsafe {name}".strip()
        context = click.Context(command, info_name=path, terminal_width=100, help_option_names=HELP_OPTIONS)
        pages.append(f"\n## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(pages)


if __name__ == "__main__":
    main()
