"""The same sources give the same bytes: anywhere, at any time, with any umask, and without a network."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.environments import Environment, run, run_well
from tests.support.lowest import lower_bound, pyproject
from tests.support.servers import ROOT

pytestmark = pytest.mark.dist

NEVER = 1_000_000_000
"""A time at which none of these files was written."""


def digests(*files: Path) -> dict[str, str]:
    """The SHA-256 of files, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def build(source: Path, target: Path, *, umask: int = 0o022, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Build wheel and sdist of `source`; the SHA-256 of both."""
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", target)
    run_well(*command, cwd=source, environment=environment, umask=umask)
    return digests(*target.iterdir())


def without_network() -> tuple[str, ...]:
    """What to put before a command that shall reach no network; nothing where the kernel refuses."""
    for prefix in (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net")):
        try:
            if run(*prefix, "true", cwd=Path("/")).returncode == 0:
                return prefix
        except FileNotFoundError:
            break
    print("the network stays reachable: unshare --net was refused; --no-index alone keeps pip from it")
    return ()


def test_another_directory_another_time_another_umask_and_another_language_give_the_same_bytes(
    wheel: Path, sdist: Path, unpacked: Path, tmp_path: Path
) -> None:
    for path in (unpacked, *unpacked.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (NEVER, NEVER))
    elsewhere = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "1", "HOME": str(tmp_path)}
    built = build(unpacked, tmp_path / "built", umask=0o077, environment=elsewhere)
    assert built == digests(wheel, sdist)


def test_the_time_of_the_files_is_the_one_that_source_date_epoch_gives(
    wheel: Path, unpacked: Path, tmp_path: Path
) -> None:
    dated = {"SOURCE_DATE_EPOCH": "1700000000"}
    first = build(unpacked, tmp_path / "first", environment=dated)
    second = build(unpacked, tmp_path / "second", umask=0o077, environment=dated)
    assert first == second
    assert first[wheel.name] != digests(wheel)[wheel.name]


def test_the_sdist_makes_the_same_wheel_without_a_network(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-build-isolation", "--no-deps")
    run_well(*without_network(), *pip, "--wheel-dir", tmp_path / "built", sdist, cwd=tmp_path)
    assert digests(tmp_path / "built" / wheel.name) == digests(wheel)


def test_a_build_differs_if_a_file_does(wheel: Path, unpacked: Path, tmp_path: Path) -> None:
    module = unpacked / "src" / "rollsafe" / "errors.py"
    module.write_text(module.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert build(unpacked, tmp_path / "built")[wheel.name] != digests(wheel)[wheel.name]


def test_the_lowest_versions_of_the_build_system_build_the_same_files(wheel: Path, tmp_path: Path) -> None:
    lowest = [f"{each.name}=={lower_bound(each)}" for each in map(Requirement, pyproject()["build-system"]["requires"])]
    environment = Environment(tmp_path / "venv")
    environment.install("build", *lowest)
    environment.run("-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "built", ROOT, cwd=tmp_path)
    with zipfile.ZipFile(wheel) as newest, zipfile.ZipFile(tmp_path / "built" / wheel.name) as oldest:
        assert oldest.namelist() == newest.namelist()
        # The metadata names the version of its format, and the wheel its builder.
        own = [name for name in newest.namelist() if not name.endswith(("/METADATA", "/WHEEL", "/RECORD"))]
        assert [name for name in own if oldest.read(name) != newest.read(name)] == []
