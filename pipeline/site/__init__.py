"""From executed chapters to the pages that readers see."""
