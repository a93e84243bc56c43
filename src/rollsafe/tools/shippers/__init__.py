"""Configurations of log shippers: the descriptions of logs and lines, and for each shipper the text. Pure."""
