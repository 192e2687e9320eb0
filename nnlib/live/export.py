"""A torch module as an ONNX file, held to the module's own answers."""

import copy
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx.symbolic_helper import parse_args

from nnlib.distribution import extra

LARGEST = 400_000
"""Bytes of a model: a page that is touched downloads it."""
TOLERANCE = 1e-5
OPSET = 18

Feed = tuple[Tensor, ...]


class ExportError(ValueError):
    """A module whose file is too large, or does not answer as the module does."""


def answers(model: nn.Module, feed: Feed) -> tuple[Tensor, ...]:
    """Return the outputs of a module, as a tuple, whatever mode it is in."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            found = model(*feed)
    finally:
        model.train(training)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def exported(model: nn.Module, feeds: Sequence[Feed]) -> bytes:
    """Return a module as ONNX, whose inputs are `x0`, `x1`, … and whose outputs `y0`, `y1`, ….

    Args:
        model: the module; it is left as it is.
        feeds: what it takes, one or more times; all shapes are those of the first.

    Raises:
        ExportError: the file is larger than 400 kB, or onnxruntime's answers to `feeds` differ
            from the module's by more than 10⁻⁵.

    Example:
        >>> file = exported(nn.Linear(2, 1), [(torch.ones(1, 2),)])
        >>> len(file) < 2000
        True
    """
    plain = copy.deepcopy(model).cpu().eval()
    count = len(answers(plain, feeds[0]))
    proto = _proto(plain, feeds[0], count)
    _forget_where_it_came_from(proto)
    _shorten(proto.graph)
    content = proto.SerializeToString()
    if len(content) > LARGEST:
        raise ExportError(
            f"the model takes {len(content):,} bytes, at most {LARGEST:,}: make it smaller"
        )
    for number, feed in enumerate(feeds):
        for got, wanted in zip(runs(content, feed), answers(plain, feed), strict=True):
            error = np.abs(got - wanted.numpy()).max(initial=0.0)
            limit = TOLERANCE * max(1.0, float(wanted.abs().max()))
            if not error <= limit:
                raise ExportError(
                    f"the file differs from the module by {error:.2g} on input {number}"
                )
    return content


def runs(content: bytes, feed: Feed) -> list[np.ndarray]:
    """Return what onnxruntime answers."""
    with extra("live"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    given = [value.detach().cpu().numpy() for value in feed]
    return session.run(None, dict(zip(names, given, strict=True)))


class _Plain(nn.Module):
    """A module whose arguments are its inputs: tracing takes those left out for inputs too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *feed: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.model(*feed)


def _proto(model: nn.Module, feed: Feed, count: int) -> Any:
    """Return a module as ONNX: traced in 0.05 s, or, where it cannot be, in about 3 s."""
    with extra("live"):
        import onnx

    given = tuple(value.detach().cpu() for value in feed)
    named: dict[str, Any] = {
        "input_names": [f"x{at}" for at in range(len(feed))],
        "output_names": [f"y{at}" for at in range(count)],
        "verbose": False,
    }
    torch.onnx.register_custom_op_symbolic("aten::rms_norm", _rms_norm, OPSET)
    torch.onnx.register_custom_op_symbolic("aten::mT", _transposed, OPSET)
    file = io.BytesIO()
    with _silence():
        try:
            torch.onnx.export(
                _Plain(model),
                given,
                file,  # type: ignore[arg-type]  # the tracing one takes a file as well
                dynamo=False,
                opset_version=OPSET,
                **named,
            )
        except Exception:  # an operator that tracing lacks, or a torch without tracing
            with extra("live"):
                import onnxscript  # noqa: F401  (whether it is there)
            program = torch.onnx.export(
                model,
                given,
                dynamo=True,
                optimize=False,  # the engine does that when it loads the file
                **named,
            )
            assert program is not None
            return program.model_proto
    return onnx.load_from_string(file.getvalue())


@parse_args("v", "v", "v", "f")
def _rms_norm(graph: Any, x: Any, shape: Any, weight: Any, eps: float | None) -> Any:
    """Write out RMSNorm over the last axes, an operator that tracing lacks."""
    least = torch.finfo(torch.float32).eps if eps is None else eps
    sizes = shape.node()  # a list of numbers that may be traced, or one constant
    last = len(list(sizes.inputs())) or sizes.t("value").numel()
    axes = graph.op("Constant", value_t=torch.arange(-last, 0))
    tiny = graph.op("Constant", value_t=torch.tensor(least))
    square = graph.op("ReduceMean", graph.op("Mul", x, x), axes, keepdims_i=1)
    y = graph.op("Div", x, graph.op("Sqrt", graph.op("Add", square, tiny)))
    return y if weight.node().mustBeNone() else graph.op("Mul", y, weight)


@parse_args("v")
def _transposed(graph: Any, x: Any) -> Any:
    """Swap the last two axes, as `x.mT` does, another operator that tracing lacks."""
    *outer, rows, columns = range(x.type().dim())
    return graph.op("Transpose", x, perm_i=[*outer, columns, rows])


@contextmanager
def _silence() -> Iterator[None]:
    """Say nothing of operators that are not installed, nor of what will change in torch.

    Where tracing fails, torch prints its graph, with paths of this machine, past `sys.stdout`.
    """
    before, screen = logging.root.manager.disable, os.dup(1)
    logging.disable(logging.WARNING)
    try:
        with (
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere),
            warnings.catch_warnings(),
            torch.no_grad(),
        ):
            os.dup2(nowhere.fileno(), 1)
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(screen, 1)
        os.close(screen)
        logging.disable(before)


def _forget_where_it_came_from(proto: Any) -> None:
    """Drop what only a debugger reads: paths of this machine, half of a small file."""
    proto.ClearField("metadata_props")
    proto.graph.ClearField("metadata_props")
    proto.graph.ClearField("value_info")
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    for function in proto.functions:
        function.ClearField("metadata_props")
        function.ClearField("doc_string")
        for node in function.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")


def _shorten(graph: Any) -> None:
    """Give values short names in place of paths through the module: a seventh of a small file."""
    if any(each.HasField("g") for node in graph.node for each in node.attribute):
        return  # a graph within it knows them by their names
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    short: dict[str, str] = {}

    def of(name: str) -> str:
        return name if name in kept else short.setdefault(name, f"v{len(short)}")

    for weight in graph.initializer:
        weight.name = of(weight.name)
    for node in graph.node:
        node.ClearField("name")
        node.input[:] = [of(name) for name in node.input]
        node.output[:] = [of(name) for name in node.output]
