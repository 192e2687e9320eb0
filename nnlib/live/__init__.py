"""Trained models that a reader can touch on the published page, with no kernel behind it.

`live(model, given, *shown, …)` puts a small module between an input and an output:

* inputs: `DrawingPad`, `TextField`, `Sliders`, `Plane`, `Point`,
  `Damage`, `Cart`, `Links`;
* outputs: `Bars`, `Numbers`, `Text`, `Picture`, `HeatMap`, `Curve`, `Pieces`;
* how the model is run: `Once`, `Writes` (one letter after the other), `Translates`, `Repeats` (its
  answer is its next input), `Corrects` (a learning rule) and `Cuts` (tokenizers), which run in the
  page itself.

In a notebook the same call shows a form of ipywidgets around the module itself.
"""

from nnlib.live.inputs.cart import Cart
from nnlib.live.inputs.damage import Damage
from nnlib.live.inputs.drawing_pad import DrawingPad
from nnlib.live.inputs.links import Links
from nnlib.live.inputs.plane import Plane
from nnlib.live.inputs.point import Point
from nnlib.live.inputs.sliders import Sliders
from nnlib.live.inputs.text_field import TextField
from nnlib.live.outputs import Bars, Curve, HeatMap, Numbers, Picture, Pieces, Text
from nnlib.live.runs import Corrects, Cuts, Once, Repeats, Translates, Writes
from nnlib.live.show import live

__all__ = [
    "Bars",
    "Cart",
    "Corrects",
    "Curve",
    "Cuts",
    "Damage",
    "DrawingPad",
    "HeatMap",
    "Links",
    "Numbers",
    "Once",
    "Picture",
    "Pieces",
    "Plane",
    "Point",
    "Repeats",
    "Sliders",
    "Text",
    "TextField",
    "Translates",
    "Writes",
    "live",
]
