"""gunicorn for the example application, with rotating logs. Copy it and change what differs: `make serve` runs it."""

from rollsafe.gunicorn import post_fork, rotating_logs

wsgi_app = "example_app.app:app"
bind = "127.0.0.1:8000"
workers = 4

# access.log, error.log and app.log, a new one of each at midnight, the last fourteen kept.
# app.log has what the application logs, through the root logger.
logconfig_dict = rotating_logs("logs", when="midnight", backupCount=14)
