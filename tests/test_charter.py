"""The charter of the API, `decisions/0019-a-charter-of-the-api.md`, held over the whole package.

What leaves a rule stands in the list beside it, by name and reason.
"""

import ast
import importlib
import inspect
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from nnlib import catalog
from pipeline import ROOT
from tests.contract_support import kind, subject

# ------------------------------------------------------------------------------ every public name


@dataclass(frozen=True)
class Public:
    """A public function, method or class of the package, as its source has it."""

    module: str
    name: str
    node: ast.FunctionDef | ast.ClassDef

    @property
    def path(self) -> str:
        return f"{self.module.removeprefix('nnlib.')}.{self.name}"

    def arguments(self) -> list[ast.arg]:
        given = self.node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        return [arg for arg in every if arg.arg not in ("self", "cls")]


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted((ROOT / "nnlib").rglob("*.py"))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def public(*kinds: type) -> list[Public]:
    """Return what users see: names without an underscore in files without one, and what these
    take over from their parts, whose names begin with one, by `__all__`."""
    found = []
    for file in FILES:
        if file.stem.startswith("_"):
            continue
        for node in [*tree(file).body, *_taken_over(file)]:
            found += [Public(module_of(file), name, n) for name, n in _seen(node)]
    return [each for each in found if isinstance(each.node, kinds)]


def _taken_over(file: Path) -> list[ast.stmt]:
    """Return what a file with `__all__` imports from parts beside it, as their sources have it."""
    body = tree(file).body
    listed = [
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    parts = {
        part.stem: tree(part).body
        for part in file.parent.glob("_*.py")
        if listed and part.stem != "__init__"
    }
    return [
        node
        for given in body
        if isinstance(given, ast.ImportFrom) and given.module
        for node in parts.get(given.module.rsplit(".", 1)[-1], ())
        if getattr(node, "name", "") in {alias.name for alias in given.names} & set(listed[0])
    ]


def _seen(node: ast.stmt):
    if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
        return
    yield node.name, node
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and (
                not part.name.startswith("_") or part.name == "__init__"
            ):
                yield f"{node.name}.{part.name}", part


FUNCTIONS = public(ast.FunctionDef)


def modules() -> dict[str, type[nn.Module]]:
    """Return every public class of the package that is a module of torch."""
    classes = {each.path: each for each in public(ast.ClassDef)}
    loaded = {p: getattr(importlib.import_module(c.module), c.name) for p, c in classes.items()}
    return {path: cls for path, cls in loaded.items() if issubclass(cls, nn.Module)}


# ------------------------------------------------------------------------------------------- names
RENAMED = {
    "d_model": "embed_dim",
    "nhead": "num_heads",
    "heads": "num_heads",
    "n_heads": "num_heads",
    "n_layers": "num_layers",
    "depth": "num_layers",
    "source_size": "source_vocab_size",
    "target_size": "target_vocab_size",
    "reservoir_size": "hidden_size",
    "hidden_dim": "hidden_size",
    "learning_rate": "lr",
    "step_size": "lr",
    "epsilon": "eps",
    "dropout_rate": "dropout",
    "n_classes": "num_classes",
    "max_len": "max_length",
    "context_length": "max_length",
    "padding_mask": "key_mask",
    "key_padding_mask": "key_mask",
    "attention_mask": "key_mask",
    "attn_mask": "mask",
}
"""What the charter calls otherwise."""

KEPT = {
    "sequence.echo_state.EchoStateNetwork.__init__(reservoir_size=)": "a reservoir is drawn and "
    "fixed, and called so by everybody; a hidden layer learns",
    "vision.cnn.VGG.__init__(depth=)": "VGG-16 likewise",
    "vision.resnet.ResNet.__init__(depth=)": "ResNet-50 is named after its depth, which counts "
    "what has weights, and not the blocks that are stacked",
    "energy.energy_based.langevin(step_size=)": "of walkers in the space of examples; no weight "
    "learns by it",
    "energy.energy_based.metropolis_langevin(step_size=)": "likewise",
    "probabilistic.bayesian.hmc(step_size=)": "of walkers too, whatever they walk through",
    "dynamics.neural_ode.odeint(step_size=)": "of a solver, in units of time, as torchdiffeq says",
    **{
        f"dynamics.neural_ode.{name}(step_size=)": "likewise"
        for name in (
            "odeint_adjoint",
            "solve",
            "NeuralODE.__init__",
            "ContinuousFlow.__init__",
        )
    },
}

ATTRIBUTES = {
    "tokens": "token_embedding",
    "positions": "position_embedding",
    "kinds": "segment_embedding",
    "embedding": "token_embedding",
    "embed_source": "source_embedding",
    "embed_target": "target_embedding",
    "blocks": "layers",
}
"""Likewise, of the parts of a model."""


def test_arguments_have_the_charters_names():
    wrong = {
        f"{each.path}({arg.arg}=)": RENAMED[arg.arg]
        for each in FUNCTIONS
        for arg in each.arguments()
        if arg.arg in RENAMED
    }
    assert wrong.keys() == KEPT.keys(), wrong


def test_a_count_is_called_a_number_of_things():
    """`segments: int` would be a tensor in one place and a count in the next."""
    wrong = [
        f"{each.path}({arg.arg}=): num_{arg.arg}"
        for each in FUNCTIONS
        if each.module != "nnlib.checks"
        for arg in each.arguments()
        if arg.arg in ("segments", "heads", "layers", "classes", "buckets", "experts")
        and arg.annotation is not None
        and ast.unparse(arg.annotation) == "int"
    ]
    assert not wrong, "\n".join(wrong)


MODELS = [row for row in catalog.written() if kind(row) == "module"]
models = pytest.mark.parametrize("row", MODELS, ids=lambda row: row.name)


@models
def test_parts_of_a_model_have_the_charters_names(row):
    names = {name for name, _ in subject(row).build(fresh=True).named_children()}
    wrong = {name: ATTRIBUTES[name] for name in sorted(names & set(ATTRIBUTES))}
    assert not wrong, wrong


# ------------------------------------------------------------------------------------ construction
WITHOUT_TENSORS = {
    "foundations.regularization.Dropout": "it holds no tensor",
    "sequence.bidirectional.Bidirectional": "its layers are given to it",
    "language.alignment.RewardModel": "its model is given to it, and its head goes where that is",
    "sequence.mamba.MambaLayer": "its mixer and its norm are given to it",
    "blocks.scored_attention.ScoredAttention": "what both forms share; they make the tensors",
    "blocks.language_model.DecoderLanguageModel": "what GPT and LLM share; they make the tensors",
    "blocks.language_model.RecurrentLanguageModel": "what RWKV, Mamba and xLSTM share; likewise",
    "language.adapters.Adapted": "its layer and its adapter are given to it",
    "language.adapters.IA3": "its vector is like the layer that is given to it",
    "language.adapters.PrefixTuning": "its tensors are like those of the model given to it",
    "language.adapters.PromptTuning": "likewise",
    "vision.resnet.StochasticDepth": "it holds no tensor",
    "graph.message_passing.MessagePassing": "what all layers share; they make the tensors",
    "energy.rbm.DeepBeliefNetwork": "its machines are given to it",
    "probabilistic.bayesian.Ensemble": "its members are made by what is given to it",
    "generative.normalizing_flow.Bijection": "what all maps share; they make the tensors",
    "generative.normalizing_flow.Flow": "its layers are given to it",
    "generative.normalizing_flow.Inverted": "its layer is given to it",
    "generative.normalizing_flow.Logit": "it holds no tensor",
    "generative.normalizing_flow.Reverse": "it holds no tensor",
}
"""Modules that make no tensor of their own, and so take neither `device` nor `dtype`."""


@pytest.mark.parametrize("path", sorted(set(modules()) - set(WITHOUT_TENSORS)))
def test_a_module_takes_device_and_dtype_by_keyword_alone(path):
    takes = inspect.signature(modules()[path]).parameters
    for name in ("device", "dtype"):
        assert name in takes, f"{path} takes no {name}"
        assert takes[name].kind is inspect.Parameter.KEYWORD_ONLY, f"{path}(*, {name}=None)"
        assert takes[name].default is None


def test_the_list_of_modules_without_tensors_is_true():
    for path in WITHOUT_TENSORS:
        assert not {"device", "dtype"} & set(inspect.signature(modules()[path]).parameters), path


def test_reset_parameters_resets_every_parameter():
    """Filled with sevens and reset, no parameter holds a seven."""
    tried = set()
    for row in MODELS:
        for part in subject(row).build(fresh=True).modules():
            if type(part).__module__.startswith("nnlib.") and hasattr(part, "reset_parameters"):
                tried.add(type(part).__name__)
                _hold_to_reset(part)
    alone = {name: cls for name, cls in modules().items() if hasattr(cls, "reset_parameters")}
    for path, cls in alone.items():
        if cls.__name__ not in tried and path not in ABSTRACT:
            assert path in SMALL, f"SMALL needs arguments for {path}"
            _hold_to_reset(cls(*SMALL[path]))


SMALL: dict[str, tuple] = {
    "approximation.hypernetwork.HyperLSTM": (3, 4),
    "approximation.hypernetwork.KernelHyperNetwork": (2, 3),
    "approximation.hypernetwork.LayerNormLSTM": (3, 4),
    "blocks.scored_attention.MultiplicativeAttention": (4, 6),
    "blocks.t5.RelativePositionBias": (4,),
    "blocks.t5.T5Layer": (8, 2),
    "approximation.kan.ChebyshevKANLayer": (3, 2),
    "approximation.kan.FastKANLayer": (3, 2),
    "blocks.batch_norm.BatchNorm1d": (3,),
    "blocks.batch_norm.BatchNorm2d": (3,),
    "generative.vae.VectorQuantizer": (3, 4),
    "vision.cnn.LeNet5": (),
    "representation.contrastive.MaskedAutoencoder": (8, 2, 8, 1, 2, 8),
    "representation.word2vec.FastText": (["ab", "abc"], 3),
    "representation.word2vec.GloVe": (5, 3),
    "representation.word2vec.HierarchicalSoftmax": (torch.tensor([3, 2, 1]), 3),
    "vision.cnn.VGG": (11, True),
    "vision.vit.WindowAttention": (8, 2, 2),
    "vision.vit.SwinTransformer": (2, 8, (1, 1), (1, 2), 2),
    "generative.autoencoder.TopKAutoencoder": (4, 8, 2),
    "generative.gan.ModulatedConv2d": (3, 4, 3, 5),
    "graph.graph_attention.DistanceBias": (2, 3),
    "graph.graph_attention.GATv2Layer": (3, 4),
    "language.adapters.Adapter": (4, 2),
    "dynamics.neural_ode.ContinuousFlow": (2, 4),
    "dynamics.spiking.LIF": (0.9,),
    "dynamics.liquid.CfC": (3, 4),
    "dynamics.liquid.CfCCell": (3, 4),
    "energy.rbm.GaussianRBM": (4, 3),
    "memory.hopfield.HopfieldPooling": (4, 2),
    "memory.neural_turing_machine.DNC": (3, 2),
    "reinforcement.dqn.NoisyLinear": (3, 4),
    "representation.jepa.MaskedAutoencoder": (8, 4, 8, 1, 2, 4, 1, 2),
    "representation.jepa.VJEPA": (2, 8, 1, 4, 8, 1, 2, 4, 1, 2),
    "sequence.gru.ResetBeforeGRU": (3, 4),
    "sequence.gru.MinGRU": (3, 4),
    "sequence.lstm.PeepholeLSTM": (3, 4),
    "sequence.wavenet.Upsampling": (3, 4),
    "sequence.mamba.Mamba2": (7, 32, 2),
    "sequence.mamba.Mamba2Mixer": (8, 3, 4),
    "sequence.xlstm.MLSTM": (3, 4),
    "sequence.xlstm.SLSTM": (3, 4),
    "sequence.xlstm.xLSTMLarge": (7, 16, 1),
    "sequence.xlstm.xLSTMLargeBlock": (8, 2, 4, 8, 12),
}
"""Arguments of what has `reset_parameters` and is no part of a catalogue's model."""
ABSTRACT = {
    "blocks.language_model.DecoderLanguageModel",
    "blocks.recurrent.Recurrent",
    "blocks.scored_attention.ScoredAttention",
}


def _hold_to_reset(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7.0)
    module.reset_parameters()
    kept = [name for name, p in module.named_parameters() if (p == 7.0).any()]
    assert not kept, f"{type(module).__name__}.reset_parameters leaves {kept}"


def test_from_hugging_face_is_a_class_method_with_one_argument():
    found = [each for each in FUNCTIONS if each.name.endswith(".from_hugging_face")]
    assert found
    for each in found:
        assert [ast.unparse(d) for d in each.node.decorator_list] == ["classmethod"], each.path
        assert [arg.arg for arg in each.arguments()] == ["model_or_path"], each.path


# ---------------------------------------------------------------------------------- what comes back
def test_public_functions_are_annotated_throughout():
    bare = [
        f"{each.path}: {', '.join(lost)}"
        for each in FUNCTIONS
        if (
            lost := [arg.arg for arg in each.arguments() if arg.annotation is None]
            + ["-> …"] * (each.node.returns is None and not each.name.endswith("__init__"))
        )
    ]
    assert not bare, "\n".join(bare)


BY_KIND_OF_INPUT: dict[str, str] = {}
"""Functions whose result is of the kind of what they were given, which no flag decides."""


def test_no_flag_decides_what_is_returned():
    unions = [
        each.path
        for each in FUNCTIONS
        if each.node.returns is not None
        and re.search(r"\| tuple\[|\btuple\[.*\] \|", ast.unparse(each.node.returns))
        and each.path not in BY_KIND_OF_INPUT
    ]
    assert not unions, unions


LOSSES_WITHOUT_A_MODEL = {
    "foundations.backpropagation.network_loss": "the network is its weights and biases, by hand",
    "foundations.mlp.mse_loss": "torch.nn.functional's name, and its arguments",
    "foundations.mlp.cross_entropy_loss": "torch.nn's loss of that name, as a function",
    "vision.capsule.margin_loss": "of lengths, whatever they are lengths of",
    "energy.energy_based.margin_loss": "of energies, whatever has given them",
    "generative.gan.minimax_loss": "of scores: two models play, and each has its own loss",
    "generative.gan.non_saturating_loss": "likewise",
    "generative.gan.least_squares_loss": "likewise",
    "generative.gan.hinge_loss": "likewise",
    "generative.gan.wasserstein_loss": "likewise",
    "generative.gan.relativistic_loss": "likewise",
    "language.mixture_of_experts.balance_loss": "of one layer's routing; a model has many layers",
    "language.mixture_of_experts.router_z_loss": "likewise",
    "language.compression.distillation_loss": "of two models' scores, whatever gave them",
    "language.alignment.reward_loss": "of pairs of scores, whatever has given them",
    "language.alignment.dpo_loss": "of log-probabilities: two models play, policy and reference",
    "language.alignment.ipo_loss": "likewise",
    "language.alignment.kto_loss": "likewise",
    "language.alignment.orpo_loss": "of log-probabilities, like its relatives",
    "language.alignment.ppo_loss": "of log-probabilities: now, and when the answers were written",
    "language.alignment.grpo_loss": "of log-probabilities of three models",
    "language.alignment.value_loss": "of values, now and when the answers were written",
    "representation.contrastive.contrastive_loss": "of vectors, whatever has given them",
    "representation.contrastive.triplet_loss": "likewise",
    "representation.contrastive.supervised_contrastive_loss": "likewise",
    "representation.contrastive.clip_loss": "of two encoders' vectors, see `dual_encoder_loss`",
    "representation.contrastive.sigmoid_loss": "likewise",
    "representation.contrastive.byol_loss": "of two networks' vectors",
    "representation.contrastive.dino_loss": "likewise",
    "representation.contrastive.barlow_twins_loss": "of two views' vectors",
    "representation.contrastive.vicreg_loss": "likewise",
    "representation.word2vec.negative_sampling_loss": "of scores, whatever has given them",
    "representation.word2vec.expected_loss": "likewise",
    "probabilistic.mixture_density.nll_loss": "of a mixture, whatever has given it",
    "probabilistic.mixture_density.winner_takes_all_loss": "likewise",
}


def test_a_loss_is_a_function_of_a_model_and_a_batch():
    methods = [path for path, cls in modules().items() if hasattr(cls, "loss")]
    assert not methods, f"functions, not methods of {methods}"
    for each in FUNCTIONS:
        method = "." in each.name
        if not each.name.endswith("_loss") or method or each.path in LOSSES_WITHOUT_A_MODEL:
            continue
        first = [arg.arg for arg in each.arguments()][:1]
        assert first == ["model"], f"{each.path}({', '.join(first)}, …): model first, or _of_logits"


WRITERS = {
    "gpt.generate": lambda model, ids, **_: model.generate(ids[:, -2:], 2),
    "llm.generate": lambda model, ids, **_: model.generate(ids[:, -2:], 2),
    "rwkv.generate": lambda model, ids, **_: model.generate(ids[:, -2:], 2),
    "mamba.generate": lambda model, ids, **_: model.generate(ids[:, -2:], 2),
    "xlstm.generate": lambda model, ids, **_: model.generate(ids[:, -2:], 2),
    "seq2seq.greedy": lambda model, source, *_, **__: model.greedy(source, 2),
    "seq2seq.beam": lambda model, source, *_, **__: model.beam(source, 2, 2),
    "normalizing_flow.sample": lambda model, *_, **__: model.sample(2),
    "wavenet.generate": lambda model, levels: model.generate(levels, 2, use_cache=False),
    "gan.sample": lambda model, *_, **__: model.sample(2),
    "mixture_density.sample": lambda model, x, *_, **__: model.sample(x, 2),
}
"""How the methods are called that run a model many times over."""
WITHOUT_MODES = {
    "echo_state.generate": "nothing in it differs between training and use",
    "vae.sample": "likewise",
}


def test_every_method_that_writes_is_tried():
    found = {
        f"{row.name}.{name}"
        for row in MODELS
        for name in ("generate", "greedy", "beam", "sample")
        if hasattr(catalog.load(row.name), name)
    }
    assert found == set(WRITERS) | set(WITHOUT_MODES)


@pytest.mark.parametrize("writer", WRITERS)
def test_modes_are_as_they_were_found_whatever_is_raised(writer):
    it = subject(catalog.get(writer.split(".")[0]))
    model = it.build().train()
    parts = [part for part in model.modules() if not list(part.children())]
    parts[0].eval()  # a mixed tree, which one call of train() would flatten
    before = [part.training for part in model.modules()]

    def stop(*_):
        raise ArithmeticError("in the middle")

    for part in parts:
        part.register_forward_pre_hook(stop)
    with pytest.raises(ArithmeticError):
        WRITERS[writer](model, *it.example.inputs)
    assert [part.training for part in model.modules()] == before


# -------------------------------------------------------------------------------------- docstrings
BOILERPLATE = (
    r"an argument of the wrong kind, named",
    r"an argument out of its range, named",
    r"shapes that do not fit, named",
    r"TypeError, ValueError: (a bad|as for|a count|a width)",
    r"is no floating-point tensor\.$",
)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT / "nnlib").as_posix())
def test_docstrings_do_not_repeat_the_policy_of_errors(file):
    text = file.read_text(encoding="utf-8")
    said = [line.strip() for line in text.split("\n") if re.search("|".join(BOILERPLATE), line)]
    assert not said, f"nnlib/checks.py says it once: {said}"


# ------------------------------------------------------------------------------------- the package
def test_types_travel_with_the_package():
    assert (ROOT / "nnlib" / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["nnlib"]


@pytest.mark.parametrize("family", [f for f in catalog.FAMILIES if (ROOT / "nnlib" / f).is_dir()])
def test_a_family_knows_no_other(family):
    """What two of them share stands in blocks or kernels."""
    others = "|".join(f for f in catalog.FAMILIES if f not in (family, "kernels"))
    strange = [
        f"{file.name}: {ast.unparse(node)}"
        for file in sorted((ROOT / "nnlib" / family).glob("*.py"))
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and re.search(rf"\bnnlib\.({others})\b", ast.unparse(node))
    ]
    assert not strange, strange
