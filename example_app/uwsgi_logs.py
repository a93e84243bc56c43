"""The log files under uWSGI, see uwsgi.ini."""

from rollsafe.uwsgi import set_up_logs

set_up_logs("logs", when="midnight", backupCount=14)
