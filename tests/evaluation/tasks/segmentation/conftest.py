"""The small segmentation set."""

from tests.masked import *  # noqa: F403 (fixtures)
