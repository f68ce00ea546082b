"""`--model`, `--weights`, `--data` and `--defense`: the keys of a first run, so that it needs no config file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rtok.errors import UserError

# The keys at the beginning of an error's lines, and the flags that set them.
_FLAGS = {
    "model": "--model",
    "model.name": "--model",
    "model.weights": "--weights",
    "data": "--data",
    "data.root": "--data",
    "defense": "--defense",
    "defense.kind": "--defense",
}


@dataclass(frozen=True)
class Shortcuts:
    """What the flags say; None, and no defenses, where they were not given."""

    model: str | None = None
    weights: str | None = None
    data: str | None = None
    defenses: Sequence[str] = ()

    def overrides(self, command: str) -> list[str]:
        """Return the flags as texts `key=value`, as `--set` takes them.

        Raises:
            UserError: `train` is given several defenses.
        """
        values: dict[str, object] = {"model.name": self.model, "model.weights": self.weights}
        if self.data is not None:
            values["data"] = {"name": "folder", "root": self.data}
        if self.defenses and command == "train":
            if len(self.defenses) > 1:
                kinds = " and ".join(self.defenses)
                raise UserError(f"--defense: train makes one defense, not {kinds}: name one kind.")
            values["defense"] = {"kind": self.defenses[0]}
        elif self.defenses:
            values["defense"] = self.defenses[0] if len(self.defenses) == 1 else self.defenses
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]

    @contextmanager
    def named_in_errors(self, *, only_given: bool) -> Iterator[None]:
        """Let the lines of a UserError begin with `--data:` instead of `data.root:`, and so on.

        With `only_given`, flags that were not given are not named.
        """
        values = {"--model": self.model, "--weights": self.weights, "--data": self.data, "--defense": self.defenses}
        flags = {key: flag for key, flag in _FLAGS.items() if values[flag] or not only_given}
        try:
            yield
        except UserError as error:
            keys = "|".join(map(re.escape, flags)) or "(?!)"
            line = re.compile(rf"^( *)(?:--set )?({keys})(?=: )", re.MULTILINE)
            raise UserError(line.sub(lambda found: found[1] + flags[found[2]], str(error))) from error
