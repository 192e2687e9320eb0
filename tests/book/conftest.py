"""A browser over the built site, for the tests that look at it."""

import pytest

# Imports stand inside: nnlib comes with them, which the hook that checks shapes must meet first.


@pytest.fixture(scope="module")
def browser():
    from pipeline.site.browser import browsing

    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def address():
    from pipeline.site.browser import served
    from tests.book.looking import SITE

    with served(SITE) as address:
        yield address


@pytest.fixture(scope="module")
def looks(browser, address):
    """Everything measured on a page, each page opened once."""
    from tests.book.looking import Looks

    looks = Looks(browser, address)
    yield looks
    looks.close()
