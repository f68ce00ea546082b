"""The ready configs that come with the package: for every command and model, variants, protocols, and the demos'."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from rtok.errors import UserError, nearest
from rtok.models.registry import all_specs

_PACKAGE = Path(__file__).resolve().parent.parent
# A wheel has the folder inside the package; a checkout has it beside the package.
READY = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"


def ready_configs(command: str) -> dict[str, str]:
    """Return the texts of the ready configs for a command, by name: MODEL, or VARIANT-MODEL.

    `COMMAND.yaml` is the recipe of the models' own names, `COMMAND.VARIANT.yaml` that of a variant.
    """
    found: dict[str, str] = {}
    # the models' own names first
    for file in sorted((READY / "recipes").glob(f"{command}.*"), key=lambda file: (len(file.suffixes), file.name)):
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
        variant = file.stem.partition(".")[2]
        texts = {family: _text(recipe, changes) for family, changes in recipe["families"].items()}
        models = sorted((spec.name, spec.family) for spec in all_specs() if spec.family in texts)
        prefix = f"{variant}-" if variant else ""
        found |= {f"{prefix}{name}": texts[family].replace("MODEL", name) for name, family in models}
    return found


def protocols() -> dict[str, str]:
    """Return the texts of the protocols by their names; a model, defenses and images are still to be given."""
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(READY.glob("protocols/*.yaml"))}


def all_ready() -> dict[str, str]:
    """Return the text of every ready config by its full name, `COMMAND/NAME`."""
    found = {f"demo/{file.stem}": file.read_text(encoding="utf-8") for file in READY.glob("demo/*.yaml")}
    found |= {f"protocols/{name}": text for name, text in protocols().items()}
    for command in {file.name.partition(".")[0] for file in READY.glob("recipes/*.yaml")}:
        found |= {f"{command}/{name}": text for name, text in ready_configs(command).items()}
    return dict(sorted(found.items()))


def named(name: str) -> dict[str, str]:
    """Return the ready configs of a full name, or of a short one for every command, by full name.

    Raises:
        UserError: there is none.
    """
    ready = all_ready()
    short = {full: full.partition("/")[2] for full in ready}
    found = {full: text for full, text in ready.items() if name in (full, short[full])}
    if not found:
        hint = nearest(name, [*ready, *short.values()])
        raise UserError(f"there is no ready config '{name}'.{hint} `rtok configs` lists them.")
    return found


def find_config(command: str, name: str | Path) -> Path | str:
    """Return what `--config` names: a file, or else the text of a ready config, by short or full name.

    Raises:
        UserError: it is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"--config {name} is a folder; it takes a YAML file.")
    ready = {**ready_configs(command), **protocols()}
    found = ready.get(str(name)) or all_ready().get(str(name))
    if found is not None:
        return found
    raise UserError(
        f"--config {name}: no such file, and no ready config for {command}.{nearest(str(name), ready)} "
        f"The nearest ready ones: {', '.join(get_close_matches(str(name), ready, n=5, cutoff=0)) or 'none'}."
    )


def _text(recipe: dict[str, Any], changes: dict[str, Any]) -> str:
    """Return a family's config as YAML: what it is as a comment, then a line per section."""
    config = {**recipe["config"], **changes}
    about = config.pop("about", recipe["about"])
    return f"# {about}\n{yaml.safe_dump(config, default_flow_style=None, sort_keys=False, width=110)}"
