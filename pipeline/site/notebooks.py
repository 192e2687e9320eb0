"""An executed notebook as the source of its page: models, sliders, light pictures, its cards.

Making pictures light takes a second for a chapter, so what was made is kept by content.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.site import heroes, light, live, sliders

_PHOTO = "photo"  # the name of an empty file: the hero is no drawing


@dataclass(frozen=True)
class Published:
    """The files that a notebook becomes (path → content), and whether its hero is a photograph."""

    files: Mapping[str, bytes]
    photo: bool = False


def publish(notebooks: Mapping[str, bytes], kept: Path, code: bytes) -> dict[str, Published]:
    """Return what each notebook becomes; make what is not in `kept`, on all cores.

    Args:
        notebooks: the executed notebook of each page.
        kept: a folder for results, of which those that are not asked for go.
        code: a digest of what makes them.

    Raises:
        sliders.WidgetError: a cell shows a widget that is no slider.
    """
    places = {
        doc: kept / hashlib.sha256(code + doc.encode() + b"\0" + notebook).hexdigest()
        for doc, notebook in notebooks.items()
    }
    for old in set(kept.glob("*")) - set(places.values()):
        shutil.rmtree(old)
    missing = [doc for doc, place in places.items() if not place.is_dir()]
    contents = [notebooks[doc] for doc in missing]
    with _mapping(len(missing)) as mapped:
        for doc, made in zip(missing, mapped(make, contents, missing), strict=True):
            _keep(made, places[doc])
    return {doc: _read(place) for doc, place in places.items()}


@contextmanager
def _mapping(tasks: int) -> Iterator[Callable]:
    """Yield a `map` of several processes for several tasks, the usual one else."""
    workers = min(tasks, os.cpu_count() or 1)
    if workers < 2:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        yield pool.map


def make(notebook: bytes, doc: str) -> Published:
    """Make a page's source from an executed notebook.

    Papermill's records are dropped: they hold this machine's paths, and change with every run.

    Raises:
        sliders.WidgetError: a cell shows a widget that is no slider.
        live.LiveError: two live models have one name.
    """
    content = json.loads(notebook)
    for cell in content["cells"]:
        if "outputs" in cell:
            cell["outputs"] = joined(cell["outputs"])
    hero = heroes.take(content)
    models = live.convert(content, doc)
    sliders.convert(content, doc)
    light.lighten(content, doc)
    for holder in (content, *content["cells"]):
        for key in ("papermill", "execution"):
            holder["metadata"].pop(key, None)
    if hero:
        heroes.mark(hero, doc)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    cards = heroes.cards(hero, doc) if hero else {}
    files = {f"{doc}.ipynb": text.encode(), **cards, **models}
    return Published(files, bool(hero) and heroes.is_photo(hero))


def joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a cell's outputs with what it printed in one go as one.

    The kernel sends what is printed piece by piece, cut by the clock; a page shows no seams, and
    is the same from run to run.
    """
    found: list[dict[str, Any]] = []
    for output in outputs:
        if found and output.get("name") and found[-1].get("name") == output["name"]:
            found[-1] = output | {"text": _text(found[-1]) + _text(output)}
        else:
            found.append(output)
    return found


def _text(output: dict[str, Any]) -> str:
    return "".join(output["text"])


def _keep(made: Published, place: Path) -> None:
    partial = place.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, content in {**made.files, **({_PHOTO: b""} if made.photo else {})}.items():
        file = partial / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    partial.rename(place)


def _read(place: Path) -> Published:
    files = {
        file.relative_to(place).as_posix(): file.read_bytes()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }
    return Published(files, files.pop(_PHOTO, None) is not None)
