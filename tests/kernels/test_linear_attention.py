import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nnlib.kernels import _linear_attention_kernels, _linear_attention_torch
from nnlib.kernels import linear_attention as module
from nnlib.kernels.linear_attention import (
    chunk_length,
    linear_attention,
    linear_attention_chunked,
    linear_attention_cost,
    linear_attention_parallel,
    linear_attention_reference,
    linear_attention_triton,
)
from tests.kernel_support import (
    compiled,
    hold_to_double,
    hold_to_hardware,
    plant,
    value_and_grads,
)
from tests.support import refuses

SHAPES = [  # b, h, t, d, v
    (1, 2, 63, 5, 9),
    (2, 1, 64, 16, 16),
    (1, 1, 65, 70, 3),
    (1, 1, 130, 16, 70),
    (1, 2, 2, 1, 1),
]
starts = pytest.mark.parametrize("start", [False, True], ids=["from 0", "from a state"])
FORMS = {
    "kernel": linear_attention_triton,
    "public": linear_attention,
    "parallel": linear_attention_parallel,
    "chunks": lambda *x, **named: linear_attention_chunked(*x, chunk_size=7, **named),
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def inputs(b, h, t, d, v, *, start=True, decay=0.3, dtype=torch.float32, device="cpu"):
    """Return q, k, v, log decays and perhaps a state; one decay is next to nothing, one is 1."""
    q, k, x = torch.randn(b, h, t, d), torch.randn(b, h, t, d), torch.randn(b, h, t, v)
    log_decay = -decay * torch.rand(b, h, t)
    log_decay[:, :, t // 3] = -60.0
    log_decay[:, :, t // 2] = 0.0
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    made = [x.to(dtype) for x in (q, k, x)] + [log_decay.to(wide)]
    made += [torch.randn(b, h, d, v).to(wide)] * start
    return [x.to(device) for x in made]


def scaled(form, scale=0.3):
    return lambda *given: form(*given, scale=scale)


def hold(form, *given, **named):
    hold_to_double(scaled(form, **named), scaled(linear_attention_reference, **named), *given)


# numpy's, interpreting: what lies behind a mask may overflow
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@starts
@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_form_equals_the_recurrence(form, shape, start, kernel_device):
    hold(form, *inputs(*shape, start=start, device=kernel_device))


@starts
@pytest.mark.parametrize("form", ["kernel", "public"])
def test_half_precision_is_as_good_as_plain_torch_in_it(form, start, kernel_device):
    given = inputs(1, 2, 100, 16, 24, start=start, dtype=torch.float16, device=kernel_device)
    hold(FORMS[form], *given)


def test_interpreted_bfloat16_is_upcast():
    hold(linear_attention_triton, *inputs(1, 1, 70, 16, 16, dtype=torch.bfloat16))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("widths", [(64, 64), (128, 128), (60, 65), (16, 256)], ids=str)
def test_kernel_equals_the_recurrence_at_size(widths, dtype):
    hold(linear_attention_triton, *inputs(2, 4, 1000, *widths, dtype=dtype, device="cuda"))


@pytest.mark.parametrize("form", [k for k in FORMS if k != "kernel"])
def test_all_forms_agree_to_ten_digits_in_float64(form):
    given = inputs(2, 2, 150, 6, 5, dtype=torch.float64)
    wanted = value_and_grads(scaled(linear_attention_reference), *given)
    for name, got in value_and_grads(scaled(FORMS[form]), *given).items():
        torch.testing.assert_close(got, wanted[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("decay", [0.0, 0.01, 1.0, 20.0])
@pytest.mark.parametrize("form", [k for k in FORMS if k != "kernel"])
def test_two_thousand_steps_in_float32(form, decay):
    """To 1e-4 of the largest true value, whether the state fades at once or never."""
    given = inputs(1, 2, 2000, 16, 16, decay=decay)
    k = F.normalize(given[1], dim=-1)
    given = [given[0], k, *given[2:]]
    wanted = linear_attention_reference(*(x.double() for x in given))
    for got, true in zip(FORMS[form](*given), wanted, strict=True):
        assert (got.double() - true).abs().max() < 1e-4 * max(true.abs().max(), 1)


@forms
def test_equals_the_weighted_sum_of_all_that_was_written(form, kernel_device):
    """y_t = c Σ_s e^{g_{s+1} + … + g_t} (q_t · k_s) v_s, by brute force."""
    q, k, v, g = (x[0, 0].double() for x in inputs(1, 1, 70, 4, 3, start=False))
    wanted = torch.stack([
        sum(0.3 * g[s + 1 : t + 1].sum().exp() * (q[t] @ k[s]) * v[s] for s in range(t + 1))
        for t in range(70)
    ])  # fmt: skip
    given = [x.float().to(kernel_device)[None, None] for x in (q, k, v, g)]
    y, _ = form(*given, scale=0.3)
    torch.testing.assert_close(y[0, 0].cpu().double(), wanted, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    given = [x.requires_grad_() for x in inputs(1, 2, 11, 3, 2, dtype=torch.float64)]
    given[3] = (given[3].detach() - 0.1).requires_grad_()  # so that a small step stays below 0
    assert torch.autograd.gradcheck(
        lambda *x: linear_attention_chunked(*x, scale=0.3, chunk_size=4), given
    )


@forms
def test_a_sequence_may_be_cut_and_carried_on(form, kernel_device):
    q, k, v, g, state = inputs(1, 2, 90, 5, 6, device=kernel_device)
    whole, end = form(q, k, v, g, state)
    outputs = []
    for at in (slice(0, 40), slice(40, 89), slice(89, 90)):
        y, state = form(*(x[:, :, at] for x in (q, k, v, g)), state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 2), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, end, rtol=1e-5, atol=1e-5)


@forms
@pytest.mark.parametrize("decay", [0.0, -1.0, -90.0, -1e4, -math.inf], ids=str)
def test_any_decay_from_all_to_nothing(form, decay, kernel_device):
    """Sums of decays run into the thousands, or to infinity: their differences must stay right."""
    q, k, v, g, state = inputs(1, 1, 130, 4, 4, device=kernel_device)
    g[:, :, 10:40] = decay
    hold(form, q, k, v, g, state)


@forms
def test_a_weak_decay_after_strong_ones_keeps_its_digits(form, kernel_device):
    q, k, v, g, state = inputs(1, 1, 64, 4, 4, device=kernel_device)
    g[:, :, :30] = -90.0
    g[:, :, 30:] = -0.01
    hold(form, q, k, v, g, state)


@forms
@starts
@pytest.mark.parametrize("t", [1, 2])
def test_short_sequences(form, t, start, kernel_device):
    given = inputs(2, 3, 6, 4, 5, start=start, device=kernel_device)
    hold(form, *(x[:, :, :t] for x in given[:4]), *given[4:])


@pytest.mark.parametrize("form", [*FORMS.values(), linear_attention_reference])
def test_no_step_gives_no_output_and_the_initial_state(form, kernel_device):
    *given, state = inputs(2, 3, 6, 4, 5, device=kernel_device)
    given = [x[:, :, :0].requires_grad_() for x in given]
    y, end = form(*given, state.requires_grad_())
    assert y.shape == (2, 3, 0, 5)
    assert torch.equal(end, state)
    (grad,) = torch.autograd.grad(end.sum(), state)
    assert torch.equal(grad, torch.ones_like(state))
    assert not form(*given)[1].any()


@forms
@pytest.mark.parametrize("shape", [(0, 2, 5, 4, 3), (2, 0, 5, 4, 3)], ids=str)
def test_nothing_in_gives_nothing_out(form, shape, kernel_device):
    got = value_and_grads(form, *inputs(*shape, device=kernel_device))
    assert got["out0"].shape == (*shape[:3], 3)
    assert got["out1"].shape == (*shape[:2], 4, 3)


@forms
def test_other_layouts_are_read_in_place(form, kernel_device):
    given = inputs(2, 3, 70, 8, 6, device=kernel_device)
    given[0] = torch.randn(2, 70, 3, 8, device=kernel_device).transpose(1, 2)
    given[1] = given[1][:, :1].expand(-1, 3, -1, -1)  # one key for all heads
    given[2] = torch.randn(2, 3, 6, 140, device=kernel_device).mT[:, :, ::2]
    given[3] = given[3][:, :, :1].expand(-1, -1, 70)  # one decay for all steps
    given[4] = given[4].mT.contiguous().mT
    hold(form, *given)


@forms
def test_inputs_stay_as_they_are(form, kernel_device):
    given = inputs(1, 2, 64, 8, 8, device=kernel_device)
    before = [x.clone() for x in given]
    value_and_grads(form, *given)
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))


@pytest.mark.parametrize("form", [name for name in FORMS if name != "parallel"])
def test_nan_stays_in_its_head_and_goes_forward_from_its_chunk(form, kernel_device):
    """A product with a table meets the chunk's later steps too, times 0: hence its chunk."""
    q, k, v, g = inputs(1, 2, 80, 4, 4, start=False, device=kernel_device)
    v[0, 1, 70, 2] = math.nan
    bad = FORMS[form](q, k, v, g)[0].isnan()
    assert bad[0, 1, 70:, 2].all()
    assert not bad[0, 0].any() and not bad[0, 1, :64].any()
    assert not bad[..., [0, 1, 3]].any()
    v[0, 1, 70, 2], g[0, 0, 70] = 0.0, math.nan
    bad = FORMS[form](q, k, v, g)[0].isnan()
    assert bad[0, 0, 70:].all()
    assert not bad[0, 1].any() and not bad[0, 0, :64].any()


def test_two_runs_give_the_same_gradients_bit_for_bit(kernel_device):
    given = inputs(1, 1, 100, 70, 20, device=kernel_device)
    one, two = (value_and_grads(linear_attention_triton, *given) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


# --------------------------------------------------------------- what other models stand on it
def test_retnet_is_a_fixed_decay_for_each_head():
    """Retention, Sun et al. 2023: (Q K^T ⊙ D) V with D = γ^{n−m}, γ a head's own."""
    q, k, v = (x.double() for x in inputs(2, 3, 40, 8, 6, start=False)[:3])
    gamma = 1 - 2.0 ** -torch.arange(5, 8).double()
    n = torch.arange(40)
    table = (gamma[:, None, None] ** (n[:, None] - n)).tril()
    wanted = (q @ k.mT / math.sqrt(8) * table) @ v
    y, _ = linear_attention(q, k, v, gamma.log()[None, :, None].expand(2, 3, 40), scale=8**-0.5)
    torch.testing.assert_close(y, wanted)


def test_mamba_2_is_a_decay_by_step_and_keys_times_step_size():
    """SSD, Dao and Gu 2024: h_t = e^{Δ_t A} h_{t-1} + Δ_t B_t x_t, y_t = C_t h_t, in a loop."""
    b, h, t, n, p = 2, 3, 30, 4, 5
    x, delta = torch.randn(b, h, t, p).double(), torch.rand(b, h, t).double()
    B, C = torch.randn(b, 1, t, n).double(), torch.randn(b, 1, t, n).double()
    A = -torch.rand(h).double()
    state, wanted = torch.zeros(b, h, n, p).double(), []
    for i in range(t):
        step = delta[:, :, i, None, None]
        state = (step * A[:, None, None]).exp() * state
        state = state + step * B[:, :, i, :, None] * x[:, :, i, None, :]
        wanted.append((C[:, :, i, :, None] * state).sum(-2))
    y, end = linear_attention(C.expand(b, h, t, n), delta[..., None] * B, x, delta * A[:, None])
    torch.testing.assert_close(y, torch.stack(wanted, 2))
    torch.testing.assert_close(end, state)


def test_mlstm_folds_its_stabiliser_into_decay_and_keys():
    """Beck et al. 2024: C, n and m in a loop, against one call with a column of ones in v."""
    b, h, t, d = 1, 2, 50, 4
    q, k, v = (torch.randn(b, h, t, d).double() for _ in range(3))
    i, f = 20 * torch.randn(b, h, t).double(), F.logsigmoid(3 * torch.randn(b, h, t).double())
    C, n = torch.zeros(b, h, d, d).double(), torch.zeros(b, h, d).double()
    m, wanted = torch.full((b, h), -math.inf).double(), []
    for s in range(t):
        last, m = m, torch.maximum(f[..., s] + m, i[..., s])
        keep = (f[..., s] + last - m).exp()[..., None]
        write = (i[..., s] - m).exp()[..., None] * k[:, :, s] / math.sqrt(d)
        C = keep[..., None] * C + write[..., None] * v[:, :, s, None, :]
        n = keep * n + write
        total = (n * q[:, :, s]).sum(-1).abs()
        read = (q[:, :, s, :, None] * C).sum(-2)
        wanted.append(read / torch.maximum(total, (-m).exp())[..., None])
    # all maxima at once: m_t − Σf is a running maximum
    so_far = f.cumsum(-1)
    m = so_far + (i - so_far).cummax(-1).values
    before = F.pad(m[..., :-1], (1, 0), value=-math.inf)
    y, _ = linear_attention(
        q, (i - m).exp()[..., None] * k, F.pad(v, (0, 1), value=1.0), f + before - m,
        scale=1 / math.sqrt(d),
    )  # fmt: skip
    y = y[..., :-1] / torch.maximum(y[..., -1:].abs(), (-m).exp()[..., None])
    torch.testing.assert_close(y, torch.stack(wanted, 2))


# ------------------------------------------------------------------------------------ bugs
BUGS = {
    "a sign, in the weights": ("weights * decay * scale, 0.0)\n    v =",
                               "-weights * decay * scale, 0.0)\n    v ="),
    "a mask's edge": ("seen, decay = at[:, None] >= at", "seen, decay = at[:, None] > at"),
    "a mask's edge, for the keys": ("tl.where(at[:, None] >= at", "tl.where(at[:, None] > at"),
    "a mask's edge, reversed": ("at[:, None] <= at[None, :]", "at[:, None] < at[None, :]"),
    "a forgotten scale": ("mixed *= (tl.exp2(coarse + fine) * scale)[:, None]",
                          "mixed *= tl.exp2(coarse + fine)[:, None]"),
    "a state that does not decay": ("state *= whole_chunk(coarse, fine, LENGTH)", "pass"),
    "the wrong end of a chunk": ("share = remaining(coarse, fine, LENGTH)",
                                 "share = tl.exp2(coarse + fine)"),
    "sums in one piece": ("return coarse, (total - coarse.to(tl.float64)).to(tl.float32)",
                          "return total.to(tl.float32), 0 * coarse"),
    "decays in the wrong base": ("g.to(tl.float64) * 1.4426950408889634", "g.to(tl.float64)"),
    "the first state forgotten": ("state = tl.load(start_ptr + row * size", "pass  # "),
    "a gradient's own chunk only": ("dk = tl.dot(v, tl.trans(leaving), dk", "dk = tl.dot(0 * v, "
                                    "tl.trans(leaving), dk"),
    "a decay's later steps forgotten": ("tl.cumsum(flow, 0, reverse=True)", "flow"),
    "a decay's own step counted": ("(tl.cumsum(after, 0) - after)", "tl.cumsum(after, 0)"),
    "a decay that lets nothing through": (" * tl.sum(through, 0)", " * 0.0"),
    "columns for rows": ("tl.sum(both, 1) - tl.sum(both, 0)", "tl.sum(both, 0) - tl.sum(both, 1)"),
    "one block of keys only": ("dg.sum(0)", "dg[0]"),
}  # fmt: skip
PARTS = (_linear_attention_torch, _linear_attention_kernels)


def hold_hard(form, device):
    """Hold a form where every part counts: two chunks, two blocks of keys, decays of all sizes."""
    q, k, v, g, state = inputs(1, 1, 100, 70, 20, device=device)
    g[:, :, 5:20] = -90.3
    hold(form, q, k, v, g, state)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path, kernel_device):
    bugged = plant(module, *BUGS[bug], tmp_path, parts=PARTS)
    with pytest.raises(AssertionError, match="allowed"):
        hold_hard(bugged.linear_attention_triton, kernel_device)


PLAIN_BUGS = {
    "a sum in float32": ("log_decay.double().clamp", "log_decay.float().clamp"),
    "the chunk's own decay": ("F.pad(way.whole[..., :-1], (1, 0))", "way.whole"),
    "a shift backwards": ("torch.cat([added[:, :, 1:], dend[:, :, None]], 2)",
                          "torch.cat([added[:, :, :-1], dend[:, :, None]], 2)"),
    "a table that sees the future": ("triu(1)", "triu(2)"),
    "what leaves forgotten": ("+ after.cumsum(-1) - after", "+ 0 * after"),
    "a forgotten scale": ("dq.add_(dweights @ k).mul_(scale)", "dq.add_(dweights @ k)"),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLAIN_BUGS)
def test_a_planted_bug_in_plain_torch_is_caught(bug, tmp_path):
    bugged = plant(module, *PLAIN_BUGS[bug], tmp_path, parts=PARTS)
    with pytest.raises(AssertionError, match="allowed"):
        hold_hard(bugged.linear_attention, "cpu")


# -------------------------------------------------------------------------------- hardware
CALLS = """
from nnlib.kernels.linear_attention import linear_attention_triton
for dtype, keys, values in (
    (torch.bfloat16, 64, 64), (torch.bfloat16, 128, 256), (torch.float16, 80, 65),
    (torch.float16, 16, 16), (torch.float32, 64, 64), (torch.float32, 128, 128),
):
    q, k = (torch.zeros(1, 4, 1024, keys, dtype=dtype, requires_grad=True) for _ in range(2))
    v = torch.zeros(1, 4, 1024, values, dtype=dtype, requires_grad=True)
    g = torch.zeros(1, 4, 1024, requires_grad=True)
    y, end = linear_attention_triton(q, k, v, g, scale=0.1)
    (y.square().sum() + end.sum()).backward()
    start = torch.zeros(1, 4, keys, values)
    linear_attention_triton(q, k, v, g, start)[0].sum().backward()
"""
KERNELS = {"_state_kernel", "_mix_kernel", "_gradient_kernel"}


def test_compiles_for_sm_80_and_sm_90_with_tensor_cores_and_without_spills():
    records = compiled(CALLS)
    assert {record["kernel"] for record in records} == KERNELS
    hold_to_hardware(records, dots=KERNELS)


OPCHECK = """
import torch
from torch.library import opcheck
from nnlib.kernels.linear_attention import linear_attention, linear_attention_reference
torch.manual_seed(0)
for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
    for with_state in (False, True):
        shapes = ((1, 2, 20, 4), (1, 2, 20, 4), (1, 2, 20, 3), (1, 2, 20), (1, 2, 4, 3))
        made = [torch.randn(s, device=device) for s in shapes]
        made[3] = -made[3].abs()
        given = [x.clone().requires_grad_() for x in made][: 4 + with_state]
        state = given[4] if with_state else None
        plain = None if state is None else state.detach()
        given_back = (*made[:4], plain, made[2], made[4])
        # On a CPU no kernel runs, whether it may or not: there each value once.
        for kernel in (False, True) if device == "cuda" else (with_state,):
            options = (0.5, 8, kernel)
            opcheck(torch.ops.nnlib.linear_attention, (*given[:4], state, *options))
            opcheck(torch.ops.nnlib.linear_attention_backward, (*given_back, *options))
        whole = torch.compile(linear_attention, fullgraph=True, backend="aot_eager")
        got, wanted = whole(*given), linear_attention_reference(*given)
        near = {"rtol": 1e-4, "atol": 1e-4}  # entries of up to some hundreds, in float32
        torch.testing.assert_close(got, wanted, **near)
        torch.testing.assert_close(
            torch.autograd.grad(got[0].square().sum() + got[1].sum(), given),
            torch.autograd.grad(wanted[0].square().sum() + wanted[1].sum(), given),
            **near,
        )
"""


def test_the_public_name_takes_the_forced_path(monkeypatch, kernel_device):
    given = inputs(1, 2, 30, 5, 4, device=kernel_device)
    for path in ("torch", "triton", "auto"):
        monkeypatch.setenv("NNLIB_KERNELS", path)
        hold(linear_attention, *given)
    monkeypatch.setenv("NNLIB_KERNELS", "fast")
    with refuses(ValueError, "NNLIB_KERNELS='fast' must be one of ['auto', 'torch', 'triton']"):
        linear_attention(*given)


class Calls(TorchDispatchMode):
    """Counts the operations that torch is asked for, each of which costs a call on a CPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_plain_torch_asks_for_no_operation_a_step():
    """Forward and backward, against the loop over `unbind`: a twentieth of its calls."""
    given = inputs(1, 2, 1024, 16, 16)

    def calls(form):
        with Calls() as counted:
            value_and_grads(form, *given)
        return counted.count

    assert calls(linear_attention) * 20 < calls(linear_attention_reference)


def test_chunks_are_no_longer_than_the_sequence():
    assert chunk_length(1000, 128) == 64
    assert chunk_length(1000, 16) == 32
    assert chunk_length(10, 64) == 10
    assert chunk_length(0, 64) == 1


@forms
def test_bad_input_is_refused_by_name(form):
    q, k, v, g, state = inputs(2, 3, 5, 4, 6)
    with refuses(TypeError, "q must be a torch.Tensor, got list"):
        form([1.0], k, v, g)
    with refuses(TypeError, "q must be floating point, got torch.int64"):
        form(q.long(), k, v, g)
    with refuses(ValueError, "q must have shape (b, h, t, d), got (3, 5, 4)"):
        form(q[0], k, v, g)
    with refuses(ValueError, "k must have shape (2, 3, 5, 4), got (2, 3, 4, 4)"):
        form(q, k[:, :, 1:], v, g)
    with refuses(ValueError, "v must have shape (2, 3, 5, v), got (2, 1, 5, 6)"):
        form(q, k, v[:, :1], g)
    with refuses(ValueError, "log_decay must have shape (2, 3, 5), got (2, 5)"):
        form(q, k, v, g[:, 0])
    with refuses(ValueError, "initial_state must have shape (2, 3, 4, 6), got (2, 3, 6, 4)"):
        form(q, k, v, g, state.mT)
    with refuses(ValueError, "initial_state must have shape (2, 3, 4, 6), got (1, 3, 4, 6)"):
        form(q, k, v, g, state[:1])
    with refuses(TypeError, "initial_state must be torch.float32, got torch.float16"):
        form(q, k, v, g, state.half())
    with refuses(TypeError, "initial_state must be a torch.Tensor, got int"):
        form(q, k, v, g, 0)
    with refuses(TypeError, "k must have the dtype of q, torch.float32, got torch.float16"):
        form(q, k.half(), v, g)
    with refuses(TypeError, "log_decay must be torch.float32, got torch.float16"):
        form(q, k, v, g.half())
    with refuses(ValueError, "log_decay must be on cpu like q, got meta"):
        form(q, k, v, g.to("meta"))
    with refuses(ValueError, "initial_state must be on cpu like q, got meta"):
        form(q, k, v, g, state.to("meta"))
    with refuses(ValueError, "log_decay must be ≤ 0, the logarithm of what stays, got 0.9"):
        form(q, k, v, torch.full_like(g, 0.9))
    with refuses(ValueError, "q and v must be 1 wide or more, got d = 0 and v = 6"):
        form(q[..., :0], k[..., :0], v, g)
    with refuses(ValueError, "scale=nan must be a finite number"):
        form(q, k, v, g, scale=math.nan)
    with refuses(TypeError, "scale=None must be a finite number"):
        form(q, k, v, g, scale=None)


def test_a_rounding_above_zero_is_no_mistake():
    q, k, v, g, _ = inputs(1, 1, 5, 2, 2)
    y, _ = linear_attention(q, k, v, torch.full_like(g, 1e-6))
    torch.testing.assert_close(y, linear_attention(q, k, v, 0 * g)[0], rtol=1e-4, atol=1e-5)


def test_chunks_of_any_size_are_taken_and_others_refused():
    q, k, v, g, state = inputs(1, 2, 12, 4, 3)
    wanted = linear_attention_reference(q, k, v, g, state)
    for size in (1, 5, 12, 100):
        torch.testing.assert_close(
            linear_attention_chunked(q, k, v, g, state, chunk_size=size), wanted
        )
    with refuses(ValueError, "chunk_size=0 must be an integer ≥ 1"):
        linear_attention_chunked(q, k, v, g, chunk_size=0)


def test_a_kernel_is_refused_where_none_can_run(monkeypatch):
    given = inputs(1, 1, 5, 2, 2, dtype=torch.float64)
    with refuses(TypeError, "linear_attention_triton takes float16, bfloat16, float32"):
        linear_attention_triton(*given)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "linear_attention_triton needs CUDA tensors, got cpu"):
        linear_attention_triton(*inputs(1, 1, 5, 2, 2))


def test_cost_counts_each_number_once():
    forward = linear_attention_cost((2, 3, 10, 4), 5, 2)
    assert forward.flops == 5 * 6 * 10 * 4 * 5
    assert forward.bytes == 6 * (10 * (2 * 4 + 2 * 5) * 2 + 4 * (10 + 20))
    backward = linear_attention_cost((2, 3, 10, 4), 5, 2, backward=True)
    assert backward.flops == 14 * 6 * 10 * 4 * 5
    assert backward.bytes == 6 * (10 * (4 * 4 + 3 * 5) * 2 + 8 * (10 + 20))
