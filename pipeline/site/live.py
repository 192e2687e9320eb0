"""Live models of executed notebooks: the page's markup, and the files that a first touch loads.

`nnlib.live.live` leaves in its output all that a page needs (its `MIME`). Here the markup becomes
the cell's HTML, and the module's file a script below `live/`: a page that is opened as a file may
load scripts and nothing else. What the module must answer stands beside it, for the tests.
"""

import hashlib
import json
from typing import Any

from pipeline.site.sliders import VIEW

MIME = "application/vnd.nnlib.live+json"  # as nnlib.live.show has it, which would bring torch
FOLDER = "_extra/live"  # which Sphinx copies to `live/`


class LiveError(ValueError):
    """Two live models of a page have one name."""


def convert(notebook: dict[str, Any], doc: str) -> dict[str, bytes]:
    """Replace the live models among a notebook's outputs by HTML; return their files.

    Args:
        notebook: an executed notebook, changed in place.
        doc: its page, such as `chapters/foundations/mlp`.

    Raises:
        LiveError: a name is used twice.
    """
    files: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            made = data.pop(MIME, None)
            if made is None:
                continue
            key = "-".join([*doc.split("/")[-2:], made["name"]])
            if f"{FOLDER}/{key}.js" in files:
                raise LiveError(f"{doc}: two live models are called {made['name']!r}")
            content = _compact({"config": made["config"], "onnx": made["onnx"]})
            version = hashlib.sha256(content.encode()).hexdigest()[:8]
            script = f"(self.nnModels ??= {{}})[{json.dumps(key)}] = {content};\n"
            files[f"{FOLDER}/{key}.js"] = script.encode()
            if made["records"]:
                files[f"{FOLDER}/{key}.json"] = _compact(made["records"]).encode()
            own = f'data-live="{made["name"]}"'
            markup = made["markup"].replace(own, f'data-live="{key}" data-version="{version}"', 1)
            data["text/html"] = markup
            for form in (VIEW, "text/plain"):
                data.pop(form, None)
    return files


def _compact(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
