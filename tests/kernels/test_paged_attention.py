"""Paged attention against torch's own over a cache in one piece, and each part of its kernels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnlib.kernels import _paged_attention_kernels as kernels
from nnlib.kernels import paged_attention as module
from nnlib.kernels.attention import attention
from nnlib.kernels.paged_attention import (
    paged_attention,
    paged_attention_cost,
    paged_attention_reference,
    paged_attention_triton,
)
from tests.kernel_support import compiled, hold_to_double, hold_to_hardware, plant
from tests.support import refuses


def gathered(q, cache, block_table, lengths, *, window=None, scale=None):
    """The plain form where lengths cannot be read: on a GPU, and under `torch.compile`."""
    return module._gathered(q, cache, block_table, lengths, window, module._scale(q, scale))


FORMS = {
    "kernel": paged_attention_triton,
    "public": paged_attention,
    "reference": paged_attention_reference,
    "gathered": gathered,
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
fast = pytest.mark.parametrize("form", [paged_attention_triton, paged_attention, gathered],
                               ids=["kernel", "public", "gathered"])  # fmt: skip
PUBLIC = ("kernel", "public", "reference")
public = pytest.mark.parametrize("form", [FORMS[name] for name in PUBLIC], ids=PUBLIC)
SHAPES = {  # lengths, heads, heads of keys, width, positions of a block
    "one key": ([1], 1, 1, 16, 1),
    "a head each": ([5, 64, 65], 3, 3, 16, 16),
    "groups of four": ([130, 1, 77], 8, 2, 24, 7),
    "groups of eight": ([200, 33], 8, 1, 60, 3),
    "more queries than a tile holds": ([70, 9], 70, 1, 16, 16),
    "a group of three": ([129, 3], 6, 2, 123, 13),
    "a block for all": ([40, 39], 4, 4, 128, 64),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
# numpy's, interpreting: what lies behind a mask may overflow
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def inputs(lengths, h, g, d, c, *, dtype=torch.float32, device="cpu", spare=3, rest=math.nan):
    """Return q, a cache, a table and lengths: blocks in no order, `rest` wherever no key stands."""
    m = max(1, -(-max(lengths) // c))
    blocks = len(lengths) * m + spare
    table = torch.randperm(blocks)[: len(lengths) * m].view(len(lengths), m).int()
    cache = torch.full((2, blocks, g, c, d), rest)
    for row, length in zip(table, lengths, strict=True):
        for j in range(length):
            cache[:, row[j // c], :, j % c] = torch.randn(2, g, d)
        row[-(-length // c) :] = -1  # as nobody has a block there
    q = torch.randn(len(lengths), h, d)
    given = [q.to(dtype), cache.to(dtype), table, torch.tensor(lengths).int()]
    return [x.to(device) for x in given]


def dense(q, cache, table, lengths, *, window=None, scale=None):
    """Torch's own attention, each sequence alone, its keys copied one by one into one piece."""
    c, out = cache.shape[3], []
    for one, row, length in zip(q, table.tolist(), lengths.tolist(), strict=True):
        at = range(length)[-window if window else 0 :]
        k, v = torch.stack([cache[:, row[j // c], :, j % c] for j in at], 2)
        out.append(F.scaled_dot_product_attention(
            one[None, :, None], k[None], v[None], enable_gqa=True, scale=scale
        )[0, :, 0])  # fmt: skip
    return torch.stack(out)


def hold(form, *given, **named):
    hold_to_double(
        lambda *x: form(*x, **named),
        lambda *x: paged_attention_reference(*x, **named),
        *given, grads=False,
    )  # fmt: skip


@shapes
@forms
def test_every_form_equals_torch_over_a_cache_in_one_piece(form, shape, kernel_device):
    given = inputs(*shape, device=kernel_device)
    wanted = dense(*given)
    torch.testing.assert_close(form(*given), wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("form", [paged_attention, paged_attention_reference, gathered],
                         ids=["public", "reference", "gathered"])  # fmt: skip
@pytest.mark.parametrize("window", [None, 1, 6, 1000], ids=str)
@shapes
def test_in_float64_to_twelve_digits(form, shape, window):
    given = inputs(*shape, dtype=torch.float64)
    got = form(*given, window=window, scale=0.3)
    wanted = dense(*given, window=window, scale=0.3)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d", [16, 32, 64, 80, 128])
@pytest.mark.parametrize("group", [1, 4, 8])
def test_kernel_errs_no_more_than_twice_as_plain_torch(group, d, kernel_device):
    for dtype in (torch.float32, torch.float16):
        given = inputs([100, 1, 67], 2 * group, 2, d, 5, dtype=dtype, device=kernel_device)
        hold(paged_attention_triton, *given)
        hold(paged_attention, *given)


@pytest.mark.parametrize("window", [1, 5, 64, 65, 1000], ids=str)
def test_a_window_is_the_last_keys(window, kernel_device):
    given = inputs([200, 1, 66], 4, 2, 16, 7, device=kernel_device)
    hold(paged_attention_triton, *given, window=window)
    hold(paged_attention, *given, window=window)


@pytest.mark.parametrize("scale", [0.0, 2.0, -1.0], ids=str)
def test_any_scale(scale, kernel_device):
    hold(paged_attention_triton, *inputs([70, 3], 4, 2, 16, 7, device=kernel_device), scale=scale)


def test_interpreted_bfloat16_is_upcast():
    given = inputs([70, 9], 4, 2, 16, 7, dtype=torch.bfloat16)
    hold(paged_attention_triton, *given)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("h", "g", "d", "c"),
    [(32, 8, 128, 16), (8, 8, 64, 16), (16, 1, 256, 32), (12, 2, 80, 7), (64, 1, 128, 1)],
)
def test_kernel_equals_the_reference_at_size(h, g, d, c, dtype):
    given = inputs([1000, 1, 3333, 17], h, g, d, c, dtype=dtype, device="cuda")
    for window in (None, 300):
        hold(paged_attention_triton, *given, window=window)


@pytest.mark.gpu
def test_one_long_context_is_cut_into_pieces_that_fill_the_gpu():
    assert kernels.pieces_of(8, 32768, torch.device("cuda")) > 16
    hold(paged_attention_triton, *inputs([30000], 8, 8, 64, 64, device="cuda"))


@fast
def test_equals_the_last_row_of_causal_attention(form, kernel_device):
    """Decoding after a prompt is what training computed for its last position."""
    t, h, g, d, c = 45, 8, 2, 16, 4
    q, k, v = (torch.randn(2, n, t, d, device=kernel_device) for n in (h, g, g))
    table = torch.randperm(24, device=kernel_device).view(2, 12)
    cache = torch.zeros(2, 24, g, c, d, device=kernel_device)
    for i in range(2):
        for j in range(t):
            cache[:, table[i, j // c], :, j % c] = torch.stack([k[i, :, j], v[i, :, j]])
    lengths = torch.full((2,), t, device=kernel_device)
    for window in (None, 9):
        wanted = attention(q, k, v, is_causal=True, window=window)[:, :, -1]
        got = form(q[:, :, -1], cache, table, lengths, window=window)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 80), min_size=1, max_size=4),
    g=st.integers(1, 3), group=st.integers(1, 5), d=st.integers(1, 40), c=st.integers(1, 20),
    window=st.none() | st.integers(1, 90),
)  # fmt: skip
def test_any_shape_at_all(lengths, g, group, d, c, window):
    given = inputs(lengths, g * group, g, d, c, dtype=torch.float64, spare=0)
    q, cache, table, held = given
    some = held > 0
    for form in (paged_attention, gathered):
        got = form(*given, window=window)
        assert not got[~some].any()
        if some.any():
            wanted = dense(q[some], cache, table[some], held[some], window=window)
            torch.testing.assert_close(got[some], wanted, rtol=1e-10, atol=1e-10)
    if not torch.cuda.is_available():
        single = [x.float() if x.is_floating_point() else x for x in given]
        hold(paged_attention_triton, *single, window=window)


@forms
def test_no_key_gives_zero(form, kernel_device):
    given = inputs([0, 70, 0], 4, 2, 16, 8, device=kernel_device)
    got = form(*given)
    assert not got[[0, 2]].any()
    torch.testing.assert_close(got[1:2], dense(*(x[1:2] if x is not given[1] else x
                                                 for x in given)))  # fmt: skip
    q, cache, table, lengths = given
    for empty in (cache, cache[:, :0]):
        assert not form(q, empty, table[:, :0], 0 * lengths).any()


@forms
def test_no_sequence_gives_nothing(form, kernel_device):
    q, cache, table, lengths = inputs([5], 4, 2, 16, 8, device=kernel_device)
    assert form(q[:0], cache, table[:0], lengths[:0]).shape == (0, 4, 16)


@forms
def test_nothing_behind_a_length_is_read(form, kernel_device):
    """Its last block's other places, blocks of others and of nobody, table entries: NaN and −1."""
    q, cache, table, lengths = inputs([66, 130], 4, 2, 16, 8, device=kernel_device)
    assert cache.isnan().any()
    assert form(q, cache, table, lengths).isfinite().all()
    table[0, 9:] = 10**6
    assert form(q, cache, table, lengths).isfinite().all()


@forms
def test_nan_stays_in_its_sequence_and_group(form, kernel_device):
    q, cache, table, lengths = inputs([66, 130], 4, 2, 16, 8, device=kernel_device)
    cache[1, table[1, 2], 0, 3, 5] = math.nan  # a value of the second sequence's first head
    bad = form(q, cache, table, lengths).isnan()
    assert bad[1, :2, 5].all()
    assert bad.sum() == 2
    q[0, 3, 0] = math.nan
    bad = form(q, cache, table, lengths).isnan()
    assert bad[0, 3].all() and not bad[0, :3].any()


@forms
def test_large_scores_do_not_overflow(form, kernel_device):
    q, cache, table, lengths = inputs([150, 70], 4, 2, 16, 8, device=kernel_device)
    got, wanted = form(1e4 * q, cache, table, lengths), dense(1e4 * q, cache, table, lengths)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@forms
def test_sequences_may_share_blocks(form, kernel_device):
    q, cache, table, lengths = inputs([100, 100], 4, 2, 16, 8, device=kernel_device)
    table[1, :9] = table[0, :9]
    torch.testing.assert_close(
        form(q, cache, table, lengths), dense(q, cache, table, lengths), rtol=2e-5, atol=2e-6
    )


@fast
def test_other_layouts_are_read_in_place(form, kernel_device):
    q, cache, table, lengths = inputs([100, 30], 4, 2, 16, 8, device=kernel_device)
    wanted = dense(q, cache, table, lengths)
    stored = cache.permute(1, 3, 2, 0, 4).contiguous().permute(3, 0, 2, 1, 4)  # blocks first
    wide = torch.stack([table, table], -1)[..., 0].long()
    mixed = q.mT.contiguous().mT
    got = form(mixed, stored, wide, torch.stack([lengths, lengths], 1)[:, 0].long())
    torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-6)
    layers = torch.stack([cache, -cache], 2)[:, :, 0]  # one of two layers in each block
    torch.testing.assert_close(form(q, layers, table, lengths), wanted, rtol=2e-5, atol=2e-6)


@fast
def test_inputs_stay_as_they_are(form, kernel_device):
    given = inputs([100, 30], 4, 2, 16, 8, device=kernel_device, rest=0.5)
    before = [x.clone() for x in given]
    form(*given)
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))


def test_two_runs_are_the_same_bit_for_bit(kernel_device):
    given = inputs([300, 30], 4, 2, 16, 8, device=kernel_device)
    assert torch.equal(paged_attention_triton(*given), paged_attention_triton(*given))


@pytest.mark.parametrize("pieces", [1, 2, 7, 20])
def test_a_context_may_be_cut_into_any_number_of_pieces(pieces, kernel_device, monkeypatch):
    """More than there are tiles of keys, too: some are then empty."""
    monkeypatch.setattr(kernels, "pieces_of", lambda *_: pieces)
    given = inputs([300, 1, 0], 2, 1, 16, 8, device=kernel_device)
    hold(paged_attention_triton, *given)
    hold(paged_attention_triton, *given, window=70)


def test_pieces_keep_a_gpu_busy_and_are_not_too_short(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(kernels, "processors", lambda device: 132)
    device = torch.device("cuda")
    assert kernels.pieces_of(8, 65536, device) == 33  # 264 programs, two a processor
    assert kernels.pieces_of(1, 10**6, device) == kernels.MOST_PIECES
    assert kernels.pieces_of(8, 1000, device) == 4
    assert kernels.pieces_of(1000, 65536, device) == 1
    assert kernels.pieces_of(8, 0, device) == 1


def test_plain_torch_has_a_gradient_and_the_kernel_refuses(kernel_device):
    q, cache, table, lengths = inputs([5, 9], 2, 1, 4, 4, device=kernel_device, rest=0.0)
    q, cache = q.double().requires_grad_(), cache.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q, cache: paged_attention(q, cache, table, lengths), (q, cache)
    )
    single = [q.detach().float().requires_grad_(), cache.detach().float(), table, lengths]
    with refuses(RuntimeError, "paged_attention_triton has no gradient"):
        paged_attention_triton(*single)
    assert paged_attention(*single).requires_grad
    with torch.no_grad():
        hold(paged_attention_triton, *single)


# ------------------------------------------------------------------------------------ bugs
BUGS = {
    "the table not looked up": ("tl.load(table_ptr + at // BLOCK_SIZE, mask=held, other=0)",
                                "(at // BLOCK_SIZE)"),
    "one sequence's table for all": ("table_ptr += batch * blocks", "pass"),
    "the place in a block forgotten": ("(at % BLOCK_SIZE) * c_c", "(at % BLOCK_SIZE) * 0"),
    "an end that is too far": ("end = tl.minimum(first + part, length)", "end = first + part"),
    "pieces under different maxima": ("tl.exp2(peak - tl.where(top == -float(\"inf\"), 0.0, top))",
                                      "tl.where(made, 1.0, 0.0)"),
    "sums not brought under the maximum": ("total = tl.sum(total * mend, 0)",
                                           "total = tl.sum(total, 0)"),
    "the wrong head of keys": ("shared = pair % (heads // group)", "shared = pair * 0"),
    "queries of another group": ("(shared * group + nth).to(tl.int64) * q_h",
                                 "(shared + nth).to(tl.int64) * q_h"),
    "values for keys": ("v_ptr = k_ptr + side", "v_ptr = k_ptr"),
    "a window one too wide": ("tl.maximum(length - window, 0)",
                              "tl.maximum(length - window - 1, 0)"),
    "an old maximum": ("v, mixed * mend[:, None]", "v, mixed"),
    "the first tile of queries again": ("nth = tile * BLOCK_H", "nth = tile * 0"),
}  # fmt: skip


def hold_hard(form, device):
    """Hold a form where every part counts: several sequences, groups, tiles and pieces."""
    given = inputs([230, 70], 66, 2, 16, 7, device=device, rest=1.0)
    hold(form, *given, window=100, scale=1.0)
    hold(form, *given, scale=1.0)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path, parts=(kernels,))
    with pytest.raises(AssertionError, match="allowed"):
        hold_hard(bugged.paged_attention_triton, kernel_device)


PLAIN_BUGS = {
    "a mask's edge": ("seen = position < lengths[:, None]", "seen = position <= lengths[:, None]"),
    "one sequence's table for all": ("torch.where(held, table, 0)",
                                     "torch.where(held, table[:1], 0)"),
    "values for keys": ("k, v = (x[blocks, heads[:, None]].flatten(2, 3) for x in cache)",
                        "k = v = cache[0][blocks, heads[:, None]].flatten(2, 3)"),
    "the wrong head of keys": ("heads[:, None]]", "heads.flip(0)[:, None]]"),
    "a window one too wide": (">= lengths[:, None] - window", ">= lengths[:, None] - window - 1"),
    "one sequence's table for all, alone": ("zip(queries, nth, lengths",
                                            "zip(queries, nth[[0, 0]], lengths"),
    "values for keys, alone": ("nth + g * blocks], 1)", "nth], 1)"),
    "the wrong head of keys, alone": ("nth = torch.arange(g)[:, None] +",
                                      "nth = torch.zeros(g).long()[:, None] +"),
    "a window one too wide, alone": ("else max(length - window, 0)",
                                     "else max(length - window - 1, 0)"),
    "an end that is too far, alone": ("slice(first - begin * c, length - begin * c)",
                                      "slice(first - begin * c, None)"),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLAIN_BUGS)
def test_a_planted_bug_in_plain_torch_is_caught(bug, tmp_path):
    bugged = plant(module, *PLAIN_BUGS[bug], tmp_path, parts=(kernels,))
    with pytest.raises(AssertionError, match="allowed"):
        if bug.endswith(", alone"):
            hold_hard(bugged.paged_attention, "cpu")
        hold_hard(lambda *x, **named: bugged._gathered(*x, named.get("window"), 1.0), "cpu")


def test_the_healthy_forms_pass_what_catches_the_bugs(kernel_device):
    hold_hard(paged_attention_triton, kernel_device)
    hold_hard(paged_attention, kernel_device)
    hold_hard(gathered, kernel_device)


# -------------------------------------------------------------------------------- hardware
CALLS = """
from nnlib.kernels.paged_attention import paged_attention_triton
half, wide = (torch.bfloat16, torch.float16), (torch.float32,)
for dtypes, h, g, d, c in (
    (half, 32, 8, 128, 16), (half[:1], 8, 8, 64, 16), (half[:1], 64, 1, 64, 128),
    (half[:1], 16, 1, 256, 32), (half[:1], 64, 1, 256, 32), (half[1:], 64, 2, 128, 7),
    (half[:1], 32, 1, 60, 16), (half[1:], 12, 2, 80, 16), (half[:1], 32, 1, 200, 16),
    (wide, 32, 8, 128, 16), (wide, 32, 1, 64, 16), (wide, 32, 1, 128, 16),
    (wide, 32, 1, 256, 16), (wide, 32, 1, 80, 16), (wide, 12, 2, 60, 16),
):
    for dtype in dtypes:
        q, cache = torch.zeros(2, h, d, dtype=dtype), torch.zeros(2, 64, g, c, d, dtype=dtype)
        lengths = torch.zeros(2, dtype=torch.int32)
        for m, window in ((1, 100), (512, None)):  # one piece, and many
            table = torch.zeros(2, m, dtype=torch.int32)
            paged_attention_triton(q, cache, table, lengths, window=window)
"""


def test_compiles_for_sm_80_and_sm_90_with_tensor_cores_and_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == {"_piece_kernel", "_sum_kernel"}
    hold_to_hardware(records, dots={"_piece_kernel"})
    assert {record["constants"].get("WHOLE") for record in records} == {True, False, None}


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.paged_attention import paged_attention, paged_attention_reference
torch.manual_seed(0)
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    q, cache = torch.randn(2, 4, 8, device=device), torch.randn(2, 6, 2, 4, 8, device=device)
    table = torch.tensor([[3, 0, -1], [5, 1, 2]], dtype=torch.int32, device=device)
    lengths = torch.tensor([6, 11], dtype=torch.int32, device=device)
    for window in (None, 5):
        opcheck(torch.ops.nnlib.paged_attention, (q, cache, table, lengths, window, 0.5))
        whole = torch.compile(paged_attention, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            got = whole(q, cache, table, lengths, window=window)
        wanted = paged_attention_reference(q, cache, table, lengths, window=window)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
"""


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    given = inputs([30, 5], 4, 2, 16, 8, device=kernel_device)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        hold(paged_attention, *given)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        paged_attention(*given)


@public
def test_bad_input_is_refused_by_name(form):
    q, cache, table, lengths = inputs([9, 5], 4, 2, 8, 4, rest=0.0)
    with refuses(TypeError, "q must be a torch.Tensor, got list"):
        form([1.0], cache, table, lengths)
    with refuses(TypeError, "q must be floating point, got torch.int64"):
        form(q.long(), cache, table, lengths)
    with refuses(ValueError, "q must have shape (b, h, d), got (2, 4, 1, 8)"):
        form(q[:, :, None], cache, table, lengths)
    with refuses(ValueError, "cache must have shape (2, n, g, c, 8), got (9, 2, 4, 8)"):
        form(q, cache[0], table, lengths)
    with refuses(ValueError, "cache must have shape (2, n, g, c, 8), got (2, 9, 2, 4, 7)"):
        form(q, cache[..., :7], table, lengths)
    with refuses(ValueError, "cache must have shape (2, n, g, c, 8), got (1, 9, 2, 4, 8)"):
        form(q, cache[:1], table, lengths)
    with refuses(TypeError, "cache must have the dtype of q, torch.float32, got torch.float16"):
        form(q, cache.half(), table, lengths)
    with refuses(ValueError, "cache must be on cpu like q, got meta"):
        form(q, cache.to("meta"), table, lengths)
    with refuses(ValueError, "the 2 heads of cache do not divide the 3 heads of q"):
        form(q[:, :3], cache, table, lengths)
    with refuses(ValueError, "the 0 heads of cache do not divide the 4 heads of q"):
        form(q, cache[:, :, :0], table, lengths)
    with refuses(ValueError, "the blocks of cache must hold 1 position or more, got c = 0"):
        form(q, cache[:, :, :, :0], table, lengths)
    with refuses(ValueError, "the heads of q must be 1 wide or more, got d = 0"):
        form(q[..., :0], cache[..., :0], table, lengths)
    with refuses(ValueError, "block_table must have shape (2, m), got (1, 3)"):
        form(q, cache, table[:1], lengths)
    with refuses(TypeError, "block_table must hold int32 or int64, got torch.float32"):
        form(q, cache, table.float(), lengths)
    with refuses(TypeError, "lengths must hold int32 or int64, got torch.uint8"):
        form(q, cache, table, lengths.byte())
    with refuses(TypeError, "lengths must be a torch.Tensor, got list"):
        form(q, cache, table, [9, 5])
    with refuses(ValueError, "lengths must have shape (2), got (3,)"):
        form(q, cache, table, lengths[[0, 1, 1]])
    with refuses(ValueError, "lengths must be on cpu like q, got meta"):
        form(q, cache, table, lengths.to("meta"))
    with refuses(ValueError, "lengths must lie in 0 … 12, the room of block_table, got 5 … 13"):
        form(q, cache, table, torch.tensor([13, 5]))
    with refuses(ValueError, "lengths must lie in 0 … 12, the room of block_table, got -1 … 5"):
        form(q, cache, table, torch.tensor([-1, 5]))
    with refuses(ValueError, "block_table must name blocks 0 … 8 of cache, got -1"):
        form(q, cache, table, torch.tensor([9, 9]))
    with refuses(ValueError, "block_table must name blocks 0 … 8 of cache, got 9"):
        form(q, cache, torch.full_like(table, 9), lengths)
    with refuses(ValueError, "window=0 must be an integer ≥ 1"):
        form(q, cache, table, lengths, window=0)
    with refuses(ValueError, "scale=nan must be a finite number"):
        form(q, cache, table, lengths, scale=math.nan)


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    with refuses(TypeError, "paged_attention_triton takes float16, bfloat16, float32"):
        paged_attention_triton(*inputs([5], 2, 1, 8, 4, dtype=torch.float64))
    with refuses(ValueError, "paged_attention_triton takes heads of width ≤ 256, got 257"):
        paged_attention_triton(*inputs([5], 2, 1, 257, 4))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "paged_attention_triton needs CUDA tensors, got cpu"):
        paged_attention_triton(*inputs([5], 2, 1, 8, 4))


def test_wide_heads_go_to_plain_torch(kernel_device):
    hold(paged_attention, *inputs([9, 40], 2, 1, 300, 8, device=kernel_device))


def test_cost_counts_each_key_and_value_once():
    cost = paged_attention_cost((2, 8, 64), 2, [100, 50], 2)
    assert cost.flops == 4 * 8 * 64 * 150
    assert cost.bytes == 2 * (2 * 2 * 64 * 150 + 2 * 2 * 8 * 64)
    assert paged_attention_cost((2, 8, 64), 2, [100, 50], window=60).flops == 4 * 8 * 64 * 110
