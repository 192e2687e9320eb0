from matplotlib import pyplot as plt

from nnlib.plot.roofline import rate, roof
from nnlib.plot.style import subplots


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
