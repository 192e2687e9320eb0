"""A package, so that two files named `test_attention.py` can be told apart."""
