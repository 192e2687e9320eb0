"""What readers look for, and where they should be sent: one of the pages, and the section."""

from typing import NamedTuple


class Query(NamedTuple):
    """The words, the pages that answer best (mostly one), and the section if there is one."""

    words: str
    pages: tuple[str, ...]
    section: str = ""


QUERIES = [
    Query("how to run in colab", ("chapters/intro",), "run-a-chapter"),
    Query("perplexity", ("chapters/glossary",), "term-Perplexity"),
    Query("RoPE", ("chapters/attention/transformer",), "rotary-positions"),
    Query("online softmax", ("chapters/kernels/flash_attention",)),
    Query("attention", ("chapters/attention/attention",)),
    Query("backpropagation", ("chapters/foundations/backpropagation",)),
    # A slip of the hand: softmax is defined in two places.
    Query("softmx", ("chapters/foundations/activations", "chapters/glossary")),
    Query("forget gate", ("chapters/sequence/lstm",)),
    Query("KV cache", ("chapters/attention/gpt",), "keep-the-keys-and-values"),
    Query("AdamW", ("chapters/foundations/optimizers",), "both-adam-and-adamw"),
    Query("GELU", ("chapters/foundations/activations",)),
    Query("teacher forcing", ("chapters/sequence/seq2seq",)),
    Query("vanishing gradient", ("chapters/sequence/rnn",)),
    # Both take weights from torch's layer; the GRU has to reorder them first.
    Query("load_state_dict", ("chapters/sequence/gru", "chapters/sequence/lstm")),
    Query("bleu", ("chapters/sequence/seq2seq",)),
    Query("flash attention", ("chapters/kernels/flash_attention",)),
    Query("layer norm", ("chapters/foundations/regularization",)),
    Query("learning rate schedule", ("chapters/foundations/optimizers",), "schedules-and-warm-up"),
    Query("overfitting", ("chapters/foundations/regularization",)),
    Query("beam search", ("chapters/sequence/seq2seq",)),
    Query("momentum", ("chapters/foundations/optimizers",), "remember-the-way-momentum"),
    Query("dropout", ("chapters/foundations/regularization",)),
    Query("xavier initialization", ("chapters/foundations/activations",)),
    Query("xor", ("chapters/foundations/mlp",)),
    Query("positional encoding", ("chapters/attention/transformer",)),
    Query("masked language model", ("chapters/attention/bert",)),
    Query("spectral radius", ("chapters/sequence/echo_state",)),
    Query("roofline", ("chapters/kernels/roofline",)),
    Query("bidirectional", ("chapters/sequence/bidirectional",)),
    Query("peephole", ("chapters/sequence/lstm",), "peepholes"),
]
