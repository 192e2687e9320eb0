"""A large language model beside that of transformers: a training step, and generation."""

import torch

from benchmarks.models._contest import SEED, Case, Contest, generating, sized, training
from benchmarks.peers import declare_torchvision
from nnlib.language.llm import LLM, next_token_loss


def step(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of a Llama: loss, backward, AdamW."""
    mine, peer, ids = _both(size, size["t"], device, dtype)
    return [
        training(
            "LLM training step", size, "transformers",
            (mine.train(), lambda m: next_token_loss(m, ids)),
            (peer.train(), lambda m: m(input_ids=ids, labels=ids, use_cache=False).loss),
        )
    ]  # fmt: skip


def generation(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Half a context of new tokens after a prompt of the other half."""
    half = size["t"] // 2
    mine, peer, ids = _both(size, half, device, dtype)
    return [generating("LLM generation", size, mine.eval(), peer.eval(), ids, half)]


def _both(size: dict[str, int], tokens: int, device: torch.device, dtype: torch.dtype):
    """Return our model and a Llama of transformers with the same weights, and a batch for them."""
    declare_torchvision()
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    e, h = size["e"], size["h"]
    peer = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size["v"], hidden_size=e, num_attention_heads=h,
            num_key_value_heads=h // 2, num_hidden_layers=size["L"], intermediate_size=8 * e // 3,
            max_position_embeddings=size["t"], bos_token_id=0, eos_token_id=None,
        )
    )  # fmt: skip
    mine = LLM.from_hugging_face(peer)
    ids = torch.randint(size["v"], (size["b"], tokens))
    return mine.to(device, dtype), peer.to(device, dtype), ids.to(device)


CASES = {
    "llm": Case(
        step,
        sized("btehLv", (8, 64, 96, 4, 2, 512), (8, 128, 192, 4, 4, 4096)),
        sized("btehLv", (8, 512, 768, 12, 12, 32000), (2, 2048, 1536, 16, 16, 32000)),
    ),
    "llm_generation": Case(
        generation,
        sized("btehLv", (1, 64, 96, 4, 2, 512), (4, 256, 192, 4, 4, 4096)),
        sized("btehLv", (1, 512, 768, 12, 12, 32000), (8, 1024, 768, 12, 12, 32000)),
    ),
}
