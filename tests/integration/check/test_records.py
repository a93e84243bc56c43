"""`rollsafe check` hands each handler a record, and finds the handlers that cannot write it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from rollsafe.tools.findings import ERROR, WARNING
from tests.support.findings import PRESET, bad, of_config

TRACED = PRESET.replace("backupCount=7", "backupCount=7, format='%(otelTraceID)s %(message)s'")


def test_a_format_with_a_field_that_records_lack_is_found_for_each_handler_that_has_it() -> None:
    found = bad(of_config(TRACED))
    assert [(each.level, each.about, os.path.basename(each.where)) for each in found] == [
        (WARNING, "records", "error.log"),
        (WARNING, "records", "app.log"),
    ]
    assert all("'otelTraceID'" in each.what and "defaults" in each.remedy for each in found)
    assert not any(file.stat().st_size for file in Path("logs").iterdir())


def test_nothing_of_the_handlers_that_took_a_record_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert bad(of_config(PRESET.replace("backupCount=7", "backupCount=7, compress='gz', max_age='9 days'"))) == []
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize(
    "cure",
    [
        "logconfig_dict['formatters']['app']['defaults'] = logconfig_dict['formatters']['error']['defaults']"
        " = {'otelTraceID': '-'}\n",
        "logconfig_dict['filters']['trace'] = {'()': 'tracing.Filter'}\n"
        "for name in ('app', 'error'): logconfig_dict['handlers'][name]['filters'] = ['trace']\n",
        "wsgi_app = 'tracing:app'\n",
    ],
    ids=["defaults", "filter", "record factory of the application"],
)
def test_a_field_that_something_fills_is_no_fault(cure: str, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tracing.py").write_text("""
import logging
class Filter(logging.Filter):
    def filter(self, record):
        record.otelTraceID = "4bf9"
        return True
make = logging.getLogRecordFactory()
def traced(*args, **kwargs):
    record = make(*args, **kwargs)
    record.otelTraceID = "4bf9"
    return record
logging.setLogRecordFactory(traced)
def app(environ, start_response): ...
""")
    found = of_config("import os, sys\nsys.path.insert(0, os.path.abspath('lib'))\n" + TRACED + cure)
    assert bad(found) == []
    assert [each.what for each in found if each.about == "records"] == ["each of 3 handlers took a record"]


def test_a_filter_of_the_root_logger_does_not_help_records_of_other_loggers() -> None:
    text = TRACED.replace("backupCount=7", "backupCount=7, error=None, access=None") + (
        "import logging\nclass Filter(logging.Filter):\n"
        "    def filter(self, record):\n        record.otelTraceID = '4bf9'\n        return True\n"
        "logconfig_dict['filters']['trace'] = {'()': Filter}\n"
        "logconfig_dict['root']['filters'] = ['trace']\n"
    )
    assert {(each.level, os.path.basename(each.where)) for each in bad(of_config(text))} == {
        (WARNING, "app.log"),
        (ERROR, "error_console"),
    }


OF_OURS = """
logconfig_dict = {{'loggers': {{}}, 'root': {{'handlers': ['file']}}, 'handlers': {{'file': {{
    'class': 'rollsafe.SafeTimedRotatingFileHandler', 'filename': 'app.log', 'backupCount': 3, {options}}}}}}}
"""


@pytest.mark.parametrize(
    ("options", "words", "remedy"),
    [
        ("'max_age': '30 dayz'", "max_age='30 dayz' is no age", "give it what its class takes"),
        ("'when': 'fortnight'", "when='fortnight'", "give it what its class takes"),
        ("'colour': 'red'", "unexpected keyword argument 'colour'", "give it what its class takes"),
        ("'formatter': 'none'", "formatter 'none'", "give it what its class takes"),
        ("'encoding': 'ascii', 'errors': 'strict'", "can't encode character", "leave errors out"),
    ],
)
def test_a_handler_that_cannot_be_made_or_would_lose_lines_is_found(options: str, words: str, remedy: str) -> None:
    found = [each for each in bad(of_config(OF_OURS.format(options=options))) if each.about == "records"]
    assert [each.level for each in found] == [ERROR], found
    assert words in found[0].what
    assert remedy in found[0].remedy


def test_a_subclass_that_formats_by_itself_is_tried_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shop_handlers.py").write_text("""
from rollsafe import SafeTimedRotatingFileHandler
class Handler(SafeTimedRotatingFileHandler):
    def format(self, record):
        return record.tenant
""")
    text = OF_OURS.format(options="").replace("rollsafe.SafeTimedRotatingFileHandler", "shop_handlers.Handler")
    found = [each for each in bad(of_config(f"import sys; sys.path.insert(0, '.')\n{text}")) if each.about == "records"]
    assert [each.level for each in found] == [ERROR]
    assert "no attribute 'tenant'" in found[0].what
