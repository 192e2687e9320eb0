"""Sounds: a player for each of several clips, with a caption; they travel within the page."""

import base64
import html
import struct
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor

from nnlib import checks, distribution
from nnlib.markup import prose
from nnlib.notebook.run import current

with distribution.extra("notebook"):
    from IPython.display import HTML, display

BYTES = 200_000
BIAS, LOUDEST = 132, 32_635  # of G.711, on samples of 16 bits


def listen(
    clips: Mapping[str, Float[Tensor, " t"]], name: str, *, rate: int, caption: str
) -> None:
    """Show a player for each clip, under its name.

    A clip is a WAV file of 8 bits a sample, by the μ-law as telephony has it, written into the
    page; every browser plays it, without script and without a network.

    Args:
        clips: samples in −1 … 1 for each name, which is plain text and what a screen reader says.
        name: the group's stable name, unique in the chapter: letters, digits and hyphens.
        rate: samples a second, in 8000 … 48000, which is what browsers play.
        caption: what to listen for; may hold `$maths$`.

    Raises:
        ValueError: no clip, or more than 200 kB of them; a name that was used before in this run.
    """
    run = current()
    if name in run.names:
        raise ValueError(f"name={name!r} already names a figure of this chapter")
    rate = checks.count("rate", rate, least=8000)
    if rate > 48_000:
        raise ValueError(
            f"rate={rate} must be at most 48000, which is what browsers play"
        )
    files = {title: wav(samples, rate) for title, samples in clips.items()}
    size = sum(map(len, files.values()))
    if not files or size > BYTES:
        raise ValueError(f"clips of {name!r} take {size} bytes, they take 1 … {BYTES}")
    run.names.add(name)
    players = "".join(_player(title, file) for title, file in files.items())
    display(
        HTML(
            f'<figure class="nn-figure nn-sounds" id="figure-{name}" style="margin:0">{players}'
            f"<figcaption>{prose(caption)}</figcaption></figure>"
        )
    )


def _player(title: str, file: bytes) -> str:
    source = base64.b64encode(file).decode()
    told = html.escape(title)
    return (
        f'<div class="nn-sound"><span>{told}</span><audio controls preload="metadata" '
        f'aria-label="{told}" src="data:audio/wav;base64,{source}"></audio></div>'
    )


def wav(samples: Float[Tensor, " t"], rate: int) -> bytes:
    """Return a WAV file of one channel, 8 bits a sample by the μ-law of G.711.

    Args:
        samples: in −1 … 1.
        rate: samples a second, ≥ 1.

    Example:
        >>> import torch
        >>> len(wav(torch.zeros(100), 8000))
        158
    """
    checks.tensor(
        "samples", samples, shape=("t",), floating=True, empty=False, finite=True
    )
    rate = checks.count("rate", rate)
    if float(samples.abs().max()) > 1:
        raise ValueError(
            f"samples must lie in -1 … 1, got {samples.min():g} … {samples.max():g}"
        )
    data = g711(samples.double().cpu().numpy())
    data += b"\0" * (len(data) % 2)
    form = struct.pack("<HHIIHHH", 7, 1, rate, rate, 1, 8, 0)  # 7: μ-law, 1: mono
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"fact" + struct.pack("<II", 4, len(samples))
    chunks += b"data" + struct.pack("<I", len(samples)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def g711(samples: np.ndarray) -> bytes:
    """Return the bytes of G.711: the μ-law by eight straight pieces for each sign.

    A byte holds a sign, the number of the piece, and sixteen places in it, all bits turned.
    """
    whole = np.round(samples * 32_767).astype(np.int64)
    size = np.minimum(np.abs(whole), LOUDEST) + BIAS
    piece = np.floor(np.log2(size)).astype(np.int64) - 7
    place = (size >> (piece + 3)) & 15
    coded = ~((whole < 0) << 7 | piece << 4 | place) & 255
    return coded.astype(np.uint8).tobytes()
