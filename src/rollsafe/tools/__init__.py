"""For people at a terminal: what the command `rollsafe` is made of. Tools read what the core has written."""
