"""The life of a run: its folder, its lock, its journal and its record."""
