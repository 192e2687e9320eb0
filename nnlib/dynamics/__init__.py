"""Networks that are systems evolving in time."""
