"""The pages of the book in order, as `_toc.yml` has them."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline import ROOT

PAGES = Path("_build/pages")  # generated pages


def toc_pages(root: Path = ROOT) -> list[str]:
    """Return every page that `_toc.yml` names, in order, without suffix."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    found.append(re.sub(r"\.(md|ipynb)$", "", value))
                elif key == "glob":
                    found.extend(doc for doc in matching(root, value) if doc not in found)
                else:
                    walk(value)

    walk(yaml.safe_load((root / "_toc.yml").read_text("utf8")))
    return found


def contents(root: Path) -> bytes:
    """Return `_toc.yml` with the pages of each `glob` entry, which Sphinx would sort by name."""
    text = (root / "_toc.yml").read_text("utf8")
    named = set(re.findall(r"file: *(\S+)", text))

    def spelt(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: spelt(value) for key, value in node.items()}
        if not isinstance(node, list):
            return node
        found: list[Any] = []
        for item in node:
            if isinstance(item, dict) and set(item) == {"glob"}:
                docs = matching(root, item["glob"])
                found += [{"file": doc} for doc in docs if doc not in named]
                named.update(docs)
            else:
                found.append(spelt(item))
        return found

    told = spelt(yaml.safe_load(text))
    return yaml.safe_dump(told, allow_unicode=True, sort_keys=False).encode()


def matching(root: Path, pattern: str) -> list[str]:
    """Return the written and generated pages of a `glob` entry, in the order of the families."""
    from nnlib.catalog import FAMILIES  # late: tests let nnlib be watched before it is imported

    order = [*FAMILIES]
    folders = (root, root / PAGES)
    files = ((folder, file) for folder in folders for file in folder.glob(f"{pattern}.md"))
    docs = {file.relative_to(folder).with_suffix("").as_posix() for folder, file in files}

    def place(doc: str) -> tuple[int, str]:
        name = doc.rpartition("/")[2]
        return order.index(name) if name in order else len(order), doc

    return sorted(docs, key=place)
