"""The files of defenses: one file, or those in the folder of a run or in a repository of the hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rtok.checkpoints import Checkpoint, read_checkpoint
from rtok.config.defenses import DEFENSES, STACK, Place, StackConfig
from rtok.defenses.base import Defense
from rtok.defenses.hub import files_on_hub, local_file
from rtok.defenses.stack import Stack
from rtok.errors import UserError
from rtok.models.locations import is_on_hub
from rtok.release import made_with, refuse_converted


def load_defense(path: str | Place, model: str | None = None) -> Defense:
    """Read a defense of any registered kind, or what others made that is one: tokens, a whole set of weights.

    Args:
        path: a file, or `hf:USER/REPO[@REVISION][:FILE]` of the Hugging Face hub; in a config also a stack of them.
        model: the backbone that weights of others are for. None: the one that they fit.

    Raises:
        UserError: the file is unreadable, damaged, holds no defense, or one of a kind that is not registered.
    """
    if isinstance(path, StackConfig):
        return Stack.of(*(load_defense(file, model) for file in path.stack))
    file = only_file(Path(path)) if is_on_hub(path) else Path(path)
    return parse_defense(read_checkpoint(local_file(file)), file, model)


def parse_defense(content: Checkpoint, path: Path, model: str | None = None) -> Defense:
    """Take the defense out of a checkpoint that was read; `path` is for the message of the UserError."""
    refuse_converted(content, path, "Give the defense that it was made from.")
    kind = made_with(content.metadata).get("kind")
    if kind is None:
        adopted = (entry.load().adopt(content, path, model) for entry in DEFENSES.entries())
        found: Defense | None = next((defense for defense in adopted if defense is not None), None)
        if found is not None:
            return found
        kind = "tokens"  # whose reader says what it misses
    if kind == STACK:
        return Stack.parse(content, path)
    if kind not in DEFENSES:
        raise UserError(
            f"'{path}' holds a defense of the kind '{kind}', which this rtok does not know. Known are "
            f"{', '.join(DEFENSES)}; one from outside needs its --plugin."
        )
    defense: Defense = DEFENSES.find(kind).load().parse(content, path)
    return defense


def file_patterns() -> list[str]:
    """Return how the files that `rtok train` writes are called, one pattern per registered kind."""
    return sorted({f"{entry.load().stem}*.safetensors" for entry in DEFENSES.entries()})


def defense_files(path: Path) -> list[Path]:
    """Return the files that a path stands for: a file itself, or those of a run folder or a repository of the hub.

    Raises:
        UserError: the path does not exist, or there is no defense in it.
    """
    path = Path(path)
    patterns = [*file_patterns(), f"{Stack.stem}*.safetensors"]  # a stack is published as one file
    if is_on_hub(path):
        return _sorted(map(Path, files_on_hub(path, patterns)))
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"There is no defense file or run folder '{path}'. Give one that `rtok train` has written.")
    found = {file for pattern in patterns for file in path.glob(pattern)}
    if not found:
        raise UserError(
            f"The folder '{path}' holds no defense ({', '.join(patterns)}). Give the folder of a finished `rtok train`."
        )
    return _sorted(found)


def _sorted(files: Iterable[Path]) -> list[Path]:
    """Sort by name: rtokens-5 comes before rtokens-10."""
    return sorted(files, key=lambda file: (len(file.name), file.name))


def only_file(path: Path) -> Path:
    """Return the only defense file that a path stands for.

    Raises:
        UserError: there is none, or the folder holds several.
    """
    files = defense_files(path)
    if len(files) > 1:
        names = ", ".join(f"'{file}'" for file in files)
        what = path if is_on_hub(path) else f"The folder '{path}'"
        raise UserError(f"{what} holds {len(files)} defenses; choose one of them: {names}.")
    return files[0]


def resolve_defenses(places: Sequence[Place]) -> list[Place]:
    """Return every defense file, and stack of files, that the config's files and run folders name."""
    found: list[Place] = []
    for place in places:
        if isinstance(place, StackConfig):
            found.append(StackConfig(stack=[only_file(path) for path in place.stack]))
        else:
            found += defense_files(place)
    return found
