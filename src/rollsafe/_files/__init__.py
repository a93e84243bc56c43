"""Files as file systems, other users and other hosts treat them."""
