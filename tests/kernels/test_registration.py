"""What every test of a kernel says under `OPCHECK`, run in one process that has no interpreter.

Torch's checks of a registered operation, and `torch.compile`, start the same machinery for each.
"""

import json

import pytest

from tests.kernel_support import in_own_process, programs

PROGRAMS = programs("OPCHECK")

RUN = """
import json, sys, traceback
told = {{}}
for name, program in json.loads({programs!r}).items():
    try:
        exec(program, {{"__name__": name}})
    except Exception:
        told[name] = traceback.format_exc()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def failures(request):
    """Run the programs of all tests that were selected; return what those raised that failed."""
    asked = {
        item.callspec.params["name"]: PROGRAMS[item.callspec.params["name"]]
        for item in request.session.items
        if "failures" in item.fixturenames
    }
    out = in_own_process(RUN.format(programs=json.dumps(asked)))
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("name", PROGRAMS)
def test_registration_and_torch_compile(name, failures):
    assert name not in failures, failures[name]


def test_every_operation_has_such_a_program():
    assert {"cross_entropy", "linear_scan", "norm", "softmax"} <= PROGRAMS.keys()
