"""The parts of `rollsafe.celery`."""
