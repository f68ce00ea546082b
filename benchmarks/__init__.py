"""Timings of `rtok` against the path it replaces; `python -m benchmarks --help`."""
