"""Translate a file's weights to timm's names, and check every key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Size, Tensor

from rtok.errors import UserError, some
from rtok.models.naming.rules import Naming, Rule
from rtok.models.naming.transforms import TRANSFORMS

Shapes = Mapping[str, Size]


@dataclass(frozen=True)
class Translation:
    """Tensors under timm's names, and everything that did not match."""

    naming: Naming
    tensors: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    @property
    def problems(self) -> int:
        """The number of keys that did not match."""
        return len(self.missing) + len(self.left_over) + len(self.misshapen)


def fit_weights(
    state: Mapping[str, Tensor], shapes: Shapes, namings: Sequence[Naming], *, model: str, path: Path
) -> tuple[dict[str, Tensor], Naming]:
    """Return `state` under timm's names, with exactly the keys and shapes of `shapes`, and the file's naming.

    Every naming of the family is tried, and the one with the fewest mismatches is taken for the file's. `state` is not
    changed.

    Raises:
        UserError: keys are missing, left over or misshapen in that naming; the message counts and names them.
    """
    best = min((translate(state, shapes, naming) for naming in namings), key=lambda found: found.problems)
    if best.problems:
        details = "; ".join(
            f"{len(keys)} {word}: {some(keys)}"
            for word, keys in (("missing", best.missing), ("left over", best.left_over), ("misshapen", best.misshapen))
            if keys
        )
        raise UserError(
            f"The weights in '{path}' are not those of '{model}' (read in {best.naming.name} naming; "
            f"{details}). Give a file of this architecture, or the model name that the file was made for."
        )
    return best.tensors, best.naming


def translate(state: Mapping[str, Tensor], shapes: Shapes, naming: Naming) -> Translation:
    """Translate a file's tensors to timm's names as far as possible, and report what does not match."""
    found = Translation(naming)
    used: set[str] = set()
    for rule in _expand(naming, shapes):
        absent = [key for key in rule.theirs if key not in state]
        found.missing.extend(absent)
        used.update(rule.theirs)
        if absent:
            continue
        given = [state[key] for key in rule.theirs]
        try:
            tensors = TRANSFORMS[rule.how].read(given)
            wrong = any(tensor.shape != shapes[key] for tensor, key in zip(tensors, rule.ours, strict=True))
        except (RuntimeError, IndexError, ValueError):  # shapes that the transform cannot handle
            wrong = True
        if wrong:
            wanted = " and ".join(str(tuple(shapes[key])) for key in rule.ours)
            shape = " and ".join(str(tuple(tensor.shape)) for tensor in given)
            found.misshapen.append(f"{' and '.join(rule.theirs)} {shape} for {wanted}")
        else:
            found.tensors.update(zip(rule.ours, tensors, strict=True))
    rest = [key for key in state if key not in used]
    found.left_over.extend(key for key in rest if not any(fnmatchcase(key, extra) for extra in naming.extras))
    return found


def translate_back(tensors: Mapping[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    """Rename tensors from timm's names to those of a file in this naming: the inverse of `translate`."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    state: dict[str, Tensor] = {}
    for rule in _expand(naming, shapes):
        written = TRANSFORMS[rule.how].write([tensors[key] for key in rule.ours], len(rule.theirs))
        state.update(zip(rule.theirs, written, strict=True))
    return state


def _expand(naming: Naming, shapes: Shapes) -> Iterator[Rule]:
    """Yield the rules key by key for a model with these timm keys, including the implicit ones."""
    blocks = 1 + max((int(key.split(".")[1]) for key in shapes if key.startswith("blocks.")), default=-1)
    covered: set[str] = set()
    for rule in naming.rules:
        text = "".join(rule.theirs + rule.ours)
        for i in range(blocks) if "{i}" in text else [0]:
            for p in ("weight", "bias") if "{p}" in text else [""]:
                ours = tuple(key.format(i=i, p=p) for key in rule.ours)
                if all(key in shapes for key in ours):  # a model without biases has no rule for them
                    covered.update(ours)
                    yield Rule(tuple(key.format(i=i, p=p) for key in rule.theirs), ours, rule.how)
    rest = [key for key in shapes if key not in covered]
    if naming.rest_is_same:
        yield from (Rule((key,), (key,)) for key in rest)
    elif rest:
        raise ValueError(f"the {naming.name} naming has no rule for {some(rest)}")
