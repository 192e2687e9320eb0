"""Transformers beside torch.nn's layer and the models of transformers."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models._contest import SEED, Case, Contest, generating, sized, training
from benchmarks.peers import declare_torchvision
from nnlib.attention.bert import BERT, IGNORED
from nnlib.attention.gpt import GPT, next_token_loss
from nnlib.blocks.transformer_layer import TransformerEncoderLayer


def encoder_layer(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of a transformer encoder layer, with its norms after and before."""
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
            training(
                name, size, "torch.nn",
                (mine.to(device, dtype), lambda m, x=x, y=target: F.mse_loss(m(x), y)),
                (peer.to(device, dtype), lambda m, x=x, y=target: F.mse_loss(m(x), y)),
            )
        )  # fmt: skip
    return contests


def gpt(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of GPT-2: loss, backward, AdamW."""
    peer, ids = _gpt2(size, size["t"])
    mine = GPT.from_hugging_face(peer).train()
    mine, peer, ids = mine.to(device, dtype), peer.train().to(device, dtype), ids.to(device)
    return [
        training(
            "GPT training step", size, "transformers",
            (mine, lambda m: next_token_loss(m, ids)),
            (peer, lambda m: m(input_ids=ids, labels=ids, use_cache=False).loss),
        )
    ]  # fmt: skip


def bert(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of BERT on masked words: loss, backward, AdamW."""
    declare_torchvision()
    from transformers import BertConfig, BertForMaskedLM

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
        training(
            "BERT training step", size, "transformers",
            (mine.to(device, dtype), loss),
            (peer.train().to(device, dtype), lambda m: m(input_ids=ids, labels=targets).loss),
        )
    ]  # fmt: skip


def generation(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Greedy generation by GPT-2 with a cache; nnlib's without one stands beside it."""
    prompt, new = 16, size["t"] - 16
    peer, ids = _gpt2(size, prompt)
    mine = GPT.from_hugging_face(peer).to(device, dtype)
    peer, ids = peer.eval().to(device, dtype), ids.to(device)
    return [generating("GPT generation", size, mine, peer, ids, new)]


def _gpt2(size: dict[str, int], tokens: int):
    """Return a GPT-2 of transformers with random weights, and a batch for it."""
    declare_torchvision()
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(SEED)
    config = GPT2Config(
        vocab_size=size["v"], n_positions=size["t"], n_embd=size["e"], n_layer=size["L"],
        n_head=size["h"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config), torch.randint(size["v"], (size["b"], tokens))


CPU = sized("btehLv", (16, 64, 64, 4, 2, 256), (8, 128, 128, 4, 4, 1024), (4, 256, 256, 8, 4, 4096))
GPU = sized("btehLv", (8, 512, 512, 8, 6, 8192), (8, 1024, 768, 12, 12, 50257))
CASES = {
    "encoder_layer": Case(
        encoder_layer,
        sized("bteh", (8, 64, 128, 4), (4, 256, 256, 8), (2, 512, 512, 8)),
        sized("bteh", (8, 512, 768, 12), (8, 2048, 1024, 16), (2, 8192, 2048, 16)),
    ),
    "gpt": Case(gpt, CPU, GPU),
    "bert": Case(bert, CPU, GPU),
    "generation": Case(
        generation,
        sized("btehLv", (1, 64, 128, 4, 4, 1024), (4, 128, 256, 8, 4, 4096)),
        sized("btehLv", (1, 256, 768, 12, 12, 50257), (8, 512, 768, 12, 12, 50257)),
    ),
}
