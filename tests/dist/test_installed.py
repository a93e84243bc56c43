"""A user has the wheel and nothing else: no source tree, no directory that Python finds modules in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.environments import Environment
from tests.support.servers import ROOT, Server, wait_until
from tests.support.snippets import Snippet, snippets_in

pytestmark = pytest.mark.dist

WHERE = "import rollsafe; print(rollsafe.__file__)"
SHOP = """
import logging
import rollsafe

logging.getLogger(__name__).info("hello from %s", rollsafe.__file__)

def app(environ, start_response):
    start_response("200 OK", [])
    return [rollsafe.__file__.encode()]
"""


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, and no other package."""
    environment = Environment(tmp_path_factory.mktemp("alone") / "venv")
    environment.install("--no-index", wheel)
    return environment


@pytest.fixture(scope="module")
def with_cli(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and its extra `cli`."""
    environment = Environment(tmp_path_factory.mktemp("cli") / "venv")
    environment.install(f"{wheel}[cli]")
    return environment


@pytest.fixture(scope="module")
def with_gunicorn(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, its extra `gunicorn`, and what the demonstration needs besides."""
    environment = Environment(tmp_path_factory.mktemp("gunicorn") / "venv")
    environment.install(f"{wheel}[gunicorn]", "--group", f"{ROOT / 'pyproject.toml'}:demo")
    return environment


def quick_start() -> list[Snippet]:
    """The Python of the README."""
    snippets = snippets_in((ROOT / "README.md").read_text(encoding="utf-8"), "README.md")
    return [snippet for snippet in snippets if snippet.is_python]


def test_the_package_comes_from_the_wheel_and_needs_no_other(alone: Environment, tmp_path: Path) -> None:
    assert Path(alone.run("-c", WHERE, cwd=tmp_path).strip()).is_relative_to(alone.home)
    listing = "import importlib.metadata as m; print(*{d.name for d in m.distributions()})"
    assert alone.run("-c", listing, cwd=tmp_path).split() == ["rollsafe"]


def test_the_readmes_code_runs(alone: Environment, tmp_path: Path) -> None:
    (snippet,) = (each for each in quick_start() if each.info == "python")
    (tmp_path / "program.py").write_text(snippet.code, encoding="utf-8")
    assert alone.run("program.py", cwd=tmp_path) == ""
    assert (tmp_path / "app.log").read_text(encoding="utf-8").count("\n") == 1


def test_the_readmes_configuration_serves_and_logs(with_gunicorn: Environment, tmp_path: Path) -> None:
    (snippet,) = (each for each in quick_start() if each.info == "python gunicorn.conf.py")
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    python, no_path = with_gunicorn.python, {"PYTHONPATH": ""}
    with Server(tmp_path, snippet.code, app="shop:app", ready="/", python=python, environment=no_path) as server:
        module = server.get("/orders/17")
    assert Path(module).is_relative_to(with_gunicorn.home)
    assert f"hello from {module}" in (tmp_path / "logs" / "app.log").read_text(encoding="utf-8")
    assert '"GET /orders/17 HTTP/1.1" 200' in (tmp_path / "logs" / "access.log").read_text(encoding="utf-8")


def test_the_demonstration_of_the_sdist_runs_on_the_wheel(with_gunicorn: Environment, unpacked: Path) -> None:
    # Without this folder, the package can come from nowhere but the wheel.
    shutil.rmtree(unpacked / "src")
    assert Path(with_gunicorn.run("-c", WHERE, cwd=unpacked).strip()).is_relative_to(with_gunicorn.home)
    report = with_gunicorn.run("-m", "example_app.demo", "--seconds", "6", cwd=unpacked)
    assert "rollsafe: every line is there, whole, once, in the file of its own second" in " ".join(report.split())


@pytest.mark.parametrize("arguments", [(), ("--help",), ("status", "logs"), ("write", "logs/app.log")])
def test_the_command_says_what_it_lacks(alone: Environment, arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = alone.command("rollsafe", *arguments, cwd=tmp_path)
    assert ran.returncode == 1
    assert "pip install 'rollsafe[cli]'" in ran.stdout
    assert "Traceback" not in ran.stdout


def test_the_command_runs_with_its_extra(with_cli: Environment, alone: Environment, tmp_path: Path) -> None:
    assert "verify" in with_cli.run("-m", "rollsafe", "--help", cwd=tmp_path)
    (tmp_path / "app.log").touch()
    # The page is made from a template, which is no module.
    ran = with_cli.command("rollsafe", "verify", "app.log", "--html", "page.html", cwd=tmp_path)
    assert "Traceback" not in ran.stdout
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")
