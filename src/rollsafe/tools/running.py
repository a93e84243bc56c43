"""How each command runs: the spelling of its options, its errors as one sentence, and its exit code."""

from __future__ import annotations

import errno
import functools
import sys
from typing import Final

import click

from rollsafe.errors import ConfigurationError
from rollsafe.tools.output import OutputClosedError, open_standard_streams
from rollsafe.tools.words import printable

USAGE_ERROR: Final = 2
"""The exit code of a command that could not do what it was asked for."""
HELP_OPTIONS: Final = ["-h", "--help"]


def run_command(command: click.Command, arguments: list[str] | None, name: str) -> None:
    """Run a command and exit; a failure ends with one sentence on standard error and exit code 2."""
    open_standard_streams()
    try:
        code = command.main(arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = USAGE_ERROR
    except click.ClickException as error:
        code = _refused(error.format_message())
    except click.Abort:
        code = _refused("interrupted")
    except OutputClosedError:
        code = 0
    except (ConfigurationError, OSError) as error:
        code = _refused(sentence_of(error))
    sys.exit(code)


def sentence_of(error: Exception) -> str:
    """The text of an error; for an error of the system its path, its cause and, if it is known, the remedy."""
    if not isinstance(error, OSError) or error.errno is None or error.filename is None:
        return str(error)
    remedies = {
        errno.EACCES: "; run the command as root, or as the user who owns it",
        errno.ENOENT: "; the file was removed meanwhile, or its directory does not exist",
    }
    return f"{error.filename!r}: {error.strerror}{remedies.get(error.errno, '')}"


def spelling(command: click.Command, name: str) -> str:
    """The name of an option in any of its spellings: --max-age is --max_age, and --backup-count is --backupCount."""
    return _spellings(command).get(_bare(name), name)


@functools.cache
def _spellings(command: click.Command) -> dict[str, str]:
    """The names of the long options of a command and of its own commands, by the part that all spellings share."""
    commands = [*command.commands.values()] if isinstance(command, click.Group) else [command]
    options = (option for each in commands for parameter in each.params for option in parameter.opts)
    return {_bare(option[2:]): option[2:] for option in options if option.startswith("--")}


def _bare(name: str) -> str:
    """A name without the differences of its spellings; of one letter, either case is an option of its own."""
    return name if len(name) == 1 else name.replace("-", "").replace("_", "").lower()


def _refused(sentence: str) -> int:
    """Print why the command did nothing, and return the exit code."""
    click.echo(f"rollsafe: {printable(' '.join(sentence.split()))}", err=True)
    return USAGE_ERROR
