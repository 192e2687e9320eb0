"""Networks that look up what they need, wherever it stands."""
