"""The models and kernels of The Executable Encyclopedia of Neural Networks.

Import what you use from its module, such as `from nnlib.foundations.mlp import MLP`: this package
re-exports nothing, so that a chapter depends only on the files that it imports.
"""

__version__ = "0.1.0"
