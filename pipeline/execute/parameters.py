"""The parameters of a chapter: what its `parameters` cell declares, values checked against it."""

import ast
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

_ANYTHING = object()  # the default is an expression, so it promises no type
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}


class BadParameter(ValueError):
    """A parameter that the chapter does not have, or a value of the wrong type."""


def cells_of(notebook: Path) -> list[dict[str, Any]]:
    """Return a notebook's cells, each source as one text."""
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    for cell in cells:
        cell["source"] = "".join(cell["source"])
    return cells


def declared(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return name -> default of the cell tagged `parameters`, in order."""
    found: dict[str, Any] = {}
    for cell in cells:
        if "parameters" not in cell["metadata"].get("tags", []):
            continue
        for node in ast.parse(cell["source"]).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
            for target in targets:
                if isinstance(target, ast.Name):
                    found[target.id] = _literal(node.value)
    return found


def split(text: str) -> dict[str, str]:
    """Turn `steps=50 device=cuda` into a mapping.

    Raises:
        BadParameter: a word is not of the form name=value.
    """
    given = {}
    for word in shlex.split(text):
        name, sign, value = word.partition("=")
        if not (sign and name.isidentifier()):
            raise BadParameter(f"PARAMS has {word!r}; it takes name=value pairs such as steps=50")
        given[name] = value
    return given


def checked(
    chapter: str, cells: Iterable[Mapping[str, Any]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the given values in the types of the chapter's defaults.

    Raises:
        BadParameter: an unknown name, or a value of another type than the default's.
    """
    defaults = declared(cells)
    values = {}
    for name, value in given.items():
        if name not in defaults:
            raise BadParameter(
                f"{chapter} has no parameter {name!r}; it has {', '.join(defaults) or 'none'}"
            )
        try:
            values[name] = _convert(value, defaults[name])
        except (ValueError, yaml.YAMLError):
            default = defaults[name]
            wanted = _WORDS.get(type(default), "text")
            raise BadParameter(
                f"{chapter}: parameter {name}={value!r} must be {wanted}, "
                f"as its default {default!r} is"
            ) from None
    return values


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node) if node is not None else _ANYTHING
    except ValueError:
        return _ANYTHING


def _convert(value: Any, default: Any) -> Any:
    """Read `value` (text from a command line, or typed from a preset) as the default's type."""
    if isinstance(default, str):
        return _must(value, str)
    if default is None:
        return None if value in (None, "None", "null", "") else _must(value, str)
    if isinstance(value, str):
        if isinstance(default, float):
            return float(value)  # YAML 1.1 reads 1e-3 as text
        value = yaml.safe_load(value)
    if default is _ANYTHING:
        return value
    if isinstance(default, bool):
        return _must(value, bool)
    if isinstance(value, bool):
        raise ValueError
    if isinstance(default, float):
        return float(_must(value, int, float))
    if isinstance(default, list | tuple):
        return _must(value, list, tuple)
    return _must(value, type(default))


def _must(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise ValueError
    return value
