"""Parts that three chapters or more use unchanged."""
