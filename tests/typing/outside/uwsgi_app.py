"""An application under uWSGI, with request ids."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.wsgi import get_wsgi_application

from rollsafe.request_ids import WSGIMiddleware, request_id
from rollsafe.uwsgi import install, set_up_logs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

is_uwsgi: bool = install()
has_files: bool = set_up_logs("logs", when="h", backupCount=48, error=None, json=True)


def shop(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    logging.getLogger(__name__).info("request %s", request_id())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


application: WSGIApplication = WSGIMiddleware(shop, header="X-Request-ID")
django: WSGIApplication = WSGIMiddleware(get_wsgi_application())
