"""onnxruntime-web as two plain scripts, which also run from a page that is opened as a file.

A page at `file://` may load scripts, but neither modules nor WebAssembly. So the module becomes a
script that leaves `ort` behind, and the machine a script that holds it, packed by gzip and written
in base64, which the browser unpacks. Both come by the same road wherever the page stands.
"""

import base64
import gzip
import re

NOTICE = b"""/* onnxruntime-web, changed in form only: see pipeline/site/live_engine.py.
 * MIT License. Copyright (c) Microsoft Corporation
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
 * associated documentation files (the "Software"), to deal in the Software without restriction,
 * including without limitation the rights to use, copy, modify, merge, publish, distribute,
 * sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
 * furnished to do so, subject to the following conditions: The above copyright notice and this
 * permission notice shall be included in all copies or substantial portions of the Software.
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
 * NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
"""
_EXPORTS = re.compile(rb"export\{([^}]*)\};?\s*(?://# sourceMappingURL=.*)?\s*$")
# A module knows its own address, which it only uses to find what we hand over.
_ADDRESS = b'"https://engine.invalid/ort.js"'


class EngineError(ValueError):
    """The package is not built as it was when this was written."""


def script(module: bytes) -> bytes:
    """Return the module as a script that sets `self.ort`.

    Raises:
        EngineError: it exports other names, or in another way.
    """
    found = _EXPORTS.search(module)
    names = dict(
        reversed(pair.split(b" as ")) for pair in found[1].split(b",") if b" as " in pair
    ) if found else {}  # fmt: skip
    wanted = [b"InferenceSession", b"Tensor", b"env"]
    if not found or any(name not in names for name in wanted):
        raise EngineError("onnxruntime-web exports other names than it did")
    body = module[: found.start()].replace(b"import.meta.url", _ADDRESS)
    given = b",".join(name + b":" + names[name] for name in wanted)
    return NOTICE + b"(()=>{" + body + b"self.ort={" + given + b"}})();\n"


def machine(wasm: bytes) -> bytes:
    """Return the WebAssembly as a script that sets `self.nnEngine`, its gzip in base64.

    Raises:
        EngineError: it is no WebAssembly.
    """
    if wasm[:4] != b"\0asm":
        raise EngineError("onnxruntime-web's machine is no WebAssembly")
    packed = base64.b64encode(gzip.compress(wasm, compresslevel=9, mtime=0))
    return NOTICE + b'self.nnEngine="' + packed + b'";\n'
