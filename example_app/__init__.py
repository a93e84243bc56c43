"""A small Flask application on gunicorn, and a demonstration of what happens to its log."""
