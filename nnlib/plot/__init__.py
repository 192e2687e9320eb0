"""One style for every figure of the book: curves, maps, diagrams."""
