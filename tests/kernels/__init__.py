"""A package, so that `kernels/test_attention.py` and `attention/test_attention.py` differ in name."""
