"""Read a config: the file, then `--set` and `--out`, then `${VAR}`; then check all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from rtok.config import strict_yaml
from rtok.config.environment import substitute
from rtok.config.named_files import check_files
from rtok.config.overrides import apply_overrides
from rtok.config.problems import Problem, report, show
from rtok.config.ready import find_config
from rtok.config.rules import RULES, check
from rtok.config.schema import Config
from rtok.config.validation import validate
from rtok.errors import UserError, nearest


def load_config(
    command: str,
    file: str | Path | None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    files_must_exist: bool = False,
) -> Config:
    """Return the config that a command runs with.

    Args:
        command: the command it is for, such as `train`; its rules are checked too.
        file: a YAML file, or the name of a ready config for the command; None for a config of `overrides` alone.
        overrides: texts `key.path=value`, applied in order.
        out: the run's folder; it overrides the config's.
        files_must_exist: also check that the files and folders that the config names exist.

    Raises:
        UserError: the config is wrong; the message lists every mistake with its dotted path.
    """
    if command not in RULES:
        raise UserError(f"There is no command '{command}'.{nearest(str(command), RULES)} Valid: {', '.join(RULES)}.")
    if not isinstance(file, (str, Path, NoneType)):
        raise UserError(f"load_config takes a YAML file or a ready config's name, not a {type(file).__name__}.")
    if isinstance(overrides, str):
        raise UserError(f"overrides is the text {overrides!r}: give a list of texts, such as [{overrides!r}].")
    raw, problems = ({}, []) if file is None else _content(command, file)
    # Before the overrides, so that `--set attack.steps=5` changes what would run without it.
    raw.setdefault("attack", {"preset": "paper"})
    problems += apply_overrides(raw, overrides)
    if out is not None:
        raw["out"] = str(out)
    substituted, unset = substitute(raw)
    assert isinstance(substituted, dict)
    defense = "tokens" if "tokens" in substituted else "defense"
    if command == "train" and substituted.get(defense) is None:
        substituted[defense] = {}
    config, invalid = validate(substituted)
    if "out" not in substituted and command != "train":
        config = config.model_copy(update={"out": config.out.with_name(f"{config.out.name}-{command}")})
    broken = [*check(config, command), *(check_files(config) if files_must_exist else ())]
    broken = [problem._replace(path=defense) if problem.path == "defense" else problem for problem in broken]
    problems += _without_repetition(unset, invalid, broken)
    if problems:
        raise report("the config" if file is None else str(file), [_blamed(problem, overrides) for problem in problems])
    return config


def _content(command: str, file: str | Path) -> tuple[dict[str, Any], list[Problem]]:
    found = find_config(command, file)
    return _parse(found if isinstance(found, str) else _read(found), str(file))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(4 * strict_yaml.MAX_CHARACTERS + 1).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8.") from None


def _parse(text: str, name: str) -> tuple[dict[str, Any], list[Problem]]:
    raw, duplicates = strict_yaml.parse(text, name)
    if raw is None:
        raise UserError(f"{name} is empty: write at least model and data.")
    if not isinstance(raw, dict):
        raise UserError(f"{name} holds {show(raw)}: a config is a mapping, such as model: {{name: dinov2_vits14}}.")
    return raw, duplicates


def _without_repetition(unset: list[Problem], invalid: list[Problem], broken: list[Problem]) -> list[Problem]:
    """Leave out what only follows from another mistake: an unset variable, a replaced section."""
    without_value = {problem.path for problem in unset}
    replaced = {problem.path.partition(".")[0] for problem in invalid}
    kept = [problem for problem in [*invalid, *broken] if problem.path not in without_value]
    return [*unset, *(p for p in kept if p in invalid or p.path.partition(".")[0] not in replaced)]


def _blamed(problem: Problem, overrides: Sequence[str]) -> Problem:
    """Say of a mistake that it came with --set, and is not to be looked for in the file."""
    keys = (override.partition("=")[0].strip() for override in overrides)
    if any(f"{problem.path}.".startswith(f"{key}.") for key in keys if key):
        return problem._replace(path=f"--set {problem.path}")
    return problem
