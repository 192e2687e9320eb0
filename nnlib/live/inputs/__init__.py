"""What a reader gives to a live model: how it looks, and how it becomes tensors; one in a file."""
