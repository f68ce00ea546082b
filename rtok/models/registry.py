"""From the name of a backbone to what is known about it. A new family is one file and one line here."""

from __future__ import annotations

from typing import NoReturn

from rtok.errors import UserError, nearest
from rtok.models.families import deit3, dinov2, dinov3, openclip, timm_any
from rtok.models.spec import ModelSpec

_FAMILIES = (dinov2.SPECS, deit3.SPECS, openclip.SPECS, dinov3.SPECS)
MODULE = "module:"
_BY_NAME = {spec.name: spec for family in _FAMILIES for spec in family}


def all_specs() -> tuple[ModelSpec, ...]:
    """Return every backbone with a name of its own, family by family."""
    return tuple(_BY_NAME.values())


def register(spec: ModelSpec) -> None:
    """Add a backbone.

    Raises:
        UserError: it is not a `ModelSpec`, or another one has its name.
    """
    if not isinstance(spec, ModelSpec):
        raise UserError(f"{spec!r} is not a backbone: give a ModelSpec.")
    if spec.name.startswith(timm_any.PREFIX) or _BY_NAME.get(spec.name, spec) != spec:
        raise UserError(f"The backbone '{spec.name}' exists already: choose another name.")
    _BY_NAME[spec.name] = spec


def search(text: str) -> tuple[list[ModelSpec], int]:
    """Return timm's plain ViTs whose names contain a text, and how many others do. Imports timm."""
    return timm_any.plain(text, all_specs())


def find(name: str) -> ModelSpec:
    """Return the backbone of that name; `timm:NAME` stands for any plain ViT of timm (and imports timm).

    NAME may also be `hf-hub:USER/REPO` or `local-dir:PATH`: a repository or a folder with a `config.json` of timm's.
    `module:NAME` stands for a module that a Python program has in memory: only the program can use it.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith(MODULE):
        return ModelSpec(name=name, patch_size=1, dim=1, native_size=1, build=_in_memory)
    if name.startswith(timm_any.PREFIX):
        return timm_any.spec_for(name, all_specs())
    raise UserError(
        f"There is no backbone '{name}'.{timm_any.suggestion(name) or nearest(name, _BY_NAME)} "
        "`rtok models` lists the names; 'timm:NAME' stands for any plain ViT of timm."
    )


def _in_memory() -> NoReturn:
    raise UserError(
        f"model.name: '{MODULE}...' stands for a module that a Python program had in memory. Run the program again "
        "(with resume=True to go on), or name a backbone that `rtok models` lists."
    )
