"""What plugins call: add an attack, a threat, a defense, a data set or a backbone under a name of its own.

What is registered is code, or `module:name`, which is imported once a run needs it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from rtok.config.attack import AttackConfig
from rtok.config.defenses import DefenseConfig
from rtok.config.registry import ATTACKS, DATASETS, DEFENSES, THREATS
from rtok.config.types import Section
from rtok.errors import UserError
from rtok.models import registry as backbones
from rtok.models.spec import ModelSpec

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_HOME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def register_attack(name: str, algorithm: Callable[..., Any] | str, settings: type[AttackConfig]) -> None:
    """Add an attack that `attack.method: NAME` chooses.

    Args:
        algorithm: a class whose instances are made from the settings and have `run(images, objective, context)`.
        settings: its section; a subclass of `AttackConfig` whose `method` is the name by default.

    Raises:
        UserError: the name is taken or not a name, or the other arguments are not as described.
    """
    _check(name, algorithm)
    _check_settings(name, settings, AttackConfig, "method")
    ATTACKS.add(name, algorithm, about=_summary(settings), section=settings)


def register_threat(name: str, function: Callable[..., Any] | str, about: str) -> None:
    """Add a threat that `threats: [NAME]` chooses.

    Args:
        function: returns the scenarios to craft in, as the functions of `rtok.evaluation.threats` do.
        about: what the attacker knows, for the docs.

    Raises:
        UserError: the name is taken or not a name, or the function cannot be called.
    """
    _check(name, function)
    THREATS.add(name, function, about=about)


def register_defense(name: str, cls: type | str, settings: type[DefenseConfig]) -> None:
    """Add a defense that `defense: {kind: NAME}` trains and that its files name.

    Args:
        cls: a subclass of `rtok.defenses.base.Defense`.
        settings: its section; a subclass of `DefenseConfig` whose `kind` is the name by default.

    Raises:
        UserError: the name is taken or not a name, or the other arguments are not as described.
    """
    _check(name, cls)
    _check_settings(name, settings, DefenseConfig, "kind")
    DEFENSES.add(name, cls, about=_summary(settings), section=settings)


def register_dataset(
    name: str, open: Callable[..., Any] | str, about: str, needs_root: bool = True, *, has_masks: bool = False
) -> None:
    """Add a data set that `data.name: NAME` chooses.

    Args:
        open: from the `data` section (a `DataConfig`) to a `rtok.data.ImageSource`.
        about: what it is, for the docs.
        needs_root: whether `data.root` must be given.
        has_masks: whether the source is a `rtok.data.masks.MaskedFiles`, so that `eval-seg` can use it.

    Raises:
        UserError: the name is taken or not a name, or `open` cannot be called.
    """
    _check(name, open)
    traits = [trait for trait, there in (("root", needs_root), ("masks", has_masks)) if there]
    DATASETS.add(name, open, about=about, traits=traits)


def register_backbone(spec: ModelSpec) -> None:
    """Add a backbone that `model.name` chooses.

    Raises:
        UserError: it is not a `ModelSpec`, or its name is taken.
    """
    backbones.register(spec)


def _check(name: str, home: Callable[..., Any] | str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be registered: a name is lower-case letters, digits, '-', '_' and '.', such as 'my-set'."
        )
    if not (callable(home) or (isinstance(home, str) and _HOME.fullmatch(home))):
        raise UserError(
            f"{home!r} cannot be registered as '{name}': give a class or function, or the text 'module:name'."
        )


def _check_settings(name: str, settings: type[Section], base: type[Section], key: str) -> None:
    if not (isinstance(settings, type) and issubclass(settings, base)):
        raise UserError(f"The settings of '{name}' are {settings!r}: give a subclass of {base.__name__}.")
    default = settings.model_fields[key].default
    if default != name:
        raise UserError(
            f"The settings of '{name}' have {key} {default!r} by default: write {key}: str = {name!r} in "
            f"{settings.__name__}."
        )


def _summary(settings: type[Section]) -> str:
    """Return the first line of the docstring, to go on with after a colon."""
    return (inspect.getdoc(settings) or "").partition("\n")[0].rstrip(".")
