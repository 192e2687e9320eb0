"""The page that a server shows where there is none.

It may be shown at any address, so it loads nothing, and its links hold the site's whole address.
"""

from html import escape

from pipeline.site.about import About

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>No such page — {title}</title>
<style>
:root {{
  color-scheme: light dark; --ground: #FCFBF8; --ink: #22262C; --quiet: #5B626C;
  --line: #DEDAD0; --link: #35659B;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --ground: #16191E; --ink: #DDE1E6; --quiet: #A3AAB4; --line: #3A4049; --link: #8FB8E6;
  }}
}}
body {{
  max-width: 38rem; margin: 12vh auto 4rem; padding: 0 1.25rem; background: var(--ground);
  color: var(--ink); font: 1.1rem/1.6 "Source Serif 4", "Iowan Old Style", Georgia, serif;
}}
h1 {{ margin: 0 0 .5rem; font-size: 2.2rem; line-height: 1.2; font-weight: 600; }}
.book {{ margin: 0 0 2rem; }}
a {{ color: var(--link); text-underline-offset: .15em; }}
h2, .book, form, ul {{ font-family: "Source Sans 3", system-ui, sans-serif; }}
h2 {{ margin: 2rem 0 .5rem; font-size: 1.1rem; }}
ul {{ columns: 15rem; margin: 0; padding: 0; list-style: none; }}
li {{ padding: .2rem 0; }}
form {{ display: flex; flex-wrap: wrap; gap: .6rem; margin: 1.5rem 0; }}
input, button {{
  min-height: 2.75rem; padding: .3rem .9rem; border: 1px solid var(--quiet); border-radius: 6px;
  background: transparent; color: inherit; font: inherit;
}}
input {{ flex: 1 1 14rem; }}
:focus-visible {{ outline: 2px solid var(--link); outline-offset: 2px; }}
</style>
</head>
<body>
<main>
<p class="book"><a href="{site}index.html">{title}</a></p>
<h1>There is no such page</h1>
<p>It may have moved, or the address has a slip in it. Look for what you need:</p>
<form action="{site}search.html" role="search">
<input type="search" name="q" aria-label="Search the book" required>
<button>Search</button>
</form>
<h2>Or begin here</h2>
<ul>
{families}
</ul>
</main>
</body>
</html>
"""


def page(told: About, families: list[tuple[str, str]]) -> str:
    """Return the page, with a link to each family: its title and first page."""
    links = [
        f'<li><a href="{escape(told.url(doc))}">{escape(title)}</a></li>' for title, doc in families
    ]
    return _PAGE.format(title=escape(told.title), site=escape(told.site), families="\n".join(links))
