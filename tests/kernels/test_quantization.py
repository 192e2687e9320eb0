"""Grids and NF4 against loops, torch's fake quantisation, SciPy and bitsandbytes."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnlib.kernels import quantization as module
from nnlib.kernels.quantization import (
    NF4,
    Quantized,
    dequantize,
    nf4_dequantize,
    nf4_levels,
    nf4_quantize,
    pack,
    quantize,
    unpack,
)
from tests.kernel_support import plant
from tests.support import Peer, refuses

bitsandbytes = Peer("bitsandbytes.functional")
norm = Peer("scipy.stats")

GRIDS = {"tensor": ("tensor", None), "row": ("row", None), "groups of 4": ("group", 4)}
grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
kinds = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
widths = pytest.mark.parametrize("bits", range(2, 9))


def numbers(*shape, scale=1.0):
    return scale * torch.randn(*shape) * torch.rand(*shape[:-1], 1).exp()


def by_loops(x, bits, size, symmetric):
    """Return codes and what they stand for, one number after the other, in Python's float64."""
    codes, near = [], []
    for start in range(0, len(x), size):
        part = x[start : start + size]
        if symmetric:
            top = 2 ** (bits - 1) - 1
            step, zero, least = max(abs(v) for v in part) / top, 0, -top
        else:
            top, least = 2**bits - 1, 0
            low, high = min(0.0, *part), max(0.0, *part)
            step = (high - low) / top
            zero = round(-low / step) if step else 0
        step = step or 1.0
        for v in part:
            codes.append(min(max(round(v / step) + zero, least), top))  # round: half to even
            near.append((codes[-1] - zero) * step)
    return codes, near


# ------------------------------------------------------------------------------------------- grids
@grids
@kinds
@widths
def test_codes_are_those_of_a_loop(grid, symmetric, bits):
    x = numbers(3, 12).double()
    granularity, group_size = grid
    size = {"tensor": 36, "row": 12, "group": 4}[granularity]
    q = quantize(x, bits, granularity, group_size, symmetric)
    codes, near = by_loops(x.flatten().tolist(), bits, size, symmetric)
    assert q.values.shape == x.shape
    assert q.values.flatten().tolist() == codes
    torch.testing.assert_close(dequantize(q).flatten(), torch.tensor(near).double())
    assert q.values.dtype == (torch.int8 if symmetric else torch.uint8)
    assert (q.zero_point is None) == symmetric


@widths
def test_is_what_torch_fakes_with_the_same_scales(bits):
    x, top = numbers(5, 33), 2 ** (bits - 1) - 1
    q = quantize(x, bits)
    theirs = torch.fake_quantize_per_channel_affine(
        x, q.scale[:, 0], torch.zeros(5, dtype=torch.int32), 0, -top, top
    )
    torch.testing.assert_close(dequantize(q), theirs, rtol=1e-6, atol=1e-7)
    q = quantize(x, bits, "tensor", symmetric=False)
    theirs = torch.fake_quantize_per_tensor_affine(
        x, float(q.scale), int(q.zero_point), 0, 2**bits - 1
    )
    torch.testing.assert_close(dequantize(q), theirs, rtol=1e-6, atol=1e-7)


def test_scales_have_one_entry_in_place_of_a_group():
    x = numbers(2, 3, 8)
    assert quantize(x, granularity="tensor").scale.shape == ()
    assert quantize(x).scale.shape == (2, 3, 1)
    assert quantize(x, 4, "group", 2).scale.shape == (2, 3, 4)
    assert quantize(x, 4, "group", 2, symmetric=False).zero_point.shape == (2, 3, 4)
    assert quantize(x[0, 0]).scale.shape == (1,)
    assert quantize(x[0, 0, 0], granularity="tensor").values.shape == ()


@given(
    x=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=12),
    bits=st.integers(2, 8), symmetric=st.booleans(),
)  # fmt: skip
def test_no_number_is_off_by_more_than_half_a_step(x, bits, symmetric):
    x = torch.tensor(x)
    q = quantize(x, bits, symmetric=symmetric)
    # an asymmetric grid may be moved by half a step, so that zero lies on it
    most = (0.5 if symmetric else 1.0) * q.scale + 1e-4 * x.abs().max()
    assert ((dequantize(q) - x).abs() <= most).all()
    assert (dequantize(q)[x == 0] == 0).all()


@grids
@kinds
def test_rows_of_zeros_have_scale_one(grid, symmetric):
    q = quantize(torch.zeros(2, 8), 4, *grid, symmetric)
    assert (q.scale == 1).all()
    assert not q.values.any()
    assert not dequantize(q).any()
    tiny = torch.full((2, 8), 1e-45)  # whose step would be 0
    assert quantize(tiny, 8, *grid, symmetric).scale.isfinite().all()
    assert dequantize(quantize(tiny, 8, *grid, symmetric)).isfinite().all()


@grids
@kinds
def test_very_large_numbers_do_not_overflow(grid, symmetric):
    most = torch.finfo(torch.float32).max / 1.5  # twice that is not finite
    x = torch.tensor([[-most, most, 0.0, 1.0]])
    q = quantize(x, 8, *grid, symmetric)
    assert q.scale.isfinite().all()
    torch.testing.assert_close(dequantize(q) / most, x / most, rtol=0, atol=0.005)


@grids
@kinds
def test_nothing_in_nothing_out(grid, symmetric):
    for shape in ((0, 8), (3, 0), (0,)):
        q = quantize(torch.zeros(shape), 4, *grid, symmetric)
        assert dequantize(q).shape == shape


def test_scales_are_float32_or_float64():
    x = numbers(3, 16)
    for dtype, wide in ((torch.float16, torch.float32), (torch.bfloat16, torch.float32),
                        (torch.float64, torch.float64)):  # fmt: skip
        q = quantize(x.to(dtype))
        assert q.scale.dtype == dequantize(q).dtype == wide
        assert torch.equal(q.values, quantize(x.to(dtype).to(wide)).values)


def test_has_no_gradient_and_leaves_its_input_alone():
    x = numbers(3, 16).requires_grad_()
    before = x.detach().clone()
    for q in (quantize(x), quantize(x, symmetric=False)):
        assert not q.scale.requires_grad
    assert not nf4_dequantize(nf4_quantize(x, double=True)).requires_grad
    assert torch.equal(x, before)


@widths
@kinds
def test_bytes_are_those_of_packed_codes_and_scales(bits, symmetric):
    q = quantize(numbers(3, 20), bits, "group", 5, symmetric)
    zeros = 0 if symmetric else len(pack(q.zero_point, bits))
    assert q.bytes == len(pack(q.values, bits)) + zeros + 4 * 12


@given(codes=st.lists(st.integers(0, 255), max_size=40), bits=st.integers(2, 8))
def test_packed_codes_come_back(codes, bits):
    codes = torch.tensor(codes, dtype=torch.int64) % 2**bits
    packed = pack(codes, bits)
    assert len(packed) == math.ceil(len(codes) * bits / 8)
    assert unpack(packed, bits, len(codes)).tolist() == codes.tolist()
    whole = sum(int(code) << bits * at for at, code in enumerate(codes))  # one long number
    assert packed.tolist() == list(whole.to_bytes(len(packed), "little"))


def test_negative_codes_are_packed_as_twos_complement():
    codes = quantize(numbers(4, 16), 4).values
    back = unpack(pack(codes, 4), 4, 64).int()
    assert torch.equal(back - 16 * (back > 7), codes.flatten().int())


# --------------------------------------------------------------------------------------------- NF4
def test_levels_are_quantiles_of_the_normal_distribution():
    p = 929 / 960
    above = [norm.norm.ppf(p + (0.5 - p) * at / 8) for at in range(8)]
    below = [-norm.norm.ppf(p + (0.5 - p) * at / 7) for at in range(7)]
    wanted = sorted([*above, *below, 0.0])
    wanted = torch.tensor([float(level / max(above)) for level in wanted])
    torch.testing.assert_close(nf4_levels(), wanted, rtol=0, atol=3e-7)
    assert nf4_levels()[7] == 0 and nf4_levels()[15] == 1 and nf4_levels()[0] == -1


def test_levels_are_those_of_bitsandbytes():
    """Bit for bit: the constants that they ship, and what they derived those from."""
    assert torch.equal(nf4_levels(), bitsandbytes.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(nf4_levels(), bitsandbytes.create_normal_map().unique())


@pytest.mark.parametrize(
    "shape", [(64, 64), (3, 256), (3, 100), (7, 9), (1000,), (2, 5, 33)], ids=str
)
@pytest.mark.parametrize("block_size", [64, 128])
def test_codes_and_weights_are_those_of_bitsandbytes(shape, block_size):
    weight = numbers(*shape)
    q = nf4_quantize(weight, block_size)
    codes, state = bitsandbytes.quantize_4bit(weight, blocksize=block_size, quant_type="nf4")
    assert torch.equal(q.codes, codes.flatten())
    assert torch.equal(q.absmax, state.absmax)
    if len(shape) == 2 and shape[1] % block_size == 0:  # else theirs is wrong on a CPU
        theirs = bitsandbytes.dequantize_4bit(codes, state)
        torch.testing.assert_close(nf4_dequantize(q), theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("block_size", module.BLOCK_SIZES)
def test_each_number_gets_the_nearest_level_of_its_block(block_size):
    weight = numbers(5, 77)
    near, levels = nf4_dequantize(nf4_quantize(weight, block_size)), nf4_levels()
    for part, got in zip(
        weight.flatten().split(block_size), near.flatten().split(block_size), strict=True
    ):
        grid = levels * part.abs().max()
        wanted = grid[(part[:, None] - grid).abs().argmin(1)]
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("shape", [(32, 64), (70, 300), (3, 5), (513, 64)], ids=str)
def test_doubled_scales_are_eight_bits_and_close(shape):
    weight = numbers(*shape)
    once, twice = nf4_quantize(weight), nf4_quantize(weight, double=True)
    assert torch.equal(once.codes, twice.codes)
    assert twice.absmax.dtype == torch.int8
    kept, off = module.nf4_absmax(twice), twice.absmax_offset
    torch.testing.assert_close(off, once.absmax.mean())
    for ours, true in zip(kept.split(256), once.absmax.split(256), strict=True):
        step = (true - off).abs().max() / 127
        assert ((ours - true).abs() <= 0.5 * step + 1e-6).all()


def test_four_and_a_half_bits_a_number_and_doubled_a_little_more_than_four():
    weight = torch.randn(1024, 1024)
    assert nf4_quantize(weight).bytes * 8 / 2**20 == 4.5
    doubled = nf4_quantize(weight, double=True).bytes * 8 / 2**20
    assert doubled == 4 + 8 / 64 + 32 / (64 * 256) + 32 / 2**20
    assert round(doubled, 3) == 4.127


def test_blocks_of_zeros_stay_zeros():
    weight = torch.randn(4, 64)
    weight[2] = 0
    for double in (False, True):
        q = nf4_quantize(weight, double=double)
        assert not nf4_dequantize(q)[2].any()
        assert not nf4_dequantize(nf4_quantize(0 * weight, double=double)).any()
        assert nf4_dequantize(nf4_quantize(weight[:0], double=double)).shape == (0, 64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_weight_comes_back_in_its_dtype(dtype):
    weight = numbers(3, 70).to(dtype)
    q = nf4_quantize(weight)
    assert nf4_dequantize(q).dtype == dtype
    assert torch.equal(q.codes, nf4_quantize(weight.float()).codes)


# ------------------------------------------------------------------------------------------ errors
def test_bad_input_is_refused_by_name():
    x = torch.ones(2, 6)
    for bad in (torch.tensor([1.0, math.nan]), torch.tensor([1.0, -math.inf])):
        with refuses(ValueError, "x must be finite, got 1 values that are NaN or infinite"):
            quantize(bad)
        with refuses(ValueError, "weight must be finite, got 1 values that are NaN or infinite"):
            nf4_quantize(bad)
    with refuses(TypeError, "x must be floating point, got torch.int64"):
        quantize(x.long())
    for bad in (1, 9, -4):
        with refuses(ValueError, f"bits={bad} must be"):
            quantize(x, bad)
        with refuses(ValueError, f"bits={bad} must be"):
            pack(x.long(), bad)
    with refuses(TypeError, "bits=4.0 must be an integer"):
        quantize(x, 4.0)
    with refuses(ValueError, "granularity='column' must be one of ['tensor', 'row', 'group']"):
        quantize(x, granularity="column")
    with refuses(ValueError, "group_size=4 does not divide the last axis of x, 6"):
        quantize(x, granularity="group", group_size=4)
    with refuses(ValueError, "granularity='group' needs group_size, an integer ≥ 1"):
        quantize(x, granularity="group")
    with refuses(ValueError, "group_size=0 must be an integer ≥ 1"):
        quantize(x, granularity="group", group_size=0)
    with refuses(ValueError, "group_size=3 needs granularity='group'"):
        quantize(x, group_size=3)
    with refuses(ValueError, "x must have an axis for granularity='row', got shape ()"):
        quantize(x[0, 0])
    with refuses(TypeError, "symmetric=1 must be True or False"):
        quantize(x, symmetric=1)
    with refuses(TypeError, "q must be a Quantized, got Tensor"):
        dequantize(x)
    with refuses(TypeError, "q must be an NF4, got Quantized"):
        nf4_dequantize(quantize(x))
    with refuses(ValueError, "block_size=60 must be one of"):
        nf4_quantize(x, 60)
    with refuses(TypeError, "double=None must be True or False"):
        nf4_quantize(x, double=None)
    with refuses(ValueError, "weight must be finite, got 12 values"):
        nf4_quantize(1e300 * x.double())
    with refuses(TypeError, "codes must hold integers, got torch.float32"):
        pack(x, 4)
    with refuses(TypeError, "packed must hold uint8, got torch.int64"):
        unpack(x.long().flatten(), 4, 2)
    with refuses(ValueError, "count=5 codes of 4 bits are more than 2 bytes"):
        unpack(torch.zeros(2, dtype=torch.uint8), 4, 5)


# ---------------------------------------------------------------------------------- planted bugs
BUGS = {
    "one level too many": ("top = 2 ** (bits - 1) - 1 if", "top = 2 ** (bits - 1) if"),
    "rounded down": ("scale).round().clamp(-top", "scale).floor().clamp(-top"),
    "a zero point of the wrong sign": ("zero = (-low / scale)", "zero = (low / scale)"),
    "a range without zero": ("torch.amin).clamp(max=0)", "torch.amin)"),
    "magnitudes forgotten": ("_extreme(grouped.abs(), torch.amax)",
                             "_extreme(grouped, torch.amax)"),
    "halves of a byte the other way round": ("codes[::2] << 4 | codes[1::2]",
                                             "codes[1::2] << 4 | codes[::2]"),
    "bounds at the levels": ("(levels[1:] + levels[:-1]) / 2", "levels[1:]"),
    "as many levels below zero as above": ("[:-1] for n in (8, 7)", "[:-1] for n in (7, 8)"),
    "another offset": ("OFFSET = 0.9677083", "OFFSET = 0.96875"),
    "a group's scale for the next": ("q.absmax.device) // ABSMAX_GROUP",
                                     "q.absmax.device) // ABSMAX_GROUP * 0"),
    "the mean not put back": ("q.absmax_scale[nth] + q.absmax_offset", "q.absmax_scale[nth]"),
}  # fmt: skip


def hold(form):
    """Fail unless a copy of the module quantises as loops and bitsandbytes do."""
    torch.manual_seed(0)
    x = numbers(2, 12).double()
    for bits, symmetric in itertools.product((2, 4, 8), (True, False)):
        for some in (x, x.abs() + 1):
            q = form.quantize(some, bits, symmetric=symmetric)
            codes, near = by_loops(some.flatten().tolist(), bits, 12, symmetric)
            assert q.values.flatten().tolist() == codes
            torch.testing.assert_close(form.dequantize(q).flatten(), torch.tensor(near).double())
    weight = torch.randn(300, 64)
    weight[256:] *= 50
    q = form.nf4_quantize(weight)
    codes, state = bitsandbytes.quantize_4bit(weight, quant_type="nf4", blocksize=64)
    assert torch.equal(q.codes, codes.flatten())
    torch.testing.assert_close(form.nf4_dequantize(q), bitsandbytes.dequantize_4bit(codes, state),
                               rtol=1e-6, atol=1e-6)  # fmt: skip
    kept = form.nf4_absmax(form.nf4_quantize(weight, double=True))
    assert ((kept - q.absmax).abs() < 0.7).all()


def test_the_healthy_module_passes_what_catches_the_bugs():
    hold(module)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path):
    bugged = plant(module, *BUGS[bug], tmp_path)
    with pytest.raises(AssertionError):
        hold(bugged)


def test_the_kinds_of_result_can_be_told_apart():
    assert isinstance(quantize(torch.ones(2)), Quantized)
    assert isinstance(nf4_quantize(torch.ones(2)), NF4)
