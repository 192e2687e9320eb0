import numpy as np
import pytest
from matplotlib import pyplot as plt

from nnlib.plot.collisions import collisions
from nnlib.plot.roofline import drop, name_places, rate, roof
from nnlib.plot.style import subplots
from nnlib.plot.svg import draw


def test_the_roof_is_drawn_where_it_is():
    fig, ax = subplots()
    ax.set_ylim(1, 1e5)
    roof(ax, 1000, 50, span=(0.1, 400), label="flat", fill=True)
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [0.1, 20, 400]
    assert line.get_ydata().tolist() == [5, 1000, 1000]
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["1 FLOP/s", "10 FLOP/s"]
    plt.close(fig)
    assert rate(3.351e12) == "3.35 TFLOP/s"
    assert rate(0.5) == "0.5 FLOP/s"


@pytest.mark.parametrize("seed", range(12))
def test_names_of_measured_operations_find_room_whatever_was_measured(seed):
    shares = np.random.default_rng(seed).uniform(0.25, 1.15, 8)
    intensities = [1 / 12, 1 / 8, 1 / 4, 0.5, 0.56, 2, 7.9, 128]
    names = ["u + v", "2 u", "sum of rows", "1 × weights", "softmax", "4 × weights",
             "16 × weights", "768³ product"]  # fmt: skip
    tops = [min(1e11, 1e10 * i) for i in intensities]
    rates = [top * share for top, share in zip(tops, shares, strict=True)]
    fig, ax = subplots(width=6.8, height=3.9)
    ax.set_ylim(1e8, 3e11)
    roof(ax, 1e11, 1e10, span=(0.02, 300))
    for intensity, reached, top in zip(intensities, rates, tops, strict=True):
        drop(ax, intensity, reached, top)
    name_places(ax, names, intensities, rates)
    drawn = draw(fig, "measured")
    assert collisions(drawn.record) == []
    assert 'fill="#000000"' not in drawn.markup, "words on the page's ground have its two inks"
    plt.close(fig)
