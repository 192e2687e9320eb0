"""What only a notebook needs: promises that are checked, figures with words, sliders, cards.

A chapter calls `setup` once, then `check` (two things are equal), `band` (a result lies where the
text says), `figure`, `scrub` (a slider) and, last, `verdict`.
Every chapter needs all of this, so it is found here; what only some chapters need is imported from
its own module, so that the others do not depend on it.
"""

from nnlib.notebook.pictures import figure, scrub
from nnlib.notebook.promises import BrokenPromise, band, check, verdict
from nnlib.notebook.records import record
from nnlib.notebook.run import setup
from nnlib.notebook.words import card, say, show_source, table
from nnlib.timing import measured, seconds

__all__ = [
    "BrokenPromise",
    "band",
    "card",
    "check",
    "figure",
    "measured",
    "record",
    "say",
    "scrub",
    "seconds",
    "setup",
    "show_source",
    "table",
    "verdict",
]
