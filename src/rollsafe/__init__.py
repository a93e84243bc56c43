"""Log files for prefork WSGI servers: one timed-rotating file, several processes, every line kept."""

from rollsafe.errors import ConfigurationError
from rollsafe.formatters import LineFormatter
from rollsafe.handlers import SafeTimedRotatingFileHandler
from rollsafe.locks import FileLock

__all__ = ["ConfigurationError", "FileLock", "LineFormatter", "SafeTimedRotatingFileHandler"]
