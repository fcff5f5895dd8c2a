"""Benchmarks: one script per question, run from the top of the project with ``python -m benchmarks.bench_NAME``."""
