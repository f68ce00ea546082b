"""From the name of a backbone to what is known of it. A new family is one file and one line here."""

from __future__ import annotations

from rtok.errors import UserError, nearest
from rtok.models.families import dinov2
from rtok.models.spec import ModelSpec

_FAMILIES = (dinov2.SPECS,)
_BY_NAME = {spec.name: spec for family in _FAMILIES for spec in family}


def all_specs() -> tuple[ModelSpec, ...]:
    """Return every backbone with a name of its own, family by family."""
    return tuple(_BY_NAME.values())


def find(name: str) -> ModelSpec:
    """Return the backbone of that name.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise UserError(
        f"There is no backbone '{name}'.{nearest(name, _BY_NAME)} `rtok models` lists the valid names."
    )
