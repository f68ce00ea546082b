"""The ready configs that come with the package."""

from __future__ import annotations

from pathlib import Path

from rtok.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel the configs lie inside the package; in a checkout, beside it.
READY = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"


def ready_configs(command: str) -> dict[str, Path]:
    """Return the ready configs for a command, by name."""
    return {path.stem: path for path in sorted((READY / command).glob("*.yaml"))}


def find_config(command: str, name: str | Path) -> Path:
    """Return the file that `--config` names: a file, or else a ready config for the command.

    Raises UserError when it is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"--config {name} is a folder; it takes a YAML file.")
    ready = ready_configs(command)
    if str(name) in ready:
        return ready[str(name)]
    raise UserError(
        f"--config {name}: no such file, and no ready config for {command}.{nearest(str(name), ready)} "
        f"Ready ones: {', '.join(ready) or 'none'}."
    )
