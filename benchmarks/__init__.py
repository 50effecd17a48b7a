"""Benchmarks: `python -m benchmarks.label_models` and what joins it."""
