"""An arena for readers of sequences: the same tasks, parameters and CPU-seconds for all of them."""
