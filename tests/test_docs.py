"""Every snippet in README.md, CONTRIBUTING.md and docs/ does what it shows: it is run, in a directory of its own.

- ``python``: executed by the interpreter that runs the tests.
- ``python gunicorn.conf.py``: given to ``gunicorn --check-config``.
- ``console`` and ``sh``: not run; every make target they name must exist.

A Python snippet is left out only by ``<!-- not run: reason -->`` on the line before it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.snippets import Snippet, snippets_in

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TIME_LIMIT = 60

WSGI_APP = """\
def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


def run(snippet: Snippet, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python snippet in `directory`."""
    if snippet.info == "python gunicorn.conf.py":
        (directory / "gunicorn.conf.py").write_text(snippet.code, encoding="utf-8")
        (directory / "app.py").write_text(WSGI_APP)
        command = ["-m", "gunicorn", "--check-config", "--config", "gunicorn.conf.py", "app:app"]
    else:
        (directory / "snippet.py").write_text(snippet.code, encoding="utf-8")
        command = ["snippet.py"]
    environment = {key: value for key, value in os.environ.items() if key != "GUNICORN_CMD_ARGS"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    return subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )


def make_targets_in(code: str) -> set[str]:
    """The targets of every make command in a block of shell."""
    targets = set()
    for line in code.splitlines():
        for arguments in re.findall(r"(?:^|[\s;&|])make((?: +[^\s;&|#]+)*)", line.partition("#")[0]):
            targets |= {word for word in arguments.split() if "=" not in word and not word.startswith("-")}
    return targets


def makefile_targets() -> set[str]:
    """The targets that the Makefile declares phony: those that are commands."""
    declared = re.findall(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return set(" ".join(declared).split())


SNIPPETS = [
    snippet for page in PAGES if page.exists() for snippet in snippets_in(page.read_text(encoding="utf-8"), page.name)
]


def by_place(snippet: Snippet) -> str:
    """The test id of a snippet."""
    return snippet.place


def test_the_readme_shows_python() -> None:
    readme = snippets_in((ROOT / "README.md").read_text(encoding="utf-8"), "README.md")
    assert any(snippet.is_python and snippet.not_run is None for snippet in readme)


@pytest.mark.parametrize("snippet", [each for each in SNIPPETS if each.is_python], ids=by_place)
def test_python_snippet_runs(snippet: Snippet, tmp_path: Path) -> None:
    if snippet.not_run is not None:
        assert snippet.not_run, f"{snippet.place}: give the reason: <!-- not run: reason -->"
        pytest.skip(f"{snippet.place}: {snippet.not_run}")
    ran = run(snippet, tmp_path)
    assert ran.returncode == 0, f"{snippet.place}\n{ran.stdout}"


@pytest.mark.parametrize("snippet", [each for each in SNIPPETS if each.is_shell], ids=by_place)
def test_shell_snippet_names_only_make_targets_that_exist(snippet: Snippet) -> None:
    assert make_targets_in(snippet.code) <= makefile_targets()


def test_every_test_that_a_page_names_exists() -> None:
    tests = set()
    for path in (ROOT / "tests").rglob("*.py"):
        tests |= set(re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    assert named
    assert sorted(named - tests) == []


PAGE = """\
# Title

```python
x = 1
```

- item
  ~~~python gunicorn.conf.py
  workers = 4
  ~~~

<!-- not run: needs two machines -->
```python
boom
```

<!-- not run: -->
```py
boom
```

```console
$ make demo  # make coffee
$ cd x && make test PYTHON=python3.10 -j2; make clean
```
"""


def test_snippets_are_found_with_place_language_code_and_reason() -> None:
    assert snippets_in(PAGE, "page.md") == [
        Snippet("page.md:3", "python", "x = 1\n"),
        Snippet("page.md:8", "python gunicorn.conf.py", "workers = 4\n"),
        Snippet("page.md:13", "python", "boom\n", "needs two machines"),
        Snippet("page.md:18", "py", "boom\n", ""),
        Snippet(
            "page.md:22",
            "console",
            "$ make demo  # make coffee\n$ cd x && make test PYTHON=python3.10 -j2; make clean\n",
        ),
    ]


def test_make_targets_are_read_from_commands_and_not_from_comments() -> None:
    assert make_targets_in(snippets_in(PAGE, "page.md")[-1].code) == {"demo", "test", "clean"}


@pytest.mark.parametrize(
    ("info", "code"),
    [("python", "import rollsafe_of_another_name"), ("python gunicorn.conf.py", "workers = 'many'")],
)
def test_a_snippet_that_fails_is_noticed(info: str, code: str, tmp_path: Path) -> None:
    assert run(Snippet("here", info, code), tmp_path).returncode != 0


@pytest.mark.parametrize(("info", "code"), [("python", "print(1)"), ("python gunicorn.conf.py", "workers = 4")])
def test_a_snippet_that_works_passes(info: str, code: str, tmp_path: Path) -> None:
    ran = run(Snippet("here", info, code), tmp_path)
    assert ran.returncode == 0, ran.stdout
