"""Time nnlib's models beside other libraries' that do the same work, in one run.

    python -m benchmarks.models                       everything, on the CPU; saves the results
    python -m benchmarks.models gpt bert              these only; saves nothing
    python -m benchmarks.models --quick               small sizes, under a minute; saves nothing
    python -m benchmarks.models --device cuda         on a GPU, in bfloat16

Both sides of a row have the same weights, the same batch and the same optimizer, and must agree
before they are timed: the same output or loss, and the same gradients. A model that has no peer
stands beside another that would be taken in its place, and its row has no goal.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks import measure

GOAL = 1.2  # at most this many times the peer's time (decisions and README state it)
PEERS = ("torch.nn", "transformers", "reservoirpy")
SEED = 0
LOOP = "nnlib's loop"  # the readable twin

Side = tuple[nn.Module, Callable[[nn.Module], Tensor]]  # a module, and its loss


@dataclass
class Contest:
    """One row: what is timed, on which shape, by whom; and what shows that the work is the same.

    Args:
        what: the row's name.
        shape: its sizes, by letter.
        runs: a function for each side; the first is nnlib's.
        results: for some of the sides, what they compute: tensors by name, to be compared.
    """

    what: str
    shape: dict[str, int]
    runs: dict[str, Callable[[], Any]]
    results: dict[str, Callable[[], dict[str, Tensor]]] = field(default_factory=dict)


def attention(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Forward and backward of multi-head self-attention, with and without a causal mask."""
    from nnlib.blocks.multi_head_attention import MultiHeadAttention

    b, t, e, h = size["b"], size["t"], size["e"], size["h"]
    peer = nn.MultiheadAttention(e, h, batch_first=True)
    mine = MultiHeadAttention(e, h)
    mine.load_state_dict(peer.state_dict())
    mine, peer = mine.to(device, dtype), peer.to(device, dtype)
    x = torch.randn(b, t, e).to(device, dtype).requires_grad_()
    mask = nn.Transformer.generate_square_subsequent_mask(t, device=device, dtype=dtype)
    causal = {"attn_mask": mask, "is_causal": True}
    plain = _Pair(x, lambda: mine(x), lambda: peer(x, x, x, need_weights=False)[0], mine, peer)
    masked = _Pair(
        x,
        lambda: mine(x, is_causal=True),
        lambda: peer(x, x, x, need_weights=False, **causal)[0],
        mine,
        peer,
    )
    return [plain.contest("attention", size), masked.contest("causal attention", size)]


def layer_norm(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Forward and backward of layer norm."""
    from nnlib.blocks.layer_norm import LayerNorm

    return [_norm("layer norm", LayerNorm, nn.LayerNorm, size, device, dtype)]


def rms_norm(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Forward and backward of RMSNorm."""
    from nnlib.blocks.rms_norm import RMSNorm

    return [_norm("RMSNorm", RMSNorm, nn.RMSNorm, size, device, dtype)]


def encoder_layer(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of a transformer encoder layer, with its norms after and before."""
    from nnlib.blocks.transformer_layer import TransformerEncoderLayer

    b, t, e, h = size["b"], size["t"], size["e"], size["h"]
    contests = []
    for first, name in ((False, "encoder layer"), (True, "encoder layer, norms first")):
        peer = nn.TransformerEncoderLayer(
            e, h, 4 * e, dropout=0.0, batch_first=True, norm_first=first
        )
        mine = TransformerEncoderLayer(e, h, 4 * e, dropout=0.0, norm_first=first)
        mine.load_state_dict(peer.state_dict())
        x, target = (torch.randn(b, t, e).to(device, dtype) for _ in range(2))
        contests.append(
            _training(
                name, size, "torch.nn",
                (mine.to(device, dtype), lambda m, x=x, y=target: F.mse_loss(m(x), y)),
                (peer.to(device, dtype), lambda m, x=x, y=target: F.mse_loss(m(x), y)),
            )
        )  # fmt: skip
    return contests


def gpt(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of GPT-2: loss, backward, AdamW."""
    from nnlib.attention.gpt import GPT, next_token_loss

    peer, ids = _gpt2(size, size["t"])
    mine = GPT.from_hugging_face(peer).train()
    mine, peer, ids = mine.to(device, dtype), peer.train().to(device, dtype), ids.to(device)
    return [
        _training(
            "GPT training step", size, "transformers",
            (mine, lambda m: next_token_loss(m, ids)),
            (peer, lambda m: m(input_ids=ids, labels=ids, use_cache=False).loss),
        )
    ]  # fmt: skip


def bert(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of BERT on masked words: loss, backward, AdamW."""
    from transformers import BertConfig, BertForMaskedLM

    from nnlib.attention.bert import BERT, IGNORED

    b, t, e, h = size["b"], size["t"], size["e"], size["h"]
    torch.manual_seed(SEED)
    peer = BertForMaskedLM(
        BertConfig(
            vocab_size=size["v"], hidden_size=e, num_attention_heads=h,
            num_hidden_layers=size["L"], intermediate_size=4 * e, max_position_embeddings=t,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip
    mine = BERT.from_hugging_face(peer).train()
    ids = torch.randint(1, size["v"], (b, t))  # 0 is padding to the peer, which learns no vector
    asked = torch.rand(b, t) < 0.15
    asked[0, 0] = True
    targets = torch.where(asked, ids, IGNORED).to(device)
    ids = ids.masked_fill(asked, 1).to(device)

    def loss(model):  # a score for every position, as the peer has it
        logits = model.token_logits(model(ids).hidden)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    return [
        _training(
            "BERT training step", size, "transformers",
            (mine.to(device, dtype), loss),
            (peer.train().to(device, dtype), lambda m: m(input_ids=ids, labels=targets).loss),
        )
    ]  # fmt: skip


def generation(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Greedy generation by GPT-2 with a cache; nnlib's without one stands beside it."""
    from nnlib.attention.gpt import GPT

    prompt, new = 16, size["t"] - 16
    peer, ids = _gpt2(size, prompt)
    mine = GPT.from_hugging_face(peer).to(device, dtype)
    peer, ids = peer.eval().to(device, dtype), ids.to(device)
    settings = {"do_sample": False, "max_new_tokens": new, "min_new_tokens": new}
    settings |= {"pad_token_id": 0, "eos_token_id": None, "attention_mask": torch.ones_like(ids)}
    runs = {
        "nnlib": lambda: mine.generate(ids, new, temperature=0),
        "transformers": lambda: peer.generate(ids, **settings),
        "nnlib without a cache": lambda: mine.generate(ids, new, temperature=0, use_cache=False),
    }
    results = {} if dtype == torch.bfloat16 else {  # where a rounding may turn an argmax
        name: (lambda run=run: {"tokens": run()}) for name, run in runs.items()
    }  # fmt: skip
    return [Contest("GPT generation", size, runs, results)]


def recurrent(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step, and reading without gradients, of RNN, LSTM and GRU.

    Beside the fused operator stands the loop over time that readers see.
    """
    contests = []
    for kind in ("RNN", "LSTM", "GRU"):
        mine, peer, x, y = _recurrent(kind, size, device, dtype)
        contests.append(
            _training(
                f"{kind} training step", size, "torch.nn",
                (mine, lambda m, x=x, y=y: F.mse_loss(m(x)[0], y)),
                (peer, lambda m, x=x, y=y: F.mse_loss(m(x)[0], y)),
                others={LOOP: (mine, lambda m, x=x, y=y: F.mse_loss(m.loop(x)[0], y))},
            )
        )  # fmt: skip
        forms = {"nnlib": copy.deepcopy(mine), "torch.nn": copy.deepcopy(peer)}
        forms[LOOP] = forms["nnlib"].loop
        contests.append(_reading(f"{kind} reading", size, forms, x))
    return contests


def lengths(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of an LSTM on sequences of many lengths, in no order."""
    mine, peer, x, y = _recurrent("LSTM", size, device, dtype)
    real = torch.randint(1, size["t"] + 1, (size["b"],))
    real[-1] = size["t"]

    def packed(module):
        pack = pack_padded_sequence(x, real, batch_first=True, enforce_sorted=False)
        out = pad_packed_sequence(module(pack)[0], batch_first=True, total_length=size["t"])[0]
        return F.mse_loss(out, y)

    return [
        _training(
            "LSTM with lengths", size, "torch.nn",
            (mine, lambda m: F.mse_loss(m(x, lengths=real)[0], y)),
            (peer, packed),
            others={LOOP: (mine, lambda m: F.mse_loss(m.loop(x, lengths=real)[0], y))},
        )
    ]  # fmt: skip


def bidirectional(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of two LSTMs, one of which reads backwards; as one layer, and as two."""
    from nnlib.sequence.bidirectional import Bidirectional
    from nnlib.sequence.lstm import LSTM

    one, peer, x, _ = _recurrent("LSTM", size, device, dtype, bidirectional=True)
    two = Bidirectional(*(LSTM(size["d"], size["h"], device=device, dtype=dtype) for _ in "12"))
    weights = one.state_dict()
    for layer, end in ((two.forward_layer, ""), (two.backward_layer, "_reverse")):
        layer.load_state_dict({name: weights[name + end] for name in layer.state_dict()})
    y = torch.randn(size["b"], size["t"], 2 * size["h"]).to(device, dtype)

    def loss(module):
        return F.mse_loss(module(x)[0], y)

    return [
        _training(
            "two-way LSTM", size, "torch.nn", (two, loss), (peer, loss),
            others={"nnlib in one layer": (one, loss)},
        )
    ]  # fmt: skip


def min_gru(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of minGRU, all of time at once; step by step; and of a GRU as wide."""
    from nnlib.sequence.gru import MinGRU

    _, gru, x, y = _recurrent("GRU", size, device, dtype)
    mine = MinGRU(size["d"], size["h"]).to(device, dtype)

    def by_steps(module):
        state, out = None, []
        for now in x.unbind(1):
            state = module.step(now, state)
            out.append(state)
        return F.mse_loss(torch.stack(out, 1), y)

    others = {"step by step": (mine, by_steps)}
    contest = _training(
        "minGRU training step", size, "", (mine, lambda m: F.mse_loss(m(x), y)), others=others
    )
    contest.runs["GRU of torch.nn"], _ = _step(gru, lambda m: F.mse_loss(m(x)[0], y))
    return [contest]


def seq2seq(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of a translator, with one context vector and with attention.

    The peer is put together from torch.nn's parts, under the same names.
    """
    from nnlib.sequence.seq2seq import Seq2Seq

    b, t, v = size["b"], size["t"], size["v"]
    source, target, wanted = torch.randint(v, (3, b, t)).to(device).unbind(0)
    contests = []
    for kind, name in (("every", "seq2seq, one context"), ("attention", "seq2seq, attention")):
        mine = Seq2Seq(v, v, size["e"], size["h"], context=kind)
        peer = _Translator(v, size["e"], size["h"], kind == "attention")
        peer.load_state_dict(mine.state_dict())

        def loss(module):
            return F.cross_entropy(module(source, target).flatten(0, 1), wanted.flatten())

        sides = (mine.to(device, dtype), loss), (peer.to(device, dtype), loss)
        contests.append(_training(name, size, "torch.nn", *sides))
    return contests


def echo_state(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Fit, prediction and free run of a reservoir, dense and with a tenth of its connections.

    Both sides hold the same matrices, in float64; the peer's sparse ones are scipy's, as it draws
    them itself. The peer knows no GPU, so there is nothing to compare on one.
    """
    if device.type != "cpu":
        return []
    from reservoirpy.nodes import Reservoir, Ridge
    from scipy.sparse import csr_array

    from nnlib.data.series import mackey_glass
    from nnlib.sequence.echo_state import EchoStateNetwork

    t, washout, ahead = size["t"], 100, size["t"] // 4
    series = mackey_glass(t + 1)[:, None] - 0.93
    x, y = series[:-1], series[1:]
    one, ones = np.ones(1), np.ones((t, 1))
    contests = []
    for density, name in ((1.0, "echo state"), (0.1, "sparse echo state")):
        network = EchoStateNetwork(1, size["h"], ridge=1e-6, bias_scaling=0.2, density=density)
        drawn = network.recurrent.numpy()
        pool = Reservoir(
            W=drawn if density == 1 else csr_array(drawn),
            Win=network.input.numpy(), bias=network.bias.numpy(),
        )  # fmt: skip
        pool.initialize(x.numpy())
        ridge = Ridge(ridge=1e-6, fit_bias=False)
        network.fit(x, y, washout)
        same = Ridge(Wout=network.readout.T.numpy(), bias=np.zeros(1))  # for the free run
        same.initialize(np.ones((1, size["h"] + 2)), one[None])
        start = network.state.clone(), network.last.clone()

        def columns(pool=pool):
            pool.reset()
            return np.hstack([pool.run(x.numpy()), x.numpy(), ones])

        def fitted(columns=columns, ridge=ridge):
            return torch.from_numpy(ridge.fit(columns(), y.numpy(), warmup=washout).Wout)

        def predicted(columns=columns, same=same):
            return torch.from_numpy(same.run(columns()))

        def mine_ahead(network=network, start=start):
            network.state, network.last = start
            return network.generate(ahead)

        def peer_ahead(pool=pool, same=same, start=start):
            pool.state, now, run = {"out": start[0].numpy()}, start[1].numpy(), []
            for _ in range(ahead):
                now = same.step(np.concatenate([pool.step(now), now, one]))
                run.append(now)
            return torch.from_numpy(np.stack(run))

        for what, mine, peer in (
            ("fit", lambda n=network: n.fit(x, y, washout).readout.T, fitted),
            ("prediction", lambda n=network: n.predict(x), predicted),
            ("free run", mine_ahead, peer_ahead),
        ):
            runs = {"nnlib": mine, "reservoirpy": peer}
            told = {side: (lambda run=run: {"result": run()}) for side, run in runs.items()}
            contests.append(Contest(f"{name}, {what}", size, runs, told))
    return contests


CASES: dict[str, Callable[[dict[str, int], torch.device, torch.dtype], list[Contest]]] = {
    "attention": attention,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "encoder_layer": encoder_layer,
    "gpt": gpt,
    "bert": bert,
    "generation": generation,
    "recurrent": recurrent,
    "lengths": lengths,
    "bidirectional": bidirectional,
    "min_gru": min_gru,
    "seq2seq": seq2seq,
    "echo_state": echo_state,
}


def sizes(name: str, *, quick: bool, gpu: bool) -> list[dict[str, int]]:
    """Return the sizes of a case, by letter.

    b batch, t tokens, e width, h heads, L layers, v vocabulary; of what walks through time: t
    steps, d features of the input, e width of an embedding, h units of the state.
    """
    if name in ("recurrent", "lengths", "bidirectional", "min_gru"):
        b, t, h = (64, (64, 256, 1024), 512) if gpu else (16, (16, 64, 256, 1024), 128)
        walks = [{"b": b, "t": steps, "d": h, "h": h} for steps in t]
        some = walks if name in ("recurrent", "min_gru") else [walks[0], walks[-2]]
        return some[: 1 if quick else None]
    if name == "seq2seq":
        told = [(64, 64, 256, 512, 8192), (64, 256, 256, 512, 8192)]
        told = told if gpu else [(16, 16, 64, 128, 64), (16, 64, 64, 128, 1024)]
        return [dict(zip("btehv", size, strict=True)) for size in told[: 1 if quick else None]]
    if name == "echo_state":
        return [{"t": 2000, "h": h} for h in (100, 300, 1000)][: 1 if quick else None]
    if gpu:
        block = [(8, 512, 768, 12), (8, 2048, 1024, 16), (2, 8192, 2048, 16)]
        model = [(8, 512, 512, 8, 6, 8192), (8, 1024, 768, 12, 12, 50257)]
        told = [(1, 256, 768, 12, 12, 50257), (8, 512, 768, 12, 12, 50257)]
    else:
        block = [(8, 64, 128, 4), (4, 256, 256, 8), (2, 512, 512, 8)]
        model = [(16, 64, 64, 4, 2, 256), (8, 128, 128, 4, 4, 1024), (4, 256, 256, 8, 4, 4096)]
        told = [(1, 64, 128, 4, 4, 1024), (4, 128, 256, 8, 4, 4096)]
    chosen = {"gpt": model, "bert": model, "generation": told}.get(name, block)
    return [dict(zip("bteh" + "Lv", size, strict=False)) for size in chosen[: 1 if quick else None]]


def run(
    names: Sequence[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    quick: bool = False,
    budget: float | None = None,
    tell: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Hold every case to its peer, time both, print a line a row, and return the rows.

    Args:
        names: of the cases; None is all.
        device: where to compute; bfloat16 on a GPU, float32 elsewhere.
        quick: whether to take the smallest size only.
        budget: seconds for each side of a row; None is 2, or 0.3 when quick.
        tell: receives the lines.

    Raises:
        ValueError: an unknown name; the message lists those there are.
        AssertionError: two sides do not compute the same.
    """
    names = list(CASES) if names is None else list(names)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise ValueError(f"names={unknown!r} must be among {list(CASES)}")
    device = torch.device(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    budget = budget or (0.3 if quick else 2.0)
    rows = []
    tell(f"{measure.device_name(device)}, {dtype}; peer's time over nnlib's in brackets")
    for name in names:
        for size in sizes(name, quick=quick, gpu=device.type == "cuda"):
            torch.manual_seed(SEED)
            for contest in CASES[name](size, device, dtype):
                _hold_equal(contest, dtype)
                taken = measure.compare(contest.runs, device, budget=budget)
                rows.append({"what": contest.what, "shape": size, "seconds": taken})
                tell(_line(rows[-1]))
    return rows


def ratio(row: dict[str, Any]) -> float | None:
    """Return nnlib's time over the best peer's; None where no other library does the same."""
    peers = [seconds for name, seconds in row["seconds"].items() if name in PEERS]
    return row["seconds"]["nnlib"] / min(peers) if peers else None


def is_late(row: dict[str, Any]) -> bool:
    """Return whether the row misses the goal; without a peer there is none to miss."""
    found = ratio(row)
    return found is not None and found > GOAL


def _line(row: dict[str, Any]) -> str:
    mine, shape = row["seconds"]["nnlib"], " ".join(f"{k}{v}" for k, v in row["shape"].items())
    others = ", ".join(
        f"{name} {1e3 * seconds:.2f} ms ({seconds / mine:.2f})"
        for name, seconds in row["seconds"].items()
        if name != "nnlib"
    )
    late = f"   SLOWER than {GOAL} times the peer" if is_late(row) else ""
    return f"{row['what']:28s} {shape:32s} nnlib {1e3 * mine:.2f} ms, {others}{late}"


class _Pair:
    """Two modules that map the same input to the same output, forwards and backwards."""

    def __init__(self, x: Tensor, mine, peer, my_module: nn.Module, peer_module: nn.Module):
        self.x, self.weight = x, torch.randn_like(x)
        self.calls = {"nnlib": (mine, my_module), "torch.nn": (peer, peer_module)}

    def contest(self, what: str, size: dict[str, int]) -> Contest:
        def both_ways(call, module):
            y = call()
            wanted = [self.x, *module.parameters()]
            return y, torch.autograd.grad(y, wanted, self.weight)

        def named(call, module):
            y, (dx, *grads) = both_ways(call, module)
            told = {name: g for (name, _), g in zip(module.named_parameters(), grads, strict=True)}
            return {"y": y, "dx": dx, **told}

        runs = {n: lambda a=pair: both_ways(*a) for n, pair in self.calls.items()}
        results = {n: lambda a=pair: named(*a) for n, pair in self.calls.items()}
        return Contest(what, size, runs, results)


def _norm(what, mine_class, peer_class, size, device, dtype) -> Contest:
    e = size["e"]
    mine, peer = mine_class(e, eps=1e-5), peer_class(e, eps=1e-5)
    with torch.no_grad():
        for p in peer.parameters():
            p.add_(torch.randn_like(p) / 4)
    mine.load_state_dict(peer.state_dict())
    mine, peer = mine.to(device, dtype), peer.to(device, dtype)
    x = torch.randn(size["b"], size["t"], e).to(device, dtype).requires_grad_()
    pair = _Pair(x, lambda: mine(x), lambda: peer(x), mine, peer)
    return pair.contest(what, {k: size[k] for k in "bte"})


def _training(
    what: str,
    size: dict[str, int],
    peer: str,
    *sides: Side,
    others: dict[str, Side] | None = None,
) -> Contest:
    """Return the contest of training steps.

    Args:
        what: the row's name.
        size: its sizes.
        peer: the name of the second of `sides`.
        sides: nnlib's, and the peer's where there is one.
        others: further forms of the same work, by name.
    """
    runs, results = {}, {}
    named = dict(zip(("nnlib", peer), sides, strict=False))
    for name, (module, loss) in (others or {}).items():  # often nnlib's module, used otherwise
        named[name] = copy.deepcopy(module), loss
    for name, side in named.items():
        runs[name], results[name] = _step(*side)
    return Contest(what, size, runs, results)


def _step(module: nn.Module, loss: Callable[[nn.Module], Tensor]):
    """Return a training step, and what tells the loss and its gradient."""
    twin = copy.deepcopy(module)  # stays as it is, so that results may be asked for again
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss(module)
        value.backward()
        optimizer.step()

    def told():
        twin.zero_grad(set_to_none=True)
        value = loss(twin)
        value.backward()
        norm = torch.stack([p.grad.norm() for p in twin.parameters() if p.grad is not None])
        return {"loss": value.detach(), "length of the gradient": norm.norm()}

    return step, told


def _recurrent(kind: str, size: dict[str, int], device, dtype, **settings):
    """Return nnlib's layer and torch's with its weights, an input, and a target for its outputs."""
    from nnlib.sequence.gru import GRU
    from nnlib.sequence.lstm import LSTM
    from nnlib.sequence.rnn import RNN

    b, t, d, h = size["b"], size["t"], size["d"], size["h"]
    peer = getattr(nn, kind)(d, h, batch_first=True, **settings)
    mine = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}[kind](d, h, **settings)
    mine.load_state_dict(peer.state_dict())
    x, y = (torch.randn(b, t, width).to(device, dtype) for width in (d, h))
    return mine.to(device, dtype), peer.to(device, dtype), x, y


def _reading(what: str, size: dict[str, int], forms: dict[str, Callable], x: Tensor) -> Contest:
    """Return the contest of passes without gradients: outputs and final states."""

    @torch.no_grad()
    def told(form):
        y, state = form(x)
        parts = (state,) if isinstance(state, Tensor) else state
        return {"y": y} | {f"state {i}": part for i, part in enumerate(parts)}

    runs = {name: torch.no_grad()(lambda form=form: form(x)) for name, form in forms.items()}
    results = {name: (lambda form=form: told(form)) for name, form in forms.items()}
    return Contest(what, size, runs, results)


class _Translator(nn.Module):
    """The layers of `Seq2Seq` from torch.nn, under the same names."""

    def __init__(self, v: int, e: int, h: int, attention: bool):
        super().__init__()
        self.embed_source, self.embed_target = nn.Embedding(v, e), nn.Embedding(v, e)
        self.encoder = nn.GRU(e, h, batch_first=True)
        self.decoder = nn.GRU(e if attention else e + h, h, batch_first=True)
        self.look = nn.ParameterDict({"weight": torch.empty(h, h)}) if attention else None
        self.mix, self.to_logits = nn.Linear(2 * h, h), nn.Linear(h, v)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        seen, state = self.encoder(self.embed_source(source))
        given = self.embed_target(target)
        if self.look is None:
            context = state[0][:, None].expand(-1, target.shape[1], -1)
            h, _ = self.decoder(torch.cat([given, context], -1), state)
        else:
            h, _ = self.decoder(given, state)
            asked = h @ self.look["weight"]
            context = F.scaled_dot_product_attention(asked, seen, seen, scale=1.0)
        return self.to_logits(torch.tanh(self.mix(torch.cat([context, h], -1))))


def _gpt2(size: dict[str, int], tokens: int):
    """Return a GPT-2 of transformers with random weights, and a batch for it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(SEED)
    config = GPT2Config(
        vocab_size=size["v"], n_positions=size["t"], n_embd=size["e"], n_layer=size["L"],
        n_head=size["h"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config), torch.randint(size["v"], (size["b"], tokens))


def _hold_equal(contest: Contest, dtype: torch.dtype) -> None:
    """Raise AssertionError unless all sides compute the same."""
    tolerance = (
        {"rtol": 0.1, "atol": 0.1} if dtype == torch.bfloat16 else {"rtol": 1e-3, "atol": 1e-4}
    )
    told = {name: result() for name, result in contest.results.items()}
    wanted = told.get("nnlib", {})
    for side, values in told.items():
        for name, value in values.items():
            where = f"{contest.what}: {name} of {side} is not that of nnlib\n"
            torch.testing.assert_close(
                value, wanted[name], msg=lambda m, w=where: w + m, **tolerance
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.models", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}; all when left out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--threads", type=int, default=1, help="of the CPU; one is what busy machines agree on"
    )
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, saving nothing")
    parser.add_argument("--folder", type=Path, default=measure.RESULTS, help="of the results")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        rows = run(given.names or None, device=given.device, quick=given.quick)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    held = [row for row in rows if ratio(row) is not None]
    late = [row for row in held if is_late(row)]
    print(f"{len(held) - len(late)} of {len(held)} rows within {GOAL} times the peer")
    if not given.names and not given.quick:
        content = {"threads": given.threads, "rows": rows}
        path = measure.save("models", content, given.device, given.folder)
        print(f"saved {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
