"""The parts of `rollsafe.flask`."""
