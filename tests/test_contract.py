"""What every architecture promises, parametrised by the catalogue's written rows.

A new row is tested here without touching this file: its test file has an `example()` of it. What
a row cannot keep stands in `EXEMPT` with its reason, and must fail, or its entry goes.
"""

import copy
import inspect
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nnlib import catalog
from tests import contract_support as support
from tests.contract_support import changed, kind, subject
from tests.kernel_support import in_own_process
from tests.support import unhooked

EXEMPT: dict[str, dict[str, str]] = {
    "test_a_gradient_reaches_every_parameter": {
        "perceptron": "it learns by its own rule; its weights are buffers",
        "regularization": "dropout has nothing to learn",
        "echo_state": "only its read-out is learned, by one regression",
        "hopfield": "patterns are stored by a rule; its weights are buffers",
    },
    "test_takes_a_dtype": {"regularization": "dropout holds no tensor"},
    "test_is_built_on_the_device_that_is_asked_for": {"regularization": "dropout holds no tensor"},
    "test_on_the_meta_device_shapes_are_those_of_the_real_answer": {
        "roofline": "numbers go in and out, no tensors",
    },
    "test_one_example_is_answered_as_within_a_batch": {
        "backpropagation": "its loss and its gradients are means over the batch",
        "graph_attention": "a row is a node, and its answer depends on its neighbours",
        "gcn": "a row is a node, and its answer depends on its neighbours",
        "quantized_matmul": "rows of its weight are no batch, and would be cut as well",
        "roofline": "it takes two numbers, of which there is no batch",
        "message_passing": "a row is a node, and answers to its neighbours",
        "contrastive": "a row of its logits has a number for each text of the batch",
    },
}
"""By check and row: why the row leaves it. The check must fail there."""

NEEDS: dict[str, tuple[str, ...]] = {}
"""By check: the kinds of thing that it is about; filled by `holds_for`."""

EXACT = {"rtol": 0, "atol": 0}


def holds_for(*kinds: str):
    """Give a check every written row of these kinds; one that is exempt must fail."""

    def parametrised(check):
        NEEDS[check.__name__] = kinds
        exempt = EXEMPT.get(check.__name__, {})
        cases = []
        for row in catalog.written():
            if kind(row) in kinds:
                reason = exempt.get(row.name)
                marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
                cases.append(pytest.param(row, id=row.name, marks=marks))
        return pytest.mark.parametrize("row", cases)(check) if cases else lambda: None

    return parametrised


def same(got: list[Tensor], wanted: list[Tensor], **tolerance: float) -> None:
    torch.testing.assert_close(got, wanted, equal_nan=True, **tolerance)


def evaluating(it, **how):
    made = it.build(**how)
    return made.eval() if isinstance(made, nn.Module) else made


# ----------------------------------------------------------------------------- the contract itself
def test_every_row_meets_every_check_of_its_kind():
    """Nothing is left out silently: each check has a case for each row that it is about."""
    rows = {row.name: kind(row) for row in catalog.written()}
    kinds = ("module", "function", "optimizer", "tokenizer")
    strange = {name: k for name, k in rows.items() if k not in kinds}
    assert not strange, f"no check is about {strange}"
    for name, kinds in NEEDS.items():
        (mark,) = (m for m in globals()[name].pytestmark if m.name == "parametrize")
        assert {case.id for case in mark.args[1]} == {r for r, k in rows.items() if k in kinds}, (
            name
        )


def test_exemptions_are_of_checks_and_rows_that_exist():
    for name, rows in EXEMPT.items():
        about = {row.name for row in catalog.written() if kind(row) in NEEDS[name]}
        assert set(rows) <= about, f"{name} is not about {set(rows) - about}"
        assert all(len(reason) > 20 for reason in rows.values()), "a reason, in a sentence"


# ----------------------------------------------------------------------------------------- answers
@holds_for("module", "function", "optimizer", "tokenizer")
def test_loads_and_documents_itself(row):
    thing = catalog.load(row.name)
    assert thing.__module__ == row.module
    told = inspect.getdoc(thing) or ""
    missing = [part for part in (">>>", "Source:") if part not in told]
    assert not missing, f"the docstring of {row.module}.{row.cls} lacks {' and '.join(missing)}"


@holds_for("tokenizer")
def test_text_comes_back_from_numbers_within_the_vocabulary(row):
    it = subject(row)
    tokenizer = it.build()
    for text in it.example.inputs:
        ids = tokenizer.encode(text)
        assert ids == tokenizer.encode(text) and all(0 <= at < len(tokenizer) for at in ids)
        assert tokenizer.decode(ids) == text


@holds_for("module", "function")
def test_output_is_finite(row):
    it = subject(row)
    answer = it.call(it.build())
    assert answer and all(torch.isfinite(out).all() for out in answer)


@holds_for("module")
def test_a_gradient_reaches_every_parameter(row):
    it = subject(row)
    model = it.build()
    weighted = [(out * torch.randn_like(out)).sum() for out in it.call(model)]
    learned = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learned, "nothing here is learned by gradient"
    torch.stack(weighted).sum().backward()
    grads = {name: model.get_parameter(name).grad for name in learned}
    dry = [name for name, grad in grads.items() if grad is None or not grad.any()]
    assert not dry, f"no gradient reaches {dry}"


@holds_for("module", "function")
def test_works_in_double_precision(row):
    it = subject(row)
    made = evaluating(it)
    single = it.call(made)
    made = made.double() if isinstance(made, nn.Module) else made
    double = it.call(made, changed(it.example, in_double))
    assert all(out.dtype == torch.float64 for out in double if out.is_floating_point())
    same([out.double() for out in double], [out.double() for out in single], rtol=1e-4, atol=1e-5)


def in_double(value):
    return value.double() if value.is_floating_point() else value


@holds_for("module", "function")
def test_same_seed_same_answer(row):
    """In training mode, where numbers are drawn, as in evaluation, where none are."""
    it = subject(row)
    same(it.call(it.build()), it.call(it.build()), **EXACT)
    made = evaluating(it)
    same(it.call(made), it.call(made), **EXACT)


@holds_for("module", "function")
def test_leaves_its_input_alone(row):
    it = subject(row)
    before = copy.deepcopy((it.example.inputs, it.example.named))
    it.call(it.build())
    same(support.tensors([it.example.inputs, it.example.named]), support.tensors(before), **EXACT)


@holds_for("module", "function")
def test_one_example_is_answered_as_within_a_batch(row):
    it = subject(row)
    made = evaluating(it)
    alone = changed(it.example, lambda value: value[:1])
    single = it.call(made, alone)
    same(single, support.first_of_batch(it.call(made), single), rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------- kept and copied
@holds_for("module")
def test_saved_and_loaded_it_gives_the_same_answer(row, tmp_path):
    it = subject(row)
    model = evaluating(it)
    with torch.no_grad():  # weights that no fresh model has
        for number, value in enumerate(model.state_dict().values()):
            if value.is_floating_point():
                value.add_(0.01 * (number + 1))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "it")
    fresh = it.build(fresh=True, seed=9).eval()
    fresh.load_state_dict(load_file(tmp_path / "it"))
    same(it.call(fresh), it.call(model), **EXACT)


@holds_for("module")
def test_a_deep_copy_is_equal_and_independent(row):
    it = subject(row)
    model = evaluating(it)
    wanted = [out.clone() for out in it.call(model)]
    twin = copy.deepcopy(model)
    same(it.call(twin), wanted, **EXACT)
    with torch.no_grad():
        for value in twin.state_dict().values():
            value.zero_()
    same(it.call(model), wanted, **EXACT)


# ----------------------------------------------------------------------- where and in which dtype
def held(model):
    """Return the tensors that a model holds, by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@holds_for("module")
def test_takes_a_dtype(row):
    it = subject(row)
    model = it.build(dtype=torch.float64)
    wrong = [name for name, t in held(model).items() if t.dtype in (torch.float32, torch.float16)]
    assert not wrong, f"not in float64: {wrong}"
    answer = it.call(model, changed(it.example, in_double))
    assert all(out.dtype == torch.float64 for out in answer if out.is_floating_point())


@holds_for("module")
def test_is_built_on_the_device_that_is_asked_for(row):
    model = subject(row).build(fresh=True, device="meta")
    wrong = [name for name, tensor in held(model).items() if tensor.device.type != "meta"]
    assert held(model) and not wrong, f"not on the device: {wrong}"


@holds_for("module", "function")
def test_on_the_meta_device_shapes_are_those_of_the_real_answer(row):
    it = subject(row)
    made = evaluating(it)
    real = it.call(made)
    made = copy.deepcopy(made).to("meta") if isinstance(made, nn.Module) else made
    with torch.no_grad():
        told = it.call(made, changed(it.example, lambda value: value.to("meta")))
    assert [out.device.type for out in told] == ["meta"] * len(real)
    assert [(out.shape, out.dtype) for out in told] == [(out.shape, out.dtype) for out in real]


@pytest.fixture(scope="module")
def compiled(request, tmp_path_factory) -> dict[str, str]:
    """Trace all rows that were asked for in one process without the checker of shapes.

    That checker is written in Python that a trace cannot read; users do not have it.
    """
    folder: Path = tmp_path_factory.mktemp("compiled")
    cases = [item.callspec for item in request.session.items if "compiled" in item.fixturenames]
    given = {}
    for case in cases:
        it = subject(case.params["row"])
        made = evaluating(it)
        state = made.state_dict() if isinstance(made, nn.Module) else {}
        example = it.example
        given[it.row.name] = (example.arguments, state, example.inputs, example.named)
    torch.save(given, folder / "given")
    paths = str(folder / "given"), str(folder / "told")
    in_own_process(f"from tests.contract_support import compile_all\ncompile_all(*{paths!r})")
    return torch.load(folder / "told")


@holds_for("module", "function")
def test_compiles_to_one_graph_with_the_same_answer(row, compiled):
    assert row.name not in compiled, compiled[row.name]


# ---------------------------------------------------------------------------------- bad arguments
@holds_for("module", "optimizer")
def test_an_argument_out_of_range_is_refused_by_name(row):
    it = subject(row)
    first = [[torch.zeros(2, requires_grad=True)]] if kind(row) == "optimizer" else []
    for name, bad in support.must_refuse(it.example.arguments):
        with unhooked(), pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
            it.thing(*first, **{**it.example.arguments, name: bad})
            pytest.fail(f"{name}={bad!r} is taken")


@holds_for("module", "optimizer")
def test_any_bad_argument_gives_a_result_or_an_error_that_names_it(row):
    it = subject(row)

    def used(**arguments):
        if kind(row) == "optimizer":
            made = it.thing(**arguments)
            return _step(arguments["params"][0], made)
        made = it.thing(**arguments)
        made = it.example.prepare(made) if it.example.prepare else made
        return it.call(made)

    good = dict(it.example.arguments)
    if kind(row) == "optimizer":
        good["params"] = [torch.linspace(-2, 3, 6).requires_grad_()]
    raw = list(support.raw_errors(used, good, inspect.signature(it.thing)))
    assert not raw, "\n".join(raw)


@holds_for("module", "function")
def test_any_bad_input_gives_a_result_or_an_error_that_names_it(row):
    it = subject(row)
    made = it.build()
    call = made.forward if isinstance(made, nn.Module) else made
    raw = list(support.raw_errors(call, support.bound(call, it.example), inspect.signature(call)))
    assert not raw, "\n".join(raw)


# ------------------------------------------------------------------------------------- optimizers
@holds_for("optimizer")
def test_an_optimizer_goes_downhill(row):
    weight, optimizer = _valley(row)
    before = _step(weight, optimizer)
    for _ in range(50):
        after = _step(weight, optimizer)
    assert math.isfinite(after)
    assert after < before


@holds_for("optimizer")
def test_an_optimizer_resumes_where_it_stopped(row):
    weight, optimizer = _valley(row)
    for _ in range(5):
        _step(weight, optimizer)
    twin = weight.detach().clone().requires_grad_()
    resumed = catalog.load(row.name)([twin], **subject(row).example.arguments)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        _step(weight, optimizer)
        _step(twin, resumed)
    same([twin], [weight], **EXACT)


def _valley(row):
    weight = torch.linspace(-2, 3, 6).requires_grad_()
    return weight, catalog.load(row.name)([weight], **subject(row).example.arguments)


def _step(weight, optimizer):
    optimizer.zero_grad()
    loss = (torch.arange(1, weight.numel() + 1) * weight.square()).sum()
    loss.backward()
    optimizer.step()
    return loss.item()
