"""The parts of `rollsafe.gunicorn`."""
