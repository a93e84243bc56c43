"""The lowest versions that the extras allow, as constraints for pip: `python -m tests.support.lowest`.

`make lowest` installs them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.servers import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    # pytest brings it along there.
    import tomli as tomllib

# Of the same time: Flask 2.3 allows any later one, but its test client asks for what Werkzeug 3 warns of and 3.1 lacks.
COMPANIONS = ("werkzeug<3",)
# uWSGI in wheels, as `uwsgi` needs a compiler. The oldest have none for Python 3.12 and newer.
IN_WHEELS = {"uwsgi": "pyuwsgi"}


def pyproject() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements_of_extras() -> Iterator[Requirement]:
    """What the extras name, but for other extras of ours."""
    for lines in pyproject()["project"]["optional-dependencies"].values():
        requirements = map(Requirement, lines)
        yield from (each for each in requirements if canonicalize_name(each.name) != "rollsafe")


def lower_bound(requirement: Requirement) -> str:
    """The lowest version that a requirement allows.

    Raises:
        ValueError: It names none, or several.
    """
    (bound,) = (each.version for each in requirement.specifier if each.operator == ">=")
    return bound


def main() -> None:
    """Print a constraint for each package."""
    found = {IN_WHEELS.get(each.name, each.name): lower_bound(each) for each in requirements_of_extras()}
    if sys.version_info >= (3, 12):
        del found["pyuwsgi"]
    print(*COMPANIONS, *(f"{name}=={version}" for name, version in sorted(found.items())), sep="\n")


if __name__ == "__main__":
    main()
