"""Letters from fonts: which fonts, which letters, and what a warp does to them."""

from pathlib import Path

import pytest
import torch
from matplotlib import get_data_path

from nnlib.data.letters import FONTS, glyphs, letters, sign_letters, warped
from tests.support import refuses

DRAWN = {case: glyphs("all", case) for case in ("upper", "both")}


def test_no_font_is_in_both_splits_and_all_are_there():
    assert len(FONTS["train"]) == 16 and len(FONTS["test"]) == 6
    assert not set(FONTS["train"]) & set(FONTS["test"])
    folder = Path(get_data_path()) / "fonts" / "ttf"
    assert all((folder / f"{font}.ttf").is_file() for part in FONTS.values() for font in part)


def test_splits_are_the_fonts_in_their_order():
    x, y = DRAWN["upper"]
    assert x.shape == (22 * 26, 1, 64, 64) and y.tolist() == list(range(26)) * 22
    assert (torch.cat([glyphs("train")[0], glyphs("test")[0]]) == x).all()
    assert glyphs("test", "both")[1].tolist() == [*range(26), *range(26)] * 6


def test_every_letter_has_ink_none_is_cut_off_and_no_two_are_the_same():
    x, _ = DRAWN["both"]
    assert x.min() == 0 and x.max() == 1
    assert (x.mean((1, 2, 3)) > 0.01).all()
    edges = torch.cat([x[..., 0], x[..., -1], x[..., 0, :], x[..., -1, :]], -1)
    assert not edges.any()
    assert len(x.flatten(1).unique(dim=0)) == len(x)


def test_an_i_is_slim_and_an_o_has_a_hole():
    x, y = DRAWN["upper"]
    wide = x.amax((1, 2)).count_nonzero(1).double()
    assert wide[y == ord("I") - ord("A")].mean() < 0.6 * wide[y == ord("M") - ord("A")].mean()
    middle = x[y == ord("O") - ord("A"), 0, 30:34, 30:34]
    assert not middle.any()


def test_what_is_handed_out():
    given = letters("test", copies=3, size=20)
    assert given.x.shape == (6 * 26 * 3, 1, 20, 20) and given.x.dtype == torch.float32
    assert given.x.min() >= 0 and given.x.max() <= 1
    assert given.y.bincount().tolist() == [18] * 26 and "".join(given.classes) == (
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    )
    assert given.y[:26].tolist() != list(range(26))  # in another order
    assert len(letters("train", copies=1, case="both")) == 16 * 52


def test_the_same_arguments_give_the_same_letters_and_another_seed_others():
    one, again, other = (letters("test", copies=1, seed=seed) for seed in (4, 4, 5))
    assert (one.x == again.x).all() and (one.y == again.y).all()
    assert not (one.x == other.x).all()


def test_without_a_warp_and_a_shift_a_letter_only_changes_its_size():
    x = DRAWN["upper"][0][:5]
    small = warped(x, 16, warp=0, shift=0)
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(x, 4), rtol=0, atol=0.13)
    torch.testing.assert_close(small.mean((1, 2, 3)), x.mean((1, 2, 3)), rtol=0.01, atol=1e-3)


def centre(x):
    """The middle of the ink of each image, in shares of its side."""
    at = (torch.arange(x.shape[2]) + 0.5) / x.shape[2]
    ink = x.sum((1, 2, 3))
    down = (x.sum((1, 3)) * at).sum(1) / ink
    return torch.stack([down, (x.sum((1, 2)) * at).sum(1) / ink], 1)


def test_a_shift_moves_the_ink_as_far_as_it_may_and_no_farther():
    x = torch.zeros(400, 1, 64, 64)
    x[:, :, 30:34, 30:34] = 1
    moved = centre(warped(x, 32, warp=0, shift=0.2, generator=torch.Generator().manual_seed(0)))
    away = (moved - 0.5).abs()
    assert away.max() <= 0.2 + 1e-3 and away.max() > 0.19 and away.mean() > 0.08


def test_a_warp_keeps_ink_within_the_promised_scales():
    x = torch.zeros(300, 1, 64, 64)
    x[:, :, 24:40, 24:40] = 1
    ink = warped(x, 32, shift=0, generator=torch.Generator().manual_seed(0)).sum((1, 2, 3)) * 4
    share = ink / 16**2
    assert share.min() > 0.85**2 - 0.02 and share.max() < 1.15**2 + 0.02
    assert share.min() < 0.78 and share.max() > 1.25


def test_letters_of_signs_fill_their_square_and_are_all_different():
    for font in ("DejaVuSans", "DejaVuSans-Bold", "cmr10"):
        signs = sign_letters(16, font)
        assert signs.shape == (26, 256) and signs.abs().eq(1).all()
        assert len(signs.unique(dim=0)) == 26
    whole = glyphs("train")[0][:26, 0]  # DejaVuSans is the first of them
    inside = whole[:, 11:59, 8:56]
    assert inside.count_nonzero() == whole.count_nonzero(), "a letter is cut"
    rows = sign_letters().view(26, 16, 16).gt(0).any(2).sum(1)
    assert (rows >= 11).all()


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: letters("dev"), ValueError, "split='dev' must be one of"),
        (lambda: letters(copies=0), ValueError, "copies=0"),
        (lambda: letters(size=7), ValueError, "size=7 must be an integer ≥ 8"),
        (lambda: letters(size=65), ValueError, "size=65 must be a finite number ≤ 64"),
        (lambda: letters(case="Upper"), ValueError, "case='Upper' must be one of"),
        (lambda: letters(warp=-1), ValueError, "warp=-1"),
        (lambda: letters(shift=0.6), ValueError, "shift=0.6"),
        (lambda: letters(seed=-1), ValueError, "seed=-1"),
        (lambda: sign_letters(size=49), ValueError, "size=49 must be a finite number ≤ 48"),
        (lambda: sign_letters(font="Arial"), ValueError, "font='Arial' must be one of"),
        (lambda: warped(torch.zeros(2, 3, 3), 4), ValueError, "x must have shape (n, c, y, x)"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, error, told):
    with refuses(error, told):
        call()
