"""What a run folder says of how to go on with it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rtok.config.load import load_config
from rtok.config.problems import report
from rtok.config.rules import RULES, checked
from rtok.config.schema import Config
from rtok.config.validation import validate
from rtok.errors import UserError
from rtok.files import read_json


def command_of(path: Path, plugins: Collection[str] = ()) -> tuple[str, Config]:
    """Return the command of the run in a folder and its config, whose `out` is the folder.

    Args:
        plugins: the names of the plugin files that are loaded.

    Raises:
        UserError: the folder holds no run, its files are damaged, or the run was started with other plugins.
    """
    path = Path(path)
    record = path / "attack.json" if (path / "attack.json").is_file() else path / "run.json"
    if not record.is_file():
        raise UserError(f"'{path}' is not the folder of a run that can be resumed: it has no run.json.")
    about = read_json(record)
    words = about.get("command")
    command = next((word for word in words if word in RULES), None) if isinstance(words, list) else None
    if command is None:
        raise UserError(f"{record} does not say which command the run belongs to: use that command with --resume.")
    inputs = about.get("inputs")
    used = (
        [key.removeprefix("plugin ") for key in inputs if key.startswith("plugin ")] if isinstance(inputs, dict) else []
    )
    missing = [name for name in used if name not in plugins]
    if missing:
        raise UserError(
            f"the run in '{path}' was started with {', '.join(missing)}: pass --plugin with the path of each file. A "
            "run's folder never runs code by itself."
        )
    if record.name == "attack.json":
        written = about.get("config")
        config, problems = validate({**written, "out": str(path)} if isinstance(written, dict) else {})
        if problems:
            raise report(str(record), problems)
        return command, checked(config, command)
    return command, load_config(command, path / "config.yaml", out=path, files_must_exist=True)
