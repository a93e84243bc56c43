"""What is public changes on purpose only, and the changelog and `docs/reference/public.md` say it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import pytest

from rollsafe import cli
from rollsafe._settings import Settings
from rollsafe._values import Value, fields
from rollsafe.tools import findings, status, verify
from tests.support import public
from tests.support.public import Facts, changes, missing_in

WRITE = "python -m tests.support.public"
PAGE = public.PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def facts() -> Facts:
    """The present list."""
    return public.facts()


def section_of(heading: str) -> str:
    """A section of the page, without those below it."""
    return PAGE.partition(f"\n{heading}\n")[2].partition("\n#")[0]


def names_in(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def rows_of(heading: str) -> dict[str, list[str]]:
    """The rows of the table of a section: first cell -> the names in the others."""
    rows = (line.strip("| ").partition(" | ") for line in section_of(heading).splitlines() if line.startswith("| "))
    return {first: names_in(others) for first, _, others in rows if names_in(others)}


def fields_of(kind: Any) -> Iterable[Any]:
    """The fields of a class whose objects the command prints."""
    return fields(kind) if issubclass(kind, Value) else dataclasses.fields(kind)


def test_the_list_of_public_names_is_up_to_date(facts: Facts) -> None:
    listed = public.listed_in(public.PRESENT)
    changed = "".join(f"\n- {path}: {listed.get(path)} -> {facts.get(path)}" for path in changes(listed, facts))
    assert listed == facts, (
        f"something public has changed:{changed}\nIf that is meant: `{WRITE}` writes the list, docs/reference/ has to"
        " say it, and CHANGELOG.md too, unless it came after the last release"
    )


def test_the_changelog_names_each_public_change_since_the_last_release(facts: Facts) -> None:
    released = public.listed_in(public.RELEASED)
    missing = missing_in(public.unreleased(public.changelog()), changes(released, facts))
    lines = "".join(
        f"\n- {path}: {released.get(path)} -> {facts.get(path)}; the words {', '.join(f'`{word}`' for word in words)}"
        for path, words in missing.items()
    )
    assert not missing, (
        "say in CHANGELOG.md, in the section of the version that is not released yet, what has changed; each needs an"
        f" entry with these words between backticks:{lines}"
    )


def test_the_released_list_is_that_of_the_newest_version_with_a_date() -> None:
    first = public.RELEASED.read_text(encoding="utf-8").partition("\n")[0]
    version = public.last_release(public.changelog())
    assert first == (f"# {version}" if version else "# No version was released yet."), (
        f"CHANGELOG.md has a date for {version}: when that is released, `{WRITE} --released` makes its list the one"
        " that later changes are compared with"
    )


@pytest.mark.parametrize(
    ("heading", "is_released"),
    [
        ("## [0.1.0] - unreleased", False),
        ("## [Unreleased]", False),
        ("## [0.1.0] - 2026-12-01", True),
        ("## [0.2.0rc1] - 2026-12-01", True),
        ("## [0.1.1] - 2026-12-02 [YANKED]", True),
    ],
)
def test_a_version_with_a_date_is_released(heading: str, is_released: bool) -> None:
    section = f"{heading}\n\n- `name`\n"
    version = heading.partition("[")[2].partition("]")[0]
    assert public.last_release(section) == (version if is_released else "")
    assert public.unreleased(f"# Changelog\n\n{section}") == ("" if is_released else section)


LIST: Facts = {
    "rollsafe.FileLock": "class",
    "rollsafe.FileLock / parameter path": "1, str",
    "rollsafe.FileLock / acquire": "method",
    "rollsafe.FileLock / acquire / parameter timeout": "1, float",
    "rollsafe cat": "command",
    "rollsafe cat / --since": "text",
    "rollsafe cat / exit code 1": "something could not be read",
    "rollsafe status / --json / files / name": "string",
}


@pytest.mark.parametrize(
    ("gone", "come", "entry"),
    [
        ([], {"rollsafe.schedule.Interval": "class"}, "`Interval` is new"),
        (["rollsafe.FileLock / parameter path"], {}, "`FileLock` has no `path`"),
        (["rollsafe.FileLock / acquire / parameter timeout"], {}, "`FileLock.acquire(timeout)` is gone"),
        ([], {"rollsafe.FileLock / parameter path": "1, str | None"}, "`FileLock` takes None as `path`"),
        ([], {"rollsafe cat / --until": "text"}, "`cat --until`"),
        (["rollsafe cat / exit code 1"], {}, "`cat` has no exit code `1`"),
        (["rollsafe status / --json / files / name"], {}, "`status --json`: its `files` have no `name`"),
        (
            ["rollsafe.FileLock", "rollsafe.FileLock / parameter path", "rollsafe.FileLock / acquire"],
            {},
            "`rollsafe.FileLock` is gone",
        ),
    ],
)
def test_a_change_needs_an_entry_that_names_it_and_its_owner(gone: list[str], come: Facts, entry: str) -> None:
    now = {path: value for path, value in LIST.items() if path not in gone} | come
    changed = changes(LIST, now)
    assert changed
    assert missing_in("", changed).keys() == set(changed)
    assert missing_in(f"### Changed\n\n- Other things.\n- {entry}.\n", changed) == {}
    for word in names_in(entry):
        if any(word in words for words in missing_in("", changed).values()):
            assert missing_in(f"- {entry}\n".replace(word, "else"), changed), word


def test_words_of_two_entries_are_no_entry() -> None:
    changed = changes(LIST, LIST | {"rollsafe cat / --until": "text"})
    assert (
        missing_in("- `check --json`: its `files` have no `name`.", ["rollsafe status / --json / files / name"]) != {}
    )
    assert missing_in("- `cat` is faster.\n- `tail` has `--until`.\n", changed) != {}
    assert missing_in("- The command:\n  - `cat` has `--until`.\n", changed) == {}


def test_what_comes_with_its_owner_needs_no_word_of_its_own() -> None:
    assert changes({}, LIST) == ["rollsafe cat", "rollsafe status / --json / files / name", "rollsafe.FileLock"]


# The page.


def test_the_page_has_each_name_at_the_module_to_import_it_from() -> None:
    rows = rows_of("## Modules and names")
    listed = [f"{module.strip('`')}.{name}" for module, names in rows.items() for name in names]
    assert sorted(listed) == public.public_names()


def test_the_page_has_the_extras_and_the_keys_of_the_preset(facts: Facts) -> None:
    (sentence,) = re.findall(r"^The extras of .* are (.*)$", PAGE, re.MULTILINE)
    assert sorted(names_in(sentence)) == sorted(path.split()[1] for path in facts if path.startswith("extra "))
    (preset,) = re.findall(r"^- \*\*The dict of `rotating_logs`\.\*\* (.*)$", PAGE, re.MULTILINE)
    keys = {
        path.rpartition(" / key ")[2]
        for path in facts
        if re.search(r"set_up_logs|rotating_logs", path) and " / key " in path
    }
    assert keys == set(names_in(preset)) - {"set_up_logs"}


def test_the_page_has_each_field_and_counter(facts: Facts) -> None:
    kept = [path.rpartition(" / ") for path in facts if re.search(r" / (field|counter|environ) \S+$", path)]
    owners: dict[str, set[str]] = {}
    for owner, _, name in kept:
        owners.setdefault(owner, set()).add(name.partition(" ")[2])
    flask, plain = (owners.pop(f"rollsafe.{module}.RequestFields") for module in ("flask", "request_ids"))
    expected = [plain, flask - plain, *owners.values()]
    listed = [set(names) for names in rows_of("## Fields and counters").values()]
    assert sorted(map(sorted, listed)) == sorted(map(sorted, expected))
    assert plain < flask


def test_the_page_has_the_exit_codes_of_each_command() -> None:
    codes = public.exit_codes()
    assert codes.keys() == cli.rollsafe.commands.keys()
    assert {0, 2} <= set.intersection(*({*each} for each in codes.values()))


def test_the_page_shows_each_schema() -> None:
    shown = re.findall(r"^### `rollsafe (\w+) --json`\n\n```{literalinclude} \S+/schemas/\1\.schema\.json$", PAGE, re.M)
    assert sorted(shown) == sorted(public.schemas())
    with_json = [name for name, each in cli.rollsafe.commands.items() if any("--json" in of.opts for of in each.params)]
    assert sorted(shown) == sorted(with_json)


# The schemas.


def objects_in(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The objects of a schema that list their keys, by their own key; that of the whole output is ""."""
    found = {}
    schema = schema.get("items", schema)
    if "properties" in schema:
        found[""] = schema
        for key, value in schema["properties"].items():
            found |= {f"{key}.{inner}".rstrip("."): each for inner, each in objects_in(value).items()}
    return found


def test_a_schema_has_exactly_the_keys_of_the_output_and_explains_each() -> None:
    of: dict[tuple[str, str], Any] = {
        ("check", ""): findings.Finding,
        ("status", ""): status.Status,
        ("status", "files"): status.FileStatus,
        ("status", "processes"): status.Process,
        ("status", "rollover_lock"): status.Lock,
        ("status", "maintenance_lock"): status.Lock,
        ("status", "settings"): Settings,
        ("verify", ""): verify.Report,
        ("verify", "files"): verify.FileReport,
        ("verify", "streams"): verify.StreamReport,
        ("verify", "findings"): verify.Finding,
    }
    computed = {("status", ""): {"size"}, ("verify", ""): {"clean", "lines", "stamped"}}
    described = {
        (command, key): each for command, schema in public.schemas().items() for key, each in objects_in(schema).items()
    }
    assert described.keys() - of.keys() == {("status", "backlog")}
    for key, kind in of.items():
        names = {each.name for each in fields_of(kind)} | computed.get(key, set())
        assert described[key]["properties"].keys() == names, (
            f"`rollsafe {key[0]} --json` has other keys than its schema in src/rollsafe/schemas; if that is meant,"
            f" change the schema, and write the list by `{WRITE}`"
        )
    for key, each in described.items():
        assert each["required"] == list(each["properties"]), key
        assert all(value["description"] for value in each["properties"].values()), key


def test_the_schemas_have_the_levels_and_kinds_that_there_are() -> None:
    schemas = public.schemas()
    assert schemas["check"]["items"]["properties"]["level"]["enum"] == list(findings.LEVELS)
    report = objects_in(schemas["verify"])
    assert report["findings"]["properties"]["kind"]["enum"] == list(verify.KINDS)
    for counts in (report[""]["properties"]["found"], report["files"]["properties"]["found"]):
        assert counts["propertyNames"]["enum"] == list(verify.KINDS)
