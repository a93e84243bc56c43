"""The backups: what happens to a file after its rollover."""
