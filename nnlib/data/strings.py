r"""Melodies of two made-up instruments, whose law is known: a plucked string and a reed.

A string is Karplus and Strong's: a burst of noise goes round a delay of one period, and is averaged
and damped each time. A reed has the odd harmonics of its pitch, at a phase that is drawn anew.

Axes: n melodies, t samples.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import lfilter
from torch import Tensor

from nnlib import checks
from nnlib.data.split import DataSet

INSTRUMENTS = ("string", "reed")
SCALE = (73.42, 87.31, 98.00, 110.00, 130.81, 146.83, 174.61, 196.00)
"""Hertz of the eight notes: D minor pentatonic, from the D below middle C."""


def pluck(
    frequency: float,
    length: int,
    rate: int = 4000,
    *,
    damping: float = 0.996,
    seed: int = 0,
) -> Float[Tensor, " t"]:
    r"""Return the sound of a plucked string, by Karplus and Strong's algorithm.

    $y_t = x_t + \rho\,\bigl(\tfrac{1-a}{2}\,y_{t-N} + \tfrac12\,y_{t-N-1} +
    \tfrac a2\,y_{t-N-2}\bigr)$ with a burst x of N random samples; $N + \tfrac12 + a$ samples are a
    period. So after the burst each sample is a weighted mean of three that lie a period back.

    Args:
        frequency: hertz, above 0 and at most rate / 4.
        length: samples, ≥ 1.
        rate: samples a second, ≥ 1.
        damping: ρ, in (0, 1].
        seed: of the burst, ≥ 0.

    Returns:
        Samples in −1 … 1; the loudest is 0.9.

    Source: Karplus and Strong 1983; the fraction of a sample, Jaffe and Smith 1983.
    """
    rate, length = checks.count("rate", rate), checks.count("length", length)
    frequency = checks.number("frequency", frequency, above=0, most=rate / 4)
    damping = checks.number("damping", damping, above=0, most=1)
    delay = rate / frequency - 0.5
    whole = math.floor(delay)
    part = delay - whole
    burst = np.random.default_rng(checks.count("seed", seed, least=0)).uniform(
        -1, 1, whole
    )
    given = np.zeros(length)
    given[: min(whole, length)] = (burst - burst.mean())[:length]
    back = np.zeros(whole + 3)
    back[0] = 1
    back[whole:] = -damping * np.array([(1 - part) / 2, 0.5, part / 2])
    sound = lfilter([1.0], back, given)
    return torch.from_numpy(0.9 * sound / max(np.abs(sound).max(), 1e-9))


def reed(
    frequency: float,
    length: int,
    rate: int = 4000,
    *,
    harmonics: int = 3,
    seed: int = 0,
) -> Float[Tensor, " t"]:
    r"""Return the sound of a reed: $\sum_{k} \tfrac{1}{2k-1} \sin(2\pi(2k-1)ft + \varphi_k)$.

    Args:
        frequency: hertz, above 0 and at most rate / 4.
        length: samples, ≥ 1.
        rate: samples a second, ≥ 1.
        harmonics: odd ones, ≥ 1; those beyond half the rate are left out.
        seed: of the phases, ≥ 0.

    Returns:
        Samples in −1 … 1; it swells for a fortieth of a second, and the loudest is at most 0.6.
    """
    rate, length = checks.count("rate", rate), checks.count("length", length)
    frequency = checks.number("frequency", frequency, above=0, most=rate / 4)
    harmonics = checks.count("harmonics", harmonics)
    draw = np.random.default_rng(checks.count("seed", seed, least=0))
    time, sound = np.arange(length) / rate, np.zeros(length)
    for odd in range(1, 2 * harmonics, 2):
        phase = draw.uniform(0, 2 * np.pi)
        if odd * frequency < rate / 2:
            sound += np.sin(2 * np.pi * odd * frequency * time + phase) / odd
    sound *= np.minimum(1, time * 40) * np.exp(-time)
    return torch.from_numpy(
        0.6 * sound / sum(1 / odd for odd in range(1, 2 * harmonics, 2))
    )


PLAYED: dict[str, Callable[..., Tensor]] = {"string": pluck, "reed": reed}


@dataclass(frozen=True, kw_only=True)
class Melodies(DataSet):
    """Melodies, and what was played when.

    Attributes:
        sound: n t, samples in −1 … 1, float32.
        notes: n t, at each sample the number of its note in `SCALE`.
        instruments: n, of `INSTRUMENTS`.
        rate: samples a second.
        source, licence: as for `DataSet`.
    """

    sound: Tensor
    notes: Tensor
    instruments: Tensor
    rate: int


def melodies(
    count: int,
    notes: int = 8,
    *,
    note_length: int = 1000,
    rate: int = 4000,
    seed: int = 0,
) -> Melodies:
    """Return random melodies, half of them of strings and half of reeds, in turn.

    Args:
        count: n, ≥ 1.
        notes: of a melody, ≥ 1; each is drawn from `SCALE`, and is another than the one before.
        note_length: samples of a note, ≥ 1.
        rate: samples a second.
        seed: of notes, bursts and phases, ≥ 0.

    Example:
        >>> melodies(3, 4).sound.shape
        torch.Size([3, 4000])
    """
    count, notes = checks.count("count", count), checks.count("notes", notes)
    draw = np.random.default_rng(checks.count("seed", seed, least=0))
    rows, played = [], np.arange(count) % len(INSTRUMENTS)
    for which in played:
        row = [int(draw.integers(len(SCALE)))]
        while len(row) < notes:
            row.append((row[-1] + int(draw.integers(1, len(SCALE)))) % len(SCALE))
        rows.append((int(which), row))
    sound = torch.stack([
        melody(INSTRUMENTS[which], row, note_length=note_length, rate=rate,
               seed=int(draw.integers(2**31)))
        for which, row in rows
    ])  # fmt: skip
    return Melodies(
        sound=sound,
        notes=torch.tensor([row for _, row in rows]).repeat_interleave(note_length, 1),
        instruments=torch.from_numpy(played),
        rate=rate,
        source="generated: Karplus and Strong's string, and a sum of odd harmonics",
        licence="none needed",
    )


def melody(
    instrument: str,
    notes: Sequence[int],
    *,
    note_length: int = 1000,
    rate: int = 4000,
    seed: int = 0,
) -> Float[Tensor, " t"]:
    """Return one melody: notes of `SCALE`, by number, one after the other.

    Args:
        instrument: of `INSTRUMENTS`.
        notes: numbers in 0 … 7, one or more.
        note_length: samples of a note, ≥ 1.
        rate: samples a second.
        seed: of bursts and phases, ≥ 0.
    """
    play = PLAYED[checks.one_of("instrument", instrument, INSTRUMENTS)]
    for at, note in enumerate(notes):
        checks.one_of(f"notes[{at}]", note, range(len(SCALE)))
    if not len(notes):
        raise ValueError("notes must name one note or more, got none")
    parts = [
        play(
            SCALE[note],
            note_length,
            rate,
            seed=1000 * checks.count("seed", seed, least=0) + at,
        )
        for at, note in enumerate(notes)
    ]
    return torch.cat(parts).float()
