"""Networks that learn from the outcome of what they did."""
