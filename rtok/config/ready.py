"""The ready configs that come with the package."""

from __future__ import annotations

from pathlib import Path

from rtok.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parent.parent
# A wheel has the configs inside the package; a checkout has them beside it.
READY = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"


def ready_configs(command: str) -> dict[str, Path]:
    """Return the ready configs for a command, by name."""
    return {path.stem: path for path in sorted((READY / command).glob("*.yaml"))}


def all_ready() -> dict[str, Path]:
    """Return every ready config by its full name, `COMMAND/NAME`."""
    return {f"{path.parent.name}/{path.stem}": path for path in sorted(READY.glob("*/*.yaml"))}


def named(name: str) -> dict[str, Path]:
    """Return the ready configs with a full name, or with a short one for any command, by full name.

    Raises:
        UserError: there is none.
    """
    ready = all_ready()
    found = {full: path for full, path in ready.items() if name in (full, path.stem)}
    if not found:
        hint = nearest(name, [*ready, *(path.stem for path in ready.values())])
        raise UserError(f"there is no ready config '{name}'.{hint} `rtok configs` lists them.")
    return found


def find_config(command: str, name: str | Path) -> Path:
    """Return the file that `--config` names: a file, otherwise a ready config, by short or full name.

    Raises:
        UserError: it is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"--config {name} is a folder; it takes a YAML file.")
    ready = ready_configs(command)
    found = ready.get(str(name)) or all_ready().get(str(name))
    if found is not None:
        return found
    raise UserError(
        f"--config {name}: no such file, and no ready config for {command}.{nearest(str(name), ready)} "
        f"Ready ones: {', '.join(ready) or 'none'}."
    )
