"""The whole table of a GPU within a budget of time; `python -m benchmarks.gpu --help`."""
