"""From executed chapters to the pages that readers see."""


class SiteError(RuntimeError):
    """The site could not be built; the last good one still stands."""
