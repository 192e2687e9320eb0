"""Costs add up, and their ratio is the intensity."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from nnlib.kernels.cost import Cost

counts = st.integers(0, 10**15)


@given(flops=counts, moved=st.integers(1, 10**15))
def test_intensity_is_the_flops_for_each_byte(flops, moved):
    assert Cost(flops, moved).intensity == float(Fraction(flops, moved))


@given(parts=st.lists(st.tuples(counts, counts), min_size=1, max_size=5))
def test_one_after_the_other_costs_the_sum(parts):
    total = sum((Cost(*part) for part in parts), Cost(0, 0))
    assert (total.flops, total.bytes) == tuple(map(sum, zip(*parts, strict=True)))
