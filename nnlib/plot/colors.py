"""The book's colours: meaning has a colour, the same everywhere.

A meaning is a colour's name for matplotlib, too: `ax.plot(x, y, color="learned")`. The ink (text,
axes, targets) is one sentinel colour. `nnlib.plot.svg` turns it into the page's own text colour, so
the same picture reads in light and in dark mode.
"""

from matplotlib.colors import get_named_colors_mapping

INK = "#1b1f24"  # text, axes, targets; becomes `currentColor` on the page
MUTED = (
    "#808488"  # ticks and secondary text: ≥ 3.7:1 on white and on the dark page alike
)

COLORS = {
    "input": "#4477AA",
    "learned": "#EE6677",
    "state": "#228833",
    "gate": "#AA3377",
    "target": INK,
    "baseline": "#888888",
    "highlight": "#CCBB44",
    "fixed": "#66CCEE",
}
"""What each colour means (Paul Tol's bright set, safe for colour-blind readers)."""

get_named_colors_mapping().update({**COLORS, "ink": INK, "muted": MUTED})
