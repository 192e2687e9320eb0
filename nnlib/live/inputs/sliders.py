"""Numbers to move, each between its ends."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnlib import checks
from nnlib.live.inputs.given import Context, Feed, Given, Widget


@dataclass(frozen=True, kw_only=True)
class Sliders(Given):
    """Numbers, each between its ends.

    Attributes:
        ranges: name → (least, most, step).

    Example:
        >>> Sliders(label="Weather", ranges={"wind": (0, 1, 0.1)}).read([0.5])[0]
        (tensor([[0.5000]]),)
    """

    ranges: Mapping[str, tuple[float, float, float]]
    kind = "sliders"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {"count": len(self.ranges)}

    def read(self, value: Sequence[float]) -> tuple[Feed, Context]:
        """Return the numbers in a row."""
        for at, ((name, (low, high, _)), number) in enumerate(
            zip(self.ranges.items(), value, strict=True)
        ):
            checks.number(f"value[{at}], {name},", number, least=low, most=high)
        return (torch.tensor([[float(number) for number in value]]),), {}

    def body(self, value: Sequence[float]) -> str:
        """Return the ranges, each with its name and its number."""
        return "".join(
            f'<label class="nn-slide"><span>{html.escape(name)} '
            f'<output aria-live="off">{number:g}</output></span>'
            f'<input type="range" min="{low:g}" max="{high:g}" step="{step:g}" '
            f'value="{number:g}" autocomplete="off"></label>'
            for (name, (low, high, step)), number in zip(
                self.ranges.items(), value, strict=True
            )
        )

    def widget(self, value: Sequence[float]) -> Widget:
        """Return as many sliders."""
        import ipywidgets

        sliders = [
            ipywidgets.FloatSlider(
                number, min=low, max=high, step=step, description=name
            )
            for (name, (low, high, step)), number in zip(
                self.ranges.items(), value, strict=True
            )
        ]

        def put(other: Sequence[float]) -> None:
            for slider, number in zip(sliders, other, strict=True):
                slider.value = number

        return ipywidgets.VBox(sliders), lambda: [s.value for s in sliders], put
