"""One style for every figure of the book: curves, maps, diagrams."""

from importlib import import_module

from nnlib.distribution import extra

with extra("plot"):
    import_module("matplotlib")
