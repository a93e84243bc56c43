"""For gunicorn.conf.py: a complete `logconfig_dict`, a `logger_class`, and the hooks.

gunicorn takes a name in gunicorn.conf.py for a setting if there is a setting of that name. So `__all__` holds the hook
`post_fork`, and otherwise only names that no setting has. Few need the hook `on_reload`; they import it by its name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rollsafe._files.lock_handles import renew_handles
from rollsafe._gunicorn.access_fields import FIELDS
from rollsafe._gunicorn.conflicts import find_other_writers
from rollsafe._gunicorn.reload import on_reload as on_reload
from rollsafe._gunicorn.workers import hand_over_files, is_first, warn_of_faults
from rollsafe._preset import Server, logging_config, with_parameters_of
from rollsafe.errors import ConfigurationError
from rollsafe.handlers import SafeTimedRotatingFileHandler, watch_logs

if TYPE_CHECKING:
    from rollsafe._gunicorn.logger import Logger

__all__ = ["Logger", "post_fork", "rotating_logger", "rotating_logs"]


_SERVER = Server(
    "gunicorn",
    find_other_writers,
    access_formatter="rollsafe._gunicorn.access.AccessLineFormatter",
    access_fields=FIELDS,
    access_filter="rollsafe._gunicorn.access_fields.AccessFields",
)


@with_parameters_of(logging_config)
def rotating_logs(*arguments: Any, **options: Any) -> dict[str, Any]:
    """A complete `logconfig_dict` for gunicorn: three files in `directory` that rotate safely.

    gunicorn's `--log-level` and `--access-logformat` keep their meaning. If `access_format` has no time, lines of
    uvicorn's workers get one, because uvicorn's have none.
    """
    return logging_config(_SERVER, *arguments, **options)


def rotating_logger(**rotation: Any) -> type[Logger]:
    """A `logger_class` for gunicorn: the files of `--access-logfile` and `--error-logfile` rotate safely.

    `logger_class = "rollsafe.gunicorn.Logger"` takes the options from the environment instead (gunicorn's `raw_env`,
    else the process's own): `ROLLSAFE_` and the option in capitals with underscores, such as `ROLLSAFE_BACKUP_COUNT`,
    for `when`, `interval`, `backupCount`, `utc`, `tz`, `maxBytes`, `archive_dir`, `compress`, `max_age`,
    `max_total_bytes`, `min_free_bytes` and `permissions`.

    Args:
        rotation: Options of `SafeTimedRotatingFileHandler` without `filename`; the default of `when` is "midnight".

    Raises:
        ConfigurationError: An option cannot work or is unknown; also a `ValueError`.
    """
    from rollsafe._gunicorn.logger import Logger

    try:
        SafeTimedRotatingFileHandler(os.devnull, **{"delay": True, **rotation}).close()
    except TypeError as error:
        raise ConfigurationError(f"rotating_logger: {error}; give options of SafeTimedRotatingFileHandler") from error
    return type("Logger", (Logger,), {"rotation": rotation, "__doc__": Logger.__doc__})


def __getattr__(name: str) -> Any:
    """Import `Logger` on demand, because it needs gunicorn."""
    if name == "Logger":
        from rollsafe._gunicorn.logger import Logger

        return Logger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def post_fork(server: Any, worker: Any) -> None:
    """gunicorn's hook in each new worker, which still has the arbiter's user. Use it, or call it from your own.

    It opens this worker's own lock handles, and gives log and lock files to the `user` and `group` of the
    configuration, which the worker becomes next. It also has the logs rolled although the worker may log nothing.
    (Without the hook, both come with the first line of each worker.)

    The first worker of a configuration also warns in gunicorn's error log of faults in the wiring of the logs: now, and
    again when its application is loaded.
    """
    renew_handles()
    hand_over_files(server, worker)
    watch_logs()
    if is_first(server, worker):
        warn_of_faults(worker)
