"""Players of sounds: a file that others read, markup that names each, limits that are told."""

import base64
import io
import re
import struct

import numpy as np
import pytest
import torch

from nnlib import notebook
from nnlib.notebook import sound
from tests.support import refuses


@pytest.fixture(autouse=True)
def run():
    notebook.setup()


def unfolded(data):
    """G.711's bytes as samples, by the expansion that the standard gives."""
    coded = ~np.frombuffer(data, dtype=np.uint8) & 255
    size = ((coded & 15).astype(int) * 2 + 33 << (coded >> 4 & 7).astype(int)) - 33
    return np.where(coded & 128, -size, size) * 4 / 32767


def test_what_is_heard_is_what_was_given_within_a_half_place():
    samples = torch.linspace(-1, 1, 20_001, dtype=torch.float64).numpy()
    heard = unfolded(sound.g711(samples))
    steps = (np.abs(samples) + 132 / 32767) / 16  # sixteen a piece, and a piece is an octave
    assert (np.abs(heard - np.clip(samples, -0.9804, 0.9804)) <= steps / 2 + 1e-4).all()
    assert (np.diff(heard) >= 0).all()


def test_silence_and_the_loudest_samples_have_the_bytes_of_the_standard():
    assert sound.g711(np.array([0.0, 1.0, -1.0])) == bytes([0xFF, 0x80, 0x00])


def test_a_file_has_the_header_that_readers_expect():
    scipy = pytest.importorskip("scipy.io.wavfile")
    file = sound.wav(torch.zeros(101), 8000)
    assert file[:4] == b"RIFF" and file[8:16] == b"WAVEfmt "
    assert struct.unpack("<I", file[4:8])[0] == len(file) - 8
    kind, channels, rate, per_second, frame, bits = struct.unpack("<HHIIHH", file[20:36])
    assert (kind, channels, rate, per_second, frame, bits) == (7, 1, 8000, 8000, 1, 8)
    at = file.index(b"data")
    assert struct.unpack("<I", file[at + 4 : at + 8]) == (101,)
    assert len(file) % 2 == 0
    with pytest.raises(ValueError, match="MULAW"):  # scipy knows the kind, and plays none of it
        scipy.read(io.BytesIO(file))


def test_players_are_named_and_hold_their_file(monkeypatch):
    shown = []
    monkeypatch.setattr(sound, "display", lambda it: shown.append(it.data))
    sound.listen({"a < b": torch.zeros(10), "two": torch.ones(5)}, "pair", rate=8000, caption="x")
    assert len(re.findall("<audio controls", shown[0])) == 2
    assert 'aria-label="a &lt; b"' in shown[0] and "<figcaption>x</figcaption>" in shown[0]
    coded = re.findall(r"base64,([^\"]+)", shown[0])
    assert base64.b64decode(coded[1]) == sound.wav(torch.ones(5), 8000)


def test_what_cannot_be_played_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(sound, "display", lambda it: None)
    clip = {"one": torch.zeros(10)}
    sound.listen(clip, "once", rate=8000, caption="")
    with refuses(ValueError, "name='once' already names a figure"):
        sound.listen(clip, "once", rate=8000, caption="")
    with refuses(ValueError, "rate=4000 must be an integer ≥ 8000"):
        sound.listen(clip, "slow", rate=4000, caption="")
    with refuses(ValueError, "rate=96000 must be at most 48000"):
        sound.listen(clip, "fast", rate=96000, caption="")
    with refuses(ValueError, "clips of 'none' take 0 bytes"):
        sound.listen({}, "none", rate=8000, caption="")
    with refuses(ValueError, "clips of 'long' take"):
        sound.listen({"one": torch.zeros(200_001)}, "long", rate=8000, caption="")
    with refuses(ValueError, "samples must lie in -1 … 1, got 0 … 2"):
        sound.listen({"loud": torch.tensor([0.0, 2.0])}, "loud", rate=8000, caption="")
    with refuses(ValueError, "samples must not be empty"):
        sound.wav(torch.zeros(0), 8000)
