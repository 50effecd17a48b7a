"""Benchmarks: `python -m benchmarks` times every kernel; `benchmarks.studies` judges quality."""
