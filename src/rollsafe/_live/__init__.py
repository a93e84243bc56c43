"""The file that is being written."""
