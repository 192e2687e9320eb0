"""The argument checks: what passes comes back unchanged, what does not is named."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnlib import checks
from tests.support import refuses


@given(value=st.integers(-5, 5), least=st.integers(-3, 3))
def test_count_takes_integers_from_its_least_on(value, least):
    if value >= least:
        assert checks.count("n", value, least=least) == value
    else:
        with refuses(ValueError, f"n={value} must be an integer ≥ {least}"):
            checks.count("n", value, least=least)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, float("nan")])
def test_count_takes_nothing_but_integers(value):
    with refuses(TypeError, f"n={value!r} must be an integer"):
        checks.count("n", value)


@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_number_holds_every_bound(value):
    inside = math.isfinite(value) and 0 < value <= 1
    if inside:
        assert checks.number("p", value, above=0, most=1) == value
    else:
        with refuses(ValueError, "must be a finite number > 0 and ≤ 1"):
            checks.number("p", value, above=0, most=1)


def test_number_excludes_and_includes_as_it_says():
    assert checks.number("p", 0, least=0, below=1) == 0.0
    for value in (1.0, -1e-9):
        with refuses(ValueError, "≥ 0 and < 1"):
            checks.number("p", value, least=0, below=1)
    with refuses(TypeError, "p='x'"):
        checks.number("p", "x")


def test_one_of_names_the_choices():
    assert checks.one_of("split", "train", ("train", "test")) == "train"
    with refuses(ValueError, "split='tests' must be one of ['train', 'test']"):
        checks.one_of("split", "tests", ("train", "test"))


@pytest.mark.parametrize(
    ("value", "wanted", "error", "message"),
    [
        ([1.0], {}, TypeError, "x must be a torch.Tensor, got list"),
        (torch.ones(2, dtype=torch.long), {"floating": True}, TypeError, "got torch.int64"),
        (torch.ones(2), {"floating": False}, TypeError, "x must hold integers"),
        (torch.ones(2).bool(), {"floating": False}, TypeError, "x must hold integers"),
        (torch.ones(2, 3), {"shape": ("n", 4)}, ValueError, "shape (n, 4), got (2, 3)"),
        (torch.ones(2), {"shape": ("n", None)}, ValueError, "shape (n, any), got (2,)"),
        (torch.ones(0, 3), {"empty": False}, ValueError, "x must not be empty"),
        (torch.tensor([1.0, math.nan]), {"finite": True}, ValueError, "got 1 values that are NaN"),
        (torch.tensor([math.inf]), {"finite": True}, ValueError, "x must be finite"),
    ],
)
def test_tensor_refuses_by_name(value, wanted, error, message):
    with refuses(error, message):
        checks.tensor("x", value, **wanted)


def test_tensor_returns_what_fits():
    x = torch.randn(2, 3)
    wanted = {"shape": ("n", 3), "floating": True, "finite": True, "empty": False}
    assert checks.tensor("x", x, **wanted) is x


@given(classes=st.integers(1, 5), values=st.lists(st.integers(-2, 6), max_size=6))
def test_labels_lie_in_their_range(classes, values):
    y = torch.tensor(values, dtype=torch.long)
    if all(0 <= v < classes for v in values):
        assert checks.labels("y", y, classes) is y
    else:
        with refuses(ValueError, f"y must hold classes 0 … {classes - 1}"):
            checks.labels("y", y, classes)


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, None, "True"])
def test_a_flag_is_no_number_that_equals_one(value):
    assert checks.flag("on", True) is True and checks.flag("on", False) is False
    with refuses(TypeError, f"on={value!r} must be True or False"):
        checks.flag("on", value)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([[0]], TypeError, "ids must be a torch.Tensor"),
        (torch.zeros(1, 2), TypeError, "ids must hold integers"),
        (torch.zeros(1, 2, dtype=torch.complex64), TypeError, "ids must hold integers"),
        (torch.zeros(1, 2, dtype=torch.int16), TypeError, "ids must hold int64 or int32"),
        (torch.zeros(2, dtype=torch.long), ValueError, "ids must have shape (b, t), got (2,)"),
        (torch.zeros(0, 2, dtype=torch.long), ValueError, "ids must not be empty"),
        (torch.tensor([[0, 3]]), ValueError, "ids must be 0 … 2 (vocab_size), got 0 … 3"),
        (torch.tensor([[-1, 0]]), ValueError, "ids must be 0 … 2 (vocab_size), got -1 … 0"),
    ],
)
def test_tokens_are_ids_of_the_vocabulary(value, error, message):
    with refuses(error, message):
        checks.tokens("ids", value, 3)


def test_tokens_off_the_cpu_are_not_read():
    ids = torch.full((1, 2), 9, device="meta")
    assert checks.tokens("ids", ids, 3) is ids


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "mask must be a torch.Tensor"),
        (torch.ones(2, 2, dtype=torch.long), TypeError, "True where one may look"),
        (torch.ones(3, 2, dtype=torch.bool), ValueError, "must broadcast to (4, 2, 2), got (3, 2)"),
        (torch.ones(1, 4, 2, 2, dtype=torch.bool), ValueError, "must broadcast to (4, 2, 2)"),
    ],
)
def test_mask_says_who_may_look(value, error, message):
    with refuses(error, message):
        checks.mask("mask", value, (4, 2, 2))


def test_mask_and_key_mask_that_fit_come_back():
    for seen in (torch.ones(2, 2, dtype=torch.bool), torch.zeros(4, 1, 2)):
        assert checks.mask("mask", seen, (4, 2, 2)) is seen
    real = torch.ones(2, 3, dtype=torch.bool)
    assert checks.key_mask("key_mask", real, (2, "t")) is real
    with refuses(TypeError, "key_mask must hold True at real tokens, got torch.int64"):
        checks.key_mask("key_mask", real.long(), (2, 3))


@pytest.mark.parametrize(
    ("value", "wanted", "error", "message"),
    [
        ([1.0], {}, TypeError, "x must be a torch.Tensor, got list"),
        (torch.zeros(1, 3, 4, 4).long(), {}, TypeError, "x must be floating point"),
        (torch.zeros(3, 4, 4), {}, ValueError, "x must have shape (b, c, y, x), got (3, 4, 4)"),
        (torch.zeros(1, 1, 4, 4), {"channels": 3}, ValueError, "shape (b, 3, y, x), got (1, 1,"),
        (torch.zeros(1, 3, 9, 7), {"least": 8}, ValueError, "at least 8 rows and columns, got (1,"),
        (torch.zeros(1, 3, 0, 7), {}, ValueError, "at least 1 rows and columns"),
    ],
)
def test_images_have_channels_rows_and_columns(value, wanted, error, message):
    with refuses(error, message):
        checks.images("x", value, **wanted)


def test_images_that_fit_come_back():
    x = torch.zeros(0, 3, 8, 9)
    assert checks.images("x", x, 3, least=8) is x and checks.images("x", x) is x
