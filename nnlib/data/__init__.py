"""Real data. Every set loads with no network, and says its source and its licence."""
