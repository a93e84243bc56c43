"""The parts of `rollsafe.uwsgi`."""
