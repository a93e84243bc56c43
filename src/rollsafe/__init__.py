"""Log files for prefork WSGI servers: one timed-rotating file, several processes, every line kept."""

from rollsafe.errors import ConfigurationError
from rollsafe.formatters import LineFormatter
from rollsafe.handlers import SafeTimedRotatingFileHandler
from rollsafe.locks import FileLock

__all__ = ["ConfigurationError", "FileLock", "LineFormatter", "SafeTimedRotatingFileHandler"]

# The only place of the version: the build reads it here, and the import of the package reads no metadata.
__version__ = "0.1.0"
