"""What an evaluation found: the rows of `results.json`, their columns, summaries and differences."""
