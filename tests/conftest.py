"""What every test shares: seeds, devices, and the report that ties equations to tests.

Nothing here may import nnlib: the jaxtyping hook that checks shapes is installed after this file
is read, and would miss what was imported before.
"""

import gc
import os
import random
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from benchmarks.peers import declare_torchvision
from pipeline import COLLECT
from pipeline.checks.outcomes import Known

# No test asserts on a clock: a busy machine turns nothing red.
settings.register_profile("book", deadline=None)
settings.load_profile("book")
gc.set_threshold(*COLLECT)
torch.set_num_threads(1)  # the same numbers on every machine, and no fight between workers

declare_torchvision()  # before anything imports it, or transformers, which does

# What they see of a page is shared: tests/book/looking.py.
SITE = tuple(f"tests/book/test_{room}.py" for room in ("frame", "reading", "site"))

_NO_CUDA = "" if torch.cuda.is_available() else "no CUDA device"
if _NO_CUDA:  # kernels then run in Triton's interpreter; set before anything imports Triton
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_addoption(parser):
    parser.addoption(
        "--truth-report",
        metavar="PATH",
        help="write which test verified which labelled equation, as JSON; run no such test whose "
        "outcome is known from the same content",
    )


def pytest_configure(config):
    path = config.getoption("--truth-report")
    if path:
        known = Known(Path(config.rootpath, path), Path(config.rootpath))
        config.pluginmanager.register(KnownTests(known))
        if not hasattr(config, "workerinput"):  # under xdist the controller alone writes
            config.pluginmanager.register(TruthReport(known))


def pytest_collection_modifyitems(items):
    for item in items:
        labels = [label for mark in item.iter_markers("equation") for label in mark.args]
        if labels:
            item.user_properties.append(("equations", labels))
        if _NO_CUDA and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=_NO_CUDA))
        if not _NO_CUDA and item.get_closest_marker("interpreter"):
            item.add_marker(pytest.mark.skip(reason="the GPU runs what the interpreter would"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Spread tests over workers: a file stays together, but for the two rooms that take longest."""
    from xdist.scheduler import LoadScopeScheduling

    class Rooms(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return together(nodeid)

    # By name, the last files are many and short: no worker waits for another's long one.
    config.option.loadscopereorder = False
    return Rooms(config, log)


def together(nodeid):
    """Return a name that tests share which run in one worker.

    A kernel's test compiles for itself. The pages of the site go into eight heaps, all tests of a
    page into one, which opens it once.
    """
    file, _, test = nodeid.partition("::")
    if file.startswith("tests/kernels/"):
        return f"{file}::{test.partition('[')[0]}"
    page = re.search(r"\[(?:.*-)?([\w/]+\.html)", test)
    if file in SITE and page:
        return f"site {zlib.crc32(page[1].encode()) % 8}"
    return file


class KnownTests:
    """Leaves out the tests of equations that ran before on the same content."""

    def __init__(self, known: Known):
        self.fresh = known.fresh()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        """Deselect them, the same ones on every worker."""
        left_out = [i for i in items if i.nodeid in self.fresh.get(i.nodeid.split("::")[0], ())]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in set(left_out)]


class TruthReport:
    """Collects the outcome of every test that verifies an equation."""

    def __init__(self, known: Known):
        self.known = known
        self.outcomes: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report):
        """Keep the worst outcome of set-up, call and tear-down."""
        for label in dict(report.user_properties).get("equations", ()):
            tests = self.outcomes.setdefault(label, {})
            before = tests.get(report.nodeid, "passed")
            worse = report.outcome if report.outcome != "passed" else before
            tests[report.nodeid] = "failed" if "failed" in (before, worse) else worse

    def pytest_sessionfinish(self, session):
        """Write the report, also when tests failed."""
        options = session.config.option
        some = options.keyword or session.shouldfail or session.shouldstop
        named = any("::" in argument for argument in session.config.args)
        self.known.record(self.outcomes, whole=not (some or named))


@pytest.fixture(autouse=True)
def _seeded():
    """Give every test the same random numbers, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=pytest.mark.interpreter),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ]
)
def kernel_device(request):
    """Run the test of a kernel in the interpreter, or on a CUDA device where there is one."""
    return torch.device(request.param)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Run the test on the CPU and, where there is one, on a CUDA device."""
    return torch.device(request.param)
