"""The `rollsafe` command. Each command is a thin function: read the arguments, call a room, print what it returns."""

from __future__ import annotations

import json
import sys
import time

from rollsafe.catalog import logs_at
from rollsafe.errors import ConfigurationError
from rollsafe.status import Openers, status_of

try:
    import click
    from click.shell_completion import get_completion_class
    from rich.console import Console

    from rollsafe import screen
except ImportError:
    sys.exit("rollsafe: the command needs the packages click and rich; install them with: pip install 'rollsafe[cli]'")

USAGE_ERROR = 2
"""The exit code of everything that could not be done as it was asked for."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="rollsafe", message="%(prog)s %(version)s")
def rollsafe() -> None:
    """Questions about log files that several processes write, answered."""


@rollsafe.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete the commands and options of rollsafe.

    For bash: rollsafe completion bash > ~/.local/share/bash-completion/completions/rollsafe
    """
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(rollsafe, {}, "rollsafe", "_ROLLSAFE_COMPLETE").source())


@rollsafe.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list, an object for each log.")
def status(paths: tuple[str, ...], as_json: bool) -> None:
    """Show files, sizes, the next rollover, and who has the log open and locked.

    PATHS are log directories, or live files. No lock is taken, and nothing is changed. Processes of other users are
    seen by root only.
    """
    openers = Openers()
    found = [status_of(log, openers) for log in logs_at(paths)]
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in found], indent=2))
    else:
        screen.show_status(Console(highlight=False), found, time.time())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; what cannot be done ends with one sentence on standard error and exit code 2."""
    try:
        code = rollsafe.main(arguments, prog_name="rollsafe", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = USAGE_ERROR
    except click.ClickException as error:
        code = _refused(error.format_message())
    except click.Abort:
        code = _refused("interrupted")
    except (ConfigurationError, OSError) as error:
        code = _refused(str(error))
    sys.exit(code)


def help_pages() -> str:
    """The help of every command as Markdown, for the reference page."""
    pages = []
    for name, command in [("", rollsafe), *sorted(rollsafe.commands.items())]:
        path = f"rollsafe {name}".strip()
        context = click.Context(command, info_name=path, terminal_width=100)
        pages.append(f"\n## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(pages)


def _refused(sentence: str) -> int:
    """Say why something was not done."""
    click.echo(f"rollsafe: {' '.join(sentence.split())}", err=True)
    return USAGE_ERROR


if __name__ == "__main__":
    main()
