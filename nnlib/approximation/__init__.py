"""Other ways to build a function out of simple ones."""
