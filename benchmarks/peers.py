"""The libraries that ours are held to, made to import where their own build does not.

Nothing here may import nnlib: `tests/conftest.py` needs it before nnlib is read.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # what it declares is gone when it is collected


def declare_torchvision() -> bool:
    """Declare the operators that torchvision looks for, where its own cannot be loaded.

    The wheels of PyPI are built for torch's CUDA build. Beside its CPU build their C++ library
    does not load, and `import torchvision` fails at `nms`, and with it that of `transformers`.
    The models need none of these operators.

    Returns:
        Whether anything had to be declared.
    """
    found = find_spec("torchvision")
    if found is None or found.origin is None or _declared:
        return False
    try:
        for library in Path(found.origin).parent.glob("_C*.so"):
            torch.ops.load_library(library)
            return False
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + BOXES)
    _declared.append(library)
    return True
