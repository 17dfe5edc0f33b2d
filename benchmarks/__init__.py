"""How fast training is, beside other libraries on the same machine: ``python -m benchmarks steps``."""
