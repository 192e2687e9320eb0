"""What is particular to self_organizing_map; what all promise is in tests/test_contract.py."""

import pytest

from tests.support import Example


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    raise NotImplementedError(
        "TODO in tests/representation/test_self_organizing_map.py: a tiny one and its inputs, as in "
        'Example({"in_features": 4}, (torch.randn(5, 4),))'
    )


def test_todo():
    pytest.fail(
        "TODO in tests/representation/test_self_organizing_map.py: verify every equation of the chapter against "
        "something independent, and mark each such test with "
        '@pytest.mark.equation("self-organizing-map-forward")'
    )
