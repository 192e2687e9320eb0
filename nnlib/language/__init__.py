"""The parts of a large language model, one by one."""
