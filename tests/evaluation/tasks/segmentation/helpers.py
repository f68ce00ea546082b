"""What the tests of eval-seg share."""

from __future__ import annotations

from collections.abc import Callable

from rtok.config.schema import Config

Configure = Callable[..., Config]
