"""The one training loop of the book, its schedules and its metrics."""
