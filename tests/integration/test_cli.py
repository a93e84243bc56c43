"""The command as a whole: its help, its errors, its reference page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rollsafe import cli
from tests.support.commands import ROOT, run
from tests.support.logs import write_log

REFERENCE = ROOT / "docs" / "reference" / "commands.md"
COMMANDS = sorted(cli.rollsafe.commands.items())


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_command_and_option_has_help(name: str, command: click.Command) -> None:
    assert command.help
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("columns", ["80", "100"])
def test_the_list_of_commands_says_each_in_full(columns: str) -> None:
    ran = CliRunner().invoke(cli.rollsafe, ["--help"], terminal_width=int(columns))
    assert "..." not in ran.output.partition("Commands:")[2]
    assert ran.exit_code == 0


def test_what_the_system_refuses_is_said_with_path_cause_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "app.log.2026-11-25").write_text("2026-11-25 10:00:00,000 hello\n")
    page = tmp_path / "none" / "page.html"
    ran = run("verify", "--html", str(page), str(tmp_path))
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert f"rollsafe: {str(page)!r}: No such file or directory; " in ran.stderr
    assert "or its directory does not exist" in ran.stderr


def test_the_reference_page_has_the_help_that_is_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cogapp", "--check", "--diff", str(REFERENCE)]
    ran = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True)
    assert ran.returncode == 0, f"run `make docs`\n{ran.stdout}{ran.stderr}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["nonsense"], "No such command 'nonsense'"),
        (["completion", "bash", "--nonsense"], "No such option"),
        (["completion"], "Missing argument"),
        (["prune", "--max-agee", "1 day", "."], "Did you mean "),
        (["cat", "--since", "2026-01-02 11:00", "--until", "2026-01-02 10:00", "."], "11:00:00 is not before --until "),
        (["tail", "-f", "--until", "10:00", "."], "--follow and --until exclude each other"),
    ],
)
def test_what_is_asked_wrongly_ends_with_one_sentence_and_exit_code_2(arguments: list[str], words: str) -> None:
    ran = run(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("rollsafe: ")
    assert ran.stderr.count("\n") == 1
    assert words in ran.stderr


@pytest.mark.parametrize(
    "option", ["--max-age", "--max_age", "--maxAge", "--MAX-AGE", "--backup-count", "--backup_count", "--backupCount"]
)
def test_every_option_may_be_spelt_either_way(option: str, tmp_path: Path) -> None:
    # Of two days: one has ended longer ago than that, whatever the hour is.
    write_log(tmp_path / "app.log", range(-48, 1, 24))
    value = "30 hours" if "age" in option.lower() else "1"
    ran = run("prune", "--dry_run", option, value, str(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1 backup, " in ran.stdout


def test_one_letter_means_another_option_in_the_other_case(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("line\n")
    assert run("cat", "-H", "app.log", directory=tmp_path).stdout == "app.log: line\n"
    assert run("cat", "-h", "app.log", directory=tmp_path).stdout.startswith("Usage: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    ran = run("completion", shell)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"_ROLLSAFE_COMPLETE={shell}_complete" in ran.stdout


def test_verify_writes_the_page_of_its_report(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("2027-01-15 12:00:00,000 hello\n")
    ran = run("verify", "app.log", "--html", "report.html", directory=tmp_path)
    assert ran.returncode in (0, 1), ran.stderr
    assert "<h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")
