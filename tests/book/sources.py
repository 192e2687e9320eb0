"""Which equation of the sources is which labelled equation of the book.

The book began from a reference of 48 sections. This list holds every formula of its sections 1–6,
in our own words, with the label under which the book states it, corrected where the source is
wrong or incomplete. `test_equations.py` asserts that each label stands in its chapter and is
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
}

EQUATIONS = tuple(
    SourceEquation(section, what, label)
    for section, equations in _SECTIONS.items()
    for what, label in equations.items()
)
