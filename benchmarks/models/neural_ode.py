"""A neural ODE beside torchdiffeq's solvers: forwards, and with the gradient by either way."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.models._contest import Case, Contest, sized
from nnlib.dynamics.neural_ode import VectorField, odeint, odeint_adjoint

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
Solver = Callable[..., Tensor]


def neural_ode(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """One field and one tolerance for both; each side chooses its steps by itself."""
    import torchdiffeq

    dtype = torch.float32  # tolerances of 1e-5 mean nothing in bfloat16
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(size["b"], size["d"], generator=draw).to(device)
    times = torch.linspace(0, 1, 3, device=device)
    field = VectorField(size["d"], size["h"]).to(device, dtype)

    def forwards(solver: Solver, module: nn.Module) -> Tensor:
        with torch.no_grad():
            return solver(module, x, times, **TOLERANCE)

    def both_ways(solver: Solver, module: nn.Module) -> dict[str, Tensor]:
        start = x.clone().requires_grad_()
        module.zero_grad()
        y = solver(module, start, times, **TOLERANCE)
        y[-1].square().mean().backward()
        norm = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None])
        return {"y": y.detach(), "length of the gradient": norm.norm()}

    direct = {"nnlib": odeint, "torchdiffeq": torchdiffeq.odeint}
    adjoint = {"nnlib": odeint_adjoint, "torchdiffeq": torchdiffeq.odeint_adjoint}
    contests = []
    for what, sides, work in (
        ("neural ODE forwards", direct, forwards),
        ("neural ODE gradient, direct", direct, both_ways),
        ("neural ODE gradient, adjoint", adjoint, both_ways),
    ):
        runs = {name: _run(work, solver, field) for name, solver in sides.items()}
        told = {name: _run(both_ways, solver, field) for name, solver in sides.items()}
        contests.append(Contest(what, size, runs, told))
    return contests


def _run(work: Callable[..., Any], solver: Solver, field: nn.Module) -> Callable[[], Any]:
    twin = copy.deepcopy(field)
    return lambda: work(solver, twin)


SIZES = sized("bdh", (16, 2, 32), (128, 8, 64), (512, 32, 128))
CASES = {"neural_ode": Case(neural_ode, SIZES, SIZES)}
