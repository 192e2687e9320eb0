import ast

import numpy as np
import pytest
from matplotlib import pyplot as plt

from nnlib.kernels.placed import placed
from nnlib.plot.roofline import places, roof
from nnlib.plot.style import COLORS, subplots
from pipeline import ROOT
from tests.kernel_support import gpu_cell

CHAPTER = ROOT / "chapters" / "kernels" / "roofline.md"
RECORD = {  # made up
    "device": "Imaginary GPU",
    "date": "2000-01-01",
    "copy_bandwidth": 100.0,
    "matmul_rate": {"bfloat16": 1000.0, "float32": 200.0},
    "rows": [
        {"operation": "softmax", "direction": "forward", "shape": {"n": 1}, "dtype": "float32",
         "flops": 50, "bytes": 100, "seconds": {"nnlib": 1.25, "torch": 2.0}},
        {"operation": "softmax", "direction": "backward", "shape": {"n": 1}, "dtype": "float32",
         "flops": 50, "bytes": 100, "seconds": {"nnlib": 2.0}},
        {"operation": "attention", "direction": "forward", "shape": {"n": 1}, "dtype": "bfloat16",
         "flops": 4000, "bytes": 100, "seconds": {"nnlib": 5.0, "torch": 4.0}},
    ],
}  # fmt: skip


def test_measured_kernels_are_placed_by_the_roof_of_their_own_run():
    points = placed(RECORD)
    assert [p.share for p in points] == pytest.approx([0.8, 0.5, 0.8])
    assert [p.rate for p in points] == pytest.approx([40, 25, 800])
    assert [p.seconds for p in placed(RECORD, "torch")] == [2.0, 4.0]


@pytest.mark.parametrize("records", [[], [RECORD]], ids=["none measured", "one measured"])
def test_the_chapter_shows_measured_gpus_and_says_when_there_are_none(records):
    told, shown = [], []
    names = {
        "measured": lambda subject: records, "say": told.append, "placed": placed, "roof": roof,
        "places": places, "subplots": subplots, "COLORS": COLORS, "np": np,
        "figure": lambda fig, name, *, caption, alt: shown.append((fig, caption)),
    }  # fmt: skip
    exec(compile(ast.parse(gpu_cell(CHAPTER)), "the chapter", "exec"), names)
    if not records:
        assert told[0].startswith("**No GPU has been measured yet.**")
        assert not shown
        return
    (fig, caption), (words,) = shown[0], told
    assert "Imaginary GPU, 2000-01-01" in caption
    assert words == "The median kernel reaches **80%** of its roof."
    written = [text.get_text() for text in fig.axes[0].texts]
    assert "softmax 80%" in written and "attention 80%" in written
    fig.canvas.draw()
    plt.close(fig)
