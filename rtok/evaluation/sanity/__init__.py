"""Checks that the attacks of an evaluation work as they should."""

from rtok.evaluation.sanity.run import sanity

__all__ = ["sanity"]
