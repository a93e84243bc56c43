"""Checks of gunicorn's settings: flags without effect or in conflict, and the user that the workers become."""

from __future__ import annotations

import logging.handlers
import os
from collections.abc import Iterator

from rollsafe.tools.configs import ServerConfig
from rollsafe.tools.findings import ERROR, WARNING, Finding
from rollsafe.tools.logging_config import ConfiguredHandler
from rollsafe.tools.trials import User, user_name, user_of


def check_flags(config: ServerConfig) -> Iterator[Finding]:
    """Check that no settings of gunicorn conflict."""
    server = config.server
    yield from _replaced_outputs(config)
    if server.capture_output and server.errorlog == "-":
        yield Finding(
            WARNING,
            "flags",
            "--capture-output",
            "it does nothing without --error-logfile",
            "the output of the application goes to standard output and error, as it does without the flag",
            "give --error-logfile a file of its own without rotation, or leave --capture-output out",
        )
    if server.capture_output and server.errorlog != "-":
        path = os.path.realpath(os.path.join(server.chdir, server.errorlog))
        if any(handler.is_ours and os.path.realpath(handler.path or "") == path for handler in _beside(config)):
            yield Finding(
                ERROR,
                "flags",
                "--capture-output",
                f"standard output and error go to {path}, which is rotated",
                "they stay on the file after its rollover, so the output goes to a backup, and is not in its archive",
                "give --error-logfile a file of its own",
            )
    given = [name for name in ("logconfig_dict", "logconfig_json", "logconfig") if getattr(server, name)]
    if len(given) > 1:
        yield Finding(
            WARNING,
            "flags",
            " and ".join(given),
            f"only {given[0]} counts",
            "gunicorn reads the first of logconfig_dict, logconfig_json and logconfig that is given",
            f"leave out {', '.join(given[1:])}",
        )
    changes_user = (server.uid, server.gid) != (os.geteuid(), os.getegid())
    is_default = getattr(server.post_fork, "__module__", "").startswith("gunicorn.")
    if changes_user and is_default and any(handler.is_ours for handler in config.handlers):
        yield Finding(
            ERROR,
            "flags",
            "post_fork",
            f"workers become user {user_name(User(server.uid, server.gid))}, and the hook of rollsafe is missing",
            "log and lock files stay the property of the user who starts gunicorn, and workers cannot write them",
            "from rollsafe.gunicorn import post_fork",
        )


def _replaced_outputs(config: ServerConfig) -> Iterator[Finding]:
    """Find the flags whose handlers the logging configuration replaces without one for the same output.

    The running server reports the same about its handlers; see `flags`.
    """
    server = config.server
    captures = server.capture_output and server.errorlog != "-"
    asked = [("--access-logfile", server.accesslog, "gunicorn.access")] if server.accesslog else []
    # gunicorn's default for --error-logfile is `-`.
    if not captures and (server.errorlog != "-" or "errorlog" in config.given):
        asked.append(("--error-logfile", server.errorlog, "gunicorn.error"))
    for flag, output, logger in asked:
        reached = config.handlers_of(logger)
        if reached is None or any(_writes(handler, output, config) for handler in reached):
            continue
        yield Finding(
            WARNING,
            "flags",
            flag,
            f"{flag} {output} together with a logging configuration",
            f"no line goes there: {logger} gets the handlers of the configuration instead"
            + ("" if output == "-" else ", and the file stays empty"),
            f"leave {flag} out, or put a handler for it into the logging configuration (with logger_class = "
            '"rollsafe.gunicorn.Logger" instead of a configuration, the flags rotate by themselves)',
        )
    if server.syslog:
        loggers = ["gunicorn.error"] + ["gunicorn.access"] * (not server.disable_redirect_access_to_syslog)
        silent = [
            logger
            for logger in loggers
            if (reached := config.handlers_of(logger)) is not None
            and not any(handler.is_a(logging.handlers.SysLogHandler) for handler in reached)
        ]
        if silent:
            yield Finding(
                WARNING,
                "flags",
                "--log-syslog",
                "--log-syslog together with a logging configuration",
                f"nothing of {' and '.join(silent)} is sent: the handlers of the configuration replace its own",
                "leave --log-syslog out, or put a logging.handlers.SysLogHandler into the logging configuration",
            )


def _writes(handler: ConfiguredHandler, output: str, config: ServerConfig) -> bool:
    """Whether a handler writes to the output that a flag names: a file, or `-` for a standard stream."""
    if output != "-":
        return os.path.realpath(handler.path or "") == os.path.realpath(os.path.join(config.server.chdir, output))
    return handler.is_a(logging.StreamHandler) and not handler.is_a(logging.FileHandler)


def _beside(config: ServerConfig) -> list[ConfiguredHandler]:
    """The handlers that the logging configuration makes, not the flags."""
    return [handler for handler in config.handlers if not handler.of_flag]


def workers_of(config: ServerConfig) -> User | None:
    """The user that the workers become, None if they stay this user; see gunicorn.util.set_owner_process."""
    server = config.server
    if (server.uid, server.gid) == (os.geteuid(), os.getegid()):
        return None
    return user_of(server.uid, server.gid, with_groups=server.initgroups)
