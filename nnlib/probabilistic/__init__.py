"""Networks that say how sure they are."""
