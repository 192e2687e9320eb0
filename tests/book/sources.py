"""Which equation of the sources is which labelled equation of the book.

The book began from a reference of 48 sections. This list holds every formula of those that are
written, in our own words, with the label under which the book states it, corrected where the source
is wrong or incomplete. `test_equations.py` asserts that each label stands in its chapter and is
tested, so nothing of the sources can be lost.
"""

from typing import NamedTuple


class SourceEquation(NamedTuple):
    """One formula of the sources and the label of the book's statement of it."""

    section: int
    what: str
    label: str


_SECTIONS = {
    1: {
        "weighted sum of the inputs plus the bias": "perceptron-preactivation",
        "threshold of the sum, 1 from zero on": "perceptron-step",
        "change of the weights at a mistake": "perceptron-update-weight",
        "change of the bias at a mistake": "perceptron-update-bias",
        "margin of a separator (with the bias absorbed and signs ±1)": "perceptron-margin",
        "radius of the data (with the bias absorbed)": "perceptron-radius",
        "bound on the number of updates": "perceptron-bound",
    },
    2: {
        "layer zero is the input": "mlp-input",
        "affine map of a layer": "mlp-affine",
        "activation of a hidden layer": "mlp-hidden",
        "output activation of the last layer": "mlp-output",
        "one hidden layer comes as near as wanted to a continuous function": "mlp-universal",
        "mean squared error": "mlp-mse",
        "cross-entropy": "mlp-cross-entropy",
    },
    3: {
        "sigmoid": "activations-sigmoid",
        "sigmoid's derivative": "activations-sigmoid-derivative",
        "tanh": "activations-tanh",
        "tanh's derivative": "activations-tanh-derivative",
        "ReLU": "activations-relu",
        "ReLU's derivative": "activations-relu-derivative",
        "leaky ReLU": "activations-leaky-relu",
        "leaky ReLU's derivative": "activations-leaky-relu-derivative",
        "ELU": "activations-elu",
        "ELU's derivative": "activations-elu-derivative",
        "GELU, with the normal distribution function": "activations-gelu",
        "GELU's derivative": "activations-gelu-derivative",
        "GELU written with erf": "activations-gelu-erf",
        "GELU's tanh approximation": "activations-gelu-tanh",
        "SiLU (Swish)": "activations-silu",
        "SiLU's derivative": "activations-silu-derivative",
        "softmax": "activations-softmax",
        "softmax's Jacobian": "activations-softmax-jacobian",
        "Mish": "activations-mish",
        "Mish's derivative (the source leaves it out)": "activations-mish-derivative",
    },
    4: {
        "error signal of the last layer": "backpropagation-output-delta",
        "error signal of a layer from that of the next": "backpropagation-delta",
        "gradient of a weight matrix": "backpropagation-weight-gradient",
        "gradient of a bias": "backpropagation-bias-gradient",
        "time of the backward pass": "backpropagation-cost",
    },
    5: {
        "gradient step": "optimizers-sgd",
        "velocity of momentum": "optimizers-momentum-velocity",
        "step of momentum": "optimizers-momentum-step",
        "velocity of Nesterov's method": "optimizers-nesterov-velocity",
        "step of Nesterov's method": "optimizers-nesterov-step",
        "sum of squares of AdaGrad": "optimizers-adagrad-sum",
        "step of AdaGrad": "optimizers-adagrad-step",
        "running mean of squares of RMSProp": "optimizers-rmsprop-mean",
        "step of RMSProp": "optimizers-rmsprop-step",
        "first moment of Adam": "optimizers-adam-first",
        "second moment of Adam": "optimizers-adam-second",
        "both bias corrections of Adam": "optimizers-adam-correction",
        "step of Adam": "optimizers-adam-step",
        "step of AdamW": "optimizers-adamw-step",
    },
    6: {
        "L1 penalty": "regularization-l1",
        "L2 penalty": "regularization-l2",
        "dropout's mask": "regularization-dropout-mask",
        "dropout in training": "regularization-dropout-train",
        "dropout at test time, the weights scaled": "regularization-dropout-test",
        "mean and variance over a batch": "regularization-batchnorm-statistics",
        "batch norm's normalized value": "regularization-batchnorm-normalize",
        "batch norm's scale and shift": "regularization-batchnorm-affine",
        "mean and variance over the features": "regularization-layernorm-statistics",
        "layer norm's normalized value, scaled and shifted": "regularization-layernorm",
        "root mean square of the features": "regularization-rms",
        "RMSNorm": "regularization-rmsnorm",
    },
    9: {
        "the state: what comes in, mixed with the state before": "rnn-state",
        "an output, read off the state": "rnn-output",
        "backpropagation through time (with the immediate derivative that the source leaves "
        "open)": "rnn-bptt",
        "bound on the product of Jacobians (which the source takes for the product)": "rnn-bound",
    },
    10: {
        "forget gate (of 2000)": "lstm-forget",
        "input gate": "lstm-input",
        "candidate": "lstm-candidate",
        "cell": "lstm-cell",
        "output gate": "lstm-output",
        "hidden state": "lstm-hidden",
        "one step of the cell's gradient, true along the direct path only": "lstm-path-step",
        "the same step, with the way through h that the source leaves out": "lstm-jacobian-step",
        "many steps, along the direct path only": "lstm-path",
        "many steps, all ways": "lstm-jacobian",
        "parameters, with one bias a gate": "lstm-parameters",
        "parameters, with torch's two": "lstm-parameters-torch",
    },
    11: {
        "reset gate": "gru-reset",
        "update gate": "gru-update",
        "candidate, with the reset before the product": "gru-candidate-before",
        "state, with z for the share of the new": "gru-state-swapped",
        "number of parameters, in both countings of biases": "gru-parameters",
    },
    13: {
        "state of the walk from the start": "bidirectional-forward",
        "state of the walk from the end": "bidirectional-backward",
        "both states of a step side by side": "bidirectional-output",
        "linear read-out of both": "bidirectional-readout",
    },
    14: {
        "additive score of an encoder state and a decoder state": "attention-additive",
        "weights: softmax of the scores over the encoder": "attention-weights",
        "context: weighted mean of the encoder states": "attention-context",
        "multiplicative score, general": "attention-general",
        "multiplicative score, dot": "attention-dot",
        "scaled dot-product attention of matrices": "attention-scaled",
    },
    15: {
        "queries, keys and values of a head": "transformer-head-projections",
        "a head: scaled dot-product attention of them": "transformer-head",
        "heads side by side, and the output projection": "transformer-multihead",
        "sinusoidal position, even features": "transformer-sine",
        "sinusoidal position, odd features": "transformer-cosine",
        "rotation matrix of a position": "transformer-rotation",
        "score of a rotated query and a rotated key": "transformer-rope-relative",
        "network of a position (ReLU in 2017, GELU later)": "transformer-ffn",
        "encoder block: attention, sum, norm": "transformer-attention-half",
        "encoder block: network, sum, norm": "transformer-network-half",
        "causal mask": "transformer-mask",
        "attention with the causal mask": "transformer-causal",
        "heads that share keys and values (the source's G is misread)": "transformer-gqa",
        "cost of self-attention, projections included": "transformer-cost-attention",
        "cost of the network": "transformer-cost-network",
        "cost of a layer": "transformer-cost",
    },
    16: {
        "masked language loss, given the corrupted text": "bert-mlm",
        "what a selected place shows: 80 % blank, 10 % random, 10 % itself": "bert-corruption",
        "next sentence, a softmax on the pooled first token": "bert-nsp",
        "the same as a sigmoid, on the pooled token": "bert-nsp-sigmoid",
        "input: token, position and segment vectors (then LayerNorm, dropout)": "bert-input",
        "classification by fine-tuning": "bert-classification",
        "tagging by fine-tuning": "bert-tagging",
    },
    17: {
        "the encoder's step": "seq2seq-encoder",
        "the context: the encoder's last state": "seq2seq-context",
        "the decoder's step, shown the context each time (Cho et al.)": "seq2seq-decoder",
        "next token from the decoder's bare state (Sutskever et al.)": "seq2seq-start",
        "weights of attention, from the scores of both states": "seq2seq-weights",
        "the context of a step": "seq2seq-attended",
        "context and state mixed": "seq2seq-mix",
        "next token from that mix, which the source leaves out": "seq2seq-output",
        "the transformer that reads": "seq2seq-memory",
        "T5's layer: causal self-attention (with the norm that the source leaves out)": (
            "seq2seq-t5-self"
        ),
        "T5's layer: attention to what was read": "seq2seq-t5-cross",
        "T5's layer: the network": "seq2seq-t5-network",
        "teacher forcing: the right token is fed": "seq2seq-forced",
        "in use: the model's own token is fed": "seq2seq-free",
    },
    37: {
        "leaky units: the state of the reservoir": "echo-state-update",
        "read-out of state and input (and the constant that the source leaves out)": (
            "echo-state-readout"
        ),
        "read-out by ridge regression in closed form": "echo-state-ridge",
        "echo state property, as what it means": "echo-state-property",
        "its condition: the source's radius < 1 is neither sufficient nor necessary": (
            "echo-state-sufficient"
        ),
    },
    48: {
        "probabilities of the next token: softmax of the last scores": "roofline-softmax",
        "block: RMSNorm, then queries, keys and values, rotated": "transformer-block-queries",
        "block: causal attention of the heads, output, residual": "transformer-block-attention",
        "block: SwiGLU": "transformer-swiglu",
        "block: RMSNorm, SwiGLU, residual": "transformer-block-network",
        "a text's loss: each token given those before it": "gpt-chain",
        "pre-training loss, with the index that makes it a guess": "gpt-loss",
        "token vectors plus position vectors": "gpt-embedding",
        "scores from the token vectors, tied": "gpt-logits",
        "probability of the token after the last one": "gpt-next",
        "a cached step: one query, all keys and values": "gpt-cache",
        "memory of the cache": "gpt-cache-memory",
        "parameters by the rule of twelve": "gpt-rule",
        "temperature": "gpt-temperature",
        "top-k": "gpt-top-k",
        "top-p, the fewest most probable": "gpt-top-p",
        "min-p": "gpt-min-p",
        "memory of attention with the table, and in tiles": "flash-attention-memory",
        "compute of both": "flash-attention-compute",
        "sliding window, which the source opens to the future": "flash-attention-window",
        "reach of layers of windows (the source's L w is neither reading)": "flash-attention-reach",
    },
}

EQUATIONS = tuple(
    SourceEquation(section, what, label)
    for section, equations in _SECTIONS.items()
    for what, label in equations.items()
)
