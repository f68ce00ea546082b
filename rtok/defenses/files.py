"""The files of defenses: one file, or those in the folder of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtok.checkpoints import Checkpoint, read_checkpoint
from rtok.config.defenses import DEFENSES
from rtok.defenses.base import Defense
from rtok.errors import UserError
from rtok.release import made_with


def load_defense(path: Path, model: str | None = None) -> Defense:
    """Read a defense of any registered kind, or what others made that is one: tokens, a whole set of weights.

    Args:
        model: the backbone that weights of others are for. None: the one that they fit.

    Raises:
        UserError: the file is unreadable, damaged, holds no defense, or one of a kind that is not registered.
    """
    return parse_defense(read_checkpoint(Path(path)), Path(path), model)


def parse_defense(content: Checkpoint, path: Path, model: str | None = None) -> Defense:
    """Take the defense out of a checkpoint that was read; `path` is for the message of the UserError."""
    kind = made_with(content.metadata).get("kind")
    if kind is None:
        adopted = (entry.load().adopt(content, path, model) for entry in DEFENSES.entries())
        found: Defense | None = next((defense for defense in adopted if defense is not None), None)
        if found is not None:
            return found
        kind = "tokens"  # whose reader says what it misses
    if kind not in DEFENSES:
        raise UserError(
            f"'{path}' holds a defense of the kind '{kind}', which this rtok does not know. Known are "
            f"{', '.join(DEFENSES)}; one from outside needs its --plugin."
        )
    defense: Defense = DEFENSES.find(kind).load().parse(content, path)
    return defense


def defense_files(path: Path) -> list[Path]:
    """Return the files that a path stands for: a file itself, or those of a run folder.

    Raises:
        UserError: the path does not exist, or the folder holds no defense.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"There is no token file or run folder '{path}'. Give one that `rtok train` has written.")
    stems = {entry.load().stem for entry in DEFENSES.entries()}
    # rtokens-5 comes before rtokens-10
    files = sorted(
        (file for stem in stems for file in path.glob(f"{stem}*.safetensors")),
        key=lambda file: (len(file.name), file.name),
    )
    if not files:
        raise UserError(
            f"The folder '{path}' holds no tokens ({', '.join(f'{stem}*.safetensors' for stem in sorted(stems))}). "
            "Give the folder of a finished `rtok train`."
        )
    return files


def resolve_defenses(paths: Sequence[Path]) -> list[Path]:
    """Return every defense file that the config's files and run folders name."""
    return [file for path in paths for file in defense_files(path)]
