"""What readers of good books have: each part is a module of its own.

Beside them, `_static/preview.js`, `reader.js` and `keys.js` do what needs a browser.
"""

from sphinx.application import Sphinx

from pipeline.site import about, glossary_links, head, page_end, reading_time, site_files


def setup(app: Sphinx) -> None:
    for part in (about, glossary_links, head, reading_time, page_end, site_files):
        part.setup(app)
