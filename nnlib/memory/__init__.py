"""Networks with a store to write to and to read from."""
