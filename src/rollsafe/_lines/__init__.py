"""How a record becomes bytes."""
