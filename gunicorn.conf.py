"""gunicorn for the example application, with rotating logs; `make serve` runs it. Copy it, and adapt it to yours."""

from rollsafe.gunicorn import post_fork, rotating_logs

wsgi_app = "example_app.app:app"
bind = "127.0.0.1:8000"
workers = 4

# logs/access.log, logs/error.log and logs/app.log: a new one of each at midnight, and the last fourteen are kept.
# app.log has the lines of the application, through the root logger.
logconfig_dict = rotating_logs("logs", when="midnight", backupCount=14)
