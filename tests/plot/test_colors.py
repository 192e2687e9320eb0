"""Meanings and their colours."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from nnlib.plot.colors import COLORS, INK, MUTED
from nnlib.plot.style import subplots
from nnlib.plot.svg import inline_svg


@pytest.mark.parametrize("theme", ["#ffffff", "#14181d"])
@pytest.mark.parametrize("meaning", ["input", "learned", "state", "gate", "baseline"])
def test_meaning_colours_stand_out_on_both_grounds(meaning, theme):
    def luminance(color):
        rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted([luminance(COLORS[meaning]), luminance(theme)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 2.5  # lines and marks; words take the ink


@pytest.mark.parametrize("meaning", COLORS)
def test_a_meaning_is_a_name_of_a_colour(meaning):
    assert to_hex(meaning) == COLORS[meaning].lower()


def test_ink_by_name_takes_the_colour_of_the_page():
    fig, ax = subplots()
    ax.plot([0, 1], [0, 1], color="ink")
    assert to_hex("ink") == INK and to_hex("muted") == MUTED
    assert INK not in inline_svg(fig, "line", "x")
