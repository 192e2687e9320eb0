"""What every architecture promises, parametrised by the catalogue's written rows.

A new row is tested here without touching this file. A check that cannot apply to a row (a function
has no parameters to save) is not collected for it, so nothing is skipped.
"""

import copy
import inspect
import math

import jaxtyping
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nnlib import catalog


def kind(row):
    """Tell a module, an optimizer and a function apart; "missing" when it cannot be imported."""
    try:
        thing = catalog.load(row.name)
    except (ImportError, AttributeError):
        return "missing"
    if not inspect.isclass(thing):
        return "function"
    if issubclass(thing, nn.Module):
        return "module"
    return "optimizer" if issubclass(thing, torch.optim.Optimizer) else "class"


def rows(*kinds, where=lambda row: True):
    """Give a test every row that it applies to; a test that none needs is not collected."""
    chosen = [row for row in catalog.written() if kind(row) in kinds and where(row)]
    cases = [pytest.param(row, id=row.name) for row in chosen]
    return pytest.mark.parametrize("row", cases) if cases else lambda test: None


def build(row):
    torch.manual_seed(0)
    return catalog.load(row.name)(**row.kwargs)


def example(row, dtype=torch.float32):
    """Return a tiny input: token numbers where the row has a vocabulary, else real numbers."""
    generator = torch.Generator().manual_seed(1)
    if "vocab_size" in row.kwargs:
        return torch.randint(row.kwargs["vocab_size"], row.input_shape, generator=generator)
    return torch.randn(row.input_shape, generator=generator, dtype=torch.float64).to(dtype)


def tensors(output):
    """Return the tensors of an output, which may be nested in tuples."""
    if isinstance(output, Tensor):
        return [output]
    return [found for part in output for found in tensors(part)]


def run(row, model, x=None):
    torch.manual_seed(2)
    return tensors(model(example(row) if x is None else x))


def same(got, wanted, **tolerance):
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


EXACT = {"rtol": 0, "atol": 0}


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in catalog.written()])
def test_loads_and_documents_itself(row):
    thing = catalog.load(row.name)
    assert thing.__module__ == row.module
    told = inspect.getdoc(thing) or ""
    missing = [part for part in (">>>", "Source:") if part not in told]
    assert not missing, f"the docstring of {row.module}.{row.cls} lacks {' and '.join(missing)}"


@rows("module", where=lambda row: row.input_shape)
def test_output_is_finite(row):
    assert all(torch.isfinite(out).all() for out in run(row, build(row)))


@rows("module", where=lambda row: row.input_shape and row.trained_by == "gradient")
def test_a_gradient_reaches_every_parameter(row):
    model = build(row)
    weighted = [(out * torch.randn_like(out)).sum() for out in run(row, model)]
    torch.stack(weighted).sum().backward()
    learned = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert learned, "it is trained by gradient, so it needs parameters"
    dry = [name for name, grad in learned.items() if grad is None or not grad.any()]
    assert not dry, f"no gradient reaches {dry}"


@rows("module", where=lambda row: row.input_shape)
def test_works_in_double_precision(row):
    model = build(row).eval()
    single = run(row, model)
    double = run(row, model.double(), example(row, torch.float64))
    assert all(out.dtype == torch.float64 for out in double if out.is_floating_point())
    same([out.double() for out in single], [out.double() for out in double], rtol=1e-4, atol=1e-5)


@rows("module", where=lambda row: row.input_shape)
def test_saved_and_loaded_it_gives_the_same_output(row, tmp_path):
    model = build(row).eval()
    with torch.no_grad():  # weights that no fresh model has
        for number, value in enumerate(model.state_dict().values()):
            if value.is_floating_point():
                value.add_(0.01 * (number + 1))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "it")
    torch.manual_seed(9)
    fresh = catalog.load(row.name)(**row.kwargs).eval()
    fresh.load_state_dict(load_file(tmp_path / "it"))
    same(run(row, fresh), run(row, model), **EXACT)


@rows("module", "function", where=lambda row: row.input_shape)
def test_leaves_its_input_alone(row):
    x = example(row)
    before = x.clone()
    call = build(row) if kind(row) == "module" else catalog.load(row.name)
    run(row, call, x)
    same([x], [before], **EXACT)


@rows("module", "function", where=lambda row: row.input_shape)
def test_used_twice_it_answers_the_same(row):
    call = build(row).eval() if kind(row) == "module" else catalog.load(row.name)
    same(run(row, call), run(row, call), **EXACT)


@rows("module", where=lambda row: row.input_shape)
def test_a_deep_copy_is_equal_and_independent(row):
    model = build(row).eval()
    wanted = [out.clone() for out in run(row, model)]
    twin = copy.deepcopy(model)
    same(run(row, twin), wanted, **EXACT)
    with torch.no_grad():
        for value in twin.state_dict().values():
            value.zero_()
    same(run(row, model), wanted, **EXACT)


@rows("function", where=lambda row: row.input_shape)
def test_a_function_is_finite_in_both_precisions(row):
    function = catalog.load(row.name)
    single = run(row, function)
    double = run(row, function, example(row, torch.float64))
    assert all(torch.isfinite(out).all() for out in single)
    same([out.double() for out in single], double, rtol=1e-4, atol=1e-5)


@rows("function")
def test_a_function_refuses_what_is_no_tensor_and_names_the_argument(row):
    function = catalog.load(row.name)
    takes = inspect.signature(function).parameters
    needed = [name for name, p in takes.items() if p.default is p.empty]
    jaxtyping.config.update("jaxtyping_disable", True)  # our own check, not the tests' hook
    try:
        with pytest.raises((TypeError, ValueError)) as caught:
            function(*[None] * len(needed))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert any(name in str(caught.value) for name in needed)


@rows("optimizer")
def test_an_optimizer_goes_downhill(row):
    weight, optimizer = _valley(row)
    before = _step(weight, optimizer)
    for _ in range(50):
        after = _step(weight, optimizer)
    assert math.isfinite(after)
    assert after < before


@rows("optimizer")
def test_an_optimizer_resumes_where_it_stopped(row):
    weight, optimizer = _valley(row)
    for _ in range(5):
        _step(weight, optimizer)
    twin = weight.detach().clone().requires_grad_()
    resumed = catalog.load(row.name)([twin], **row.kwargs)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        _step(weight, optimizer)
        _step(twin, resumed)
    same([twin], [weight], **EXACT)


def _valley(row):
    weight = torch.linspace(-2, 3, 6).requires_grad_()
    return weight, catalog.load(row.name)([weight], **row.kwargs)


def _step(weight, optimizer):
    optimizer.zero_grad()
    loss = (torch.arange(1, 7) * weight.square()).sum()
    loss.backward()
    optimizer.step()
    return loss.item()


def bad_values(row):
    """Yield an argument of the tiny example and a value it must refuse."""
    for name, value in row.kwargs.items():
        if isinstance(value, bool):
            continue
        if isinstance(value, int):
            yield from ((name, bad) for bad in (0, -1))
        elif isinstance(value, float):
            yield from ((name, bad) for bad in (-1.0, math.nan))
        elif isinstance(value, str):
            yield name, "no such name"
        elif isinstance(value, list) and value and isinstance(value[0], int):
            yield from ((name, bad) for bad in ([], [0, *value[1:]], [*value[:-1], -1]))


@pytest.mark.parametrize(
    ("row", "name", "bad"),
    [
        pytest.param(row, name, bad, id=f"{row.name}-{name}={bad}")
        for row in catalog.written()
        if kind(row) in ("module", "optimizer")
        for name, bad in bad_values(row)
    ],
)
def test_a_bad_argument_is_refused_by_name(row, name, bad):
    first = [[torch.zeros(2, requires_grad=True)]] if kind(row) == "optimizer" else []
    with pytest.raises((TypeError, ValueError), match=name):
        catalog.load(row.name)(*first, **{**row.kwargs, name: bad})
