"""One file per family of backbones: its models, how it resizes positions, and the namings of its weight files."""
