"""A browser over the built site, for the tests that look at it."""

import pytest

from pipeline.site.browser import browsing, served
from tests.book.looking import SITE, Looks


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def address():
    with served(SITE) as address:
        yield address


@pytest.fixture(scope="module")
def looks(browser, address):
    """Everything measured on a page, each page opened once."""
    looks = Looks(browser, address)
    yield looks
    looks.close()
