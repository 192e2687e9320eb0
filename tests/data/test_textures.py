"""Letters on photographs: what is painted is what the answer says; nothing is in both splits."""

import pytest
import torch

from nnlib.data.letters import glyphs
from nnlib.data.textures import HELD_OUT, TEXTURES, letters_on_textures
from tests.support import refuses


def test_no_photograph_is_in_both_splits():
    assert not set(TEXTURES["train"]) & set(TEXTURES["test"])


@pytest.mark.parametrize("split", TEXTURES)
def test_shapes_values_and_a_seed(split):
    data = letters_on_textures(split, count=9, size=24, seed=3)
    assert data.x.shape == (9, 1, 24, 24) and data.y.shape == (9, 24, 24)
    assert data.x.min() >= 0 and data.x.max() <= 1
    assert set(data.y.unique().tolist()) == {0, 1}
    again = letters_on_textures(split, count=9, size=24, seed=3)
    assert torch.equal(data.x, again.x) and torch.equal(data.y, again.y)
    other = letters_on_textures(split, count=9, size=24, seed=4)
    assert not torch.equal(data.x, other.x)


def test_without_contrast_ink_is_flat_and_has_the_mean_of_what_it_covers():
    """So no threshold can find it, and only a missing texture gives it away."""
    data = letters_on_textures("train", count=20, size=48, contrast=0)
    for x, y in zip(data.x[:, 0], data.y, strict=True):
        inner = x[y == 1]  # pixels that are mostly ink, at edges mixed with the ground
        assert (inner - inner.median()).abs().median() < 0.02


def test_ink_is_lighter_in_some_pictures_and_darker_in_others():
    data = letters_on_textures("train", count=60, contrast=0.4)
    ahead = [(x[y == 1].mean() - x[y == 0].mean()).item()
             for x, y in zip(data.x[:, 0], data.y, strict=True)]  # fmt: skip
    lighter = sum(v > 0 for v in ahead)
    assert 15 < lighter < 45 and max(ahead) > 0.2 and min(ahead) < -0.2


def test_the_tests_letters_and_fonts_are_its_own():
    """Fonts are held out by `glyphs`; which letters are, can be counted there."""
    letters = torch.tensor([ord(letter) - ord("A") for letter in HELD_OUT])
    _, which = glyphs("train")
    assert torch.isin(which, letters).sum() == 16 * len(HELD_OUT)


def test_bad_arguments_are_named():
    for given, error, message in (
        ({"split": "valid"}, ValueError, "split='valid'"),
        ({"count": 0}, ValueError, "count=0"),
        ({"size": 200}, ValueError, "size=200"),
        ({"contrast": 2}, ValueError, "contrast=2"),
        ({"seed": -1}, ValueError, "seed=-1"),
    ):
        with refuses(error, message):
            letters_on_textures(**given)
