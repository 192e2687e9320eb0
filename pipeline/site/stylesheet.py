"""Take a style sheet apart: drop what a site does not use, and let pages without script be dark."""

import re
from collections.abc import Callable, Iterator

_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_CLASS = re.compile(r"\.(-?[A-Za-z_][\w-]*)")
_CLASSES = re.compile(r'\bclass="([^"]*)"')
_NOT = re.compile(r":not\([^()]*\)")
_THEME = re.compile(r"\[data-theme=[\"']?(light|dark)[\"']?\]")
NESTING = ("@media", "@supports", "@layer", "@container")


def rules(css: str) -> Iterator[tuple[str, str]]:
    """Yield (selector or at-rule, body without its braces); the body is "" where it has none."""
    css = _COMMENT.sub("", css)
    at = 0
    while match := re.compile(r"[^{;]*[{;]").match(css, at):
        head = css[at : match.end() - 1].strip()
        end = match.end()
        if match[0].endswith(";"):
            yield head + ";", ""
        else:
            end = _closing(css, end)
            yield head, css[match.end() : end - 1].strip()
        at = end


def _closing(css: str, at: int) -> int:
    """Return where the block ends that was opened before `at`."""
    depth = 1
    for mark in re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|url\([^\"')]*\)|[{}]").finditer(
        css, at
    ):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return mark.end()
    raise ValueError(f"a brace is not closed: {css[at : at + 60]!r}")


def selectors(head: str) -> list[str]:
    """Split a list of selectors at its commas, not at those within parentheses."""
    return [part.strip() for part in re.split(r",(?![^()]*\))", head)]


def trimmed(css: str, unused: Callable[[str], bool]) -> str:
    """Drop the rules for classes that are unused, and the fonts and motions they name.

    Args:
        css: a style sheet.
        unused: tells of a class, of the name of a font or of a motion, whether pages lack it.
    """
    kept = []
    for head, body in rules(css):
        if head.startswith(NESTING):
            inner = trimmed(body, unused)
            kept.append(f"{head}{{{inner}}}" if inner else "")
        elif head.startswith("@"):
            name = re.search(r"font-family:\s*[\"']?([^\"';]+)", body) if "font" in head else None
            named = name[1] if name else head.split()[-1]
            kept.append("" if unused(named) else f"{head}{{{body}}}" if body else head)
        else:
            fit = [one for one in selectors(head) if not any(map(unused, _needed(one)))]
            kept.append(f"{','.join(fit)}{{{body}}}" if fit else "")
    return "\n".join(filter(None, kept))


def _needed(selector: str) -> list[str]:
    return _CLASS.findall(_NOT.sub("", selector))


def by_system(css: str) -> str:
    """Let what holds for `[data-theme=light]` and `[data-theme=dark]` also hold without script.

    Pages arrive with `data-theme="auto"`, which a script replaces before anything is painted. Where
    no script runs, the reader's system decides.
    """
    kept = []
    for head, body in rules(css):
        if head.startswith(NESTING):
            kept.append(f"{head}{{{by_system(body)}}}")
            continue
        kept.append(f"{head}{{{body}}}" if body or not head.endswith(";") else head)
        if head.startswith("@"):
            continue
        for theme in ("light", "dark"):
            alike = [_auto(one) for one in selectors(head) if theme in _THEME.findall(one)]
            if alike:
                rule = f"{','.join(alike)}{{{body}}}"
                kept.append(f"@media (prefers-color-scheme: {theme}){{{rule}}}")
    return "\n".join(kept)


def classes(html: str) -> set[str]:
    """Return the classes of a page, of its words as they stand in the file."""
    return {name for found in _CLASSES.findall(html) for name in found.split()}


def _auto(selector: str) -> str:
    return _THEME.sub('[data-theme="auto"]', selector)
