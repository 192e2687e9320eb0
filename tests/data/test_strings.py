"""Strings against their difference equation, reeds against Fourier's, and both against a tuner."""

import math

import numpy as np
import pytest
import torch

from nnlib.data.strings import INSTRUMENTS, SCALE, melodies, melody, pluck, reed
from tests.support import refuses


@pytest.mark.equation("wavenet-string")
@pytest.mark.parametrize(("frequency", "damping"), [(73.42, 0.996), (196.0, 1.0), (333.3, 0.9)])
def test_a_string_follows_its_law_sample_by_sample(frequency, damping):
    y = pluck(frequency, 500, damping=damping, seed=3).numpy()
    delay = 4000 / frequency - 0.5
    n, a = math.floor(delay), delay - math.floor(delay)
    for t in range(n, 500):
        old = [y[t - n - j] if t >= n + j else 0.0 for j in range(3)]
        wanted = damping * ((1 - a) / 2 * old[0] + old[1] / 2 + a / 2 * old[2])
        assert y[t] == pytest.approx(wanted, abs=1e-12)


def strongest(sound, rate, low, high):
    """The frequency of the strongest partial in a band, between the bins by a parabola."""
    x = sound.numpy() * np.hanning(len(sound))
    power = np.log(np.abs(np.fft.rfft(x, 1 << 17)) + 1e-12)
    step = rate / (1 << 17)
    first, last = int(low / step), int(high / step)
    at = first + int(power[first:last].argmax())
    a, b, c = power[at - 1 : at + 2]
    return (at + (a - c) / (2 * (a - 2 * b + c))) * step


@pytest.mark.parametrize("play", [pluck, reed])
@pytest.mark.parametrize("frequency", SCALE)
def test_an_instrument_is_in_tune(play, frequency):
    """Within a twentieth of a semitone, at its first partial."""
    sound = play(frequency, 8000, seed=2)[800:]
    heard = strongest(sound, 4000, 0.9 * frequency, 1.1 * frequency)
    assert abs(12 * math.log2(heard / frequency)) < 0.05


def test_a_reed_has_odd_harmonics_in_their_shares():
    sound = reed(100.0, 4000, seed=1).numpy()[400:4000]
    size = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 36_000))
    partials = [size[int(k * 100 * 9) - 3 : int(k * 100 * 9) + 4].max() for k in range(1, 7)]
    for k, partial in enumerate(partials, 1):
        wanted = 1 / k if k in (1, 3, 5) else 0
        assert partial / partials[0] == pytest.approx(wanted, abs=0.02)


def test_sounds_are_finite_and_not_too_loud():
    for play in (pluck, reed):
        for length in (1, 2, 7, 1000):
            sound = play(110.0, length)
            assert sound.shape == (length,) and torch.isfinite(sound).all()
            assert sound.abs().max() <= 0.9 + 1e-12


def test_melodies_alternate_and_repeat_with_their_seed():
    data = melodies(5, 3, note_length=50, seed=4)
    assert data.sound.shape == data.notes.shape == (5, 150)
    assert data.sound.dtype == torch.float32 and data.rate == 4000
    assert data.instruments.tolist() == [0, 1, 0, 1, 0]
    notes = data.notes[:, ::50]
    assert (notes.repeat_interleave(50, 1) == data.notes).all()
    assert (notes[:, 1:] != notes[:, :-1]).all()
    assert data.source and data.licence
    again, other = (melodies(5, 3, note_length=50, seed=s) for s in (4, 5))
    assert torch.equal(again.sound, data.sound) and not torch.equal(other.sound, data.sound)


def test_a_melody_is_its_notes_one_after_the_other():
    whole = melody("string", [2, 5], note_length=300, seed=7)
    assert torch.equal(whole[:300], pluck(SCALE[2], 300, seed=7000).float())
    assert torch.equal(whole[300:], pluck(SCALE[5], 300, seed=7001).float())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pluck(0, 10), "frequency=0 must be a finite number > 0 and ≤ 1000"),
        (lambda: pluck(1001, 10), "frequency=1001 must be"),
        (lambda: pluck(100, 0), "length=0 must be an integer ≥ 1"),
        (lambda: pluck(100, 10, damping=0), "damping=0 must be"),
        (lambda: reed(100, 10, harmonics=0), "harmonics=0 must be"),
        (lambda: melody("drum", [1]), f"instrument='drum' must be one of {list(INSTRUMENTS)}"),
        (lambda: melody("reed", [1, 8]), "notes[1]=8 must be one of"),
        (lambda: melody("reed", []), "notes must name one note or more"),
        (lambda: melodies(0), "count=0 must be an integer ≥ 1"),
    ],
)
def test_what_cannot_be_played_is_refused_by_name(call, message):
    with refuses(ValueError, message):
        call()
