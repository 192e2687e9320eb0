"""Networks that draw new examples from what they saw."""
