"""The defenses of a run that is published: under which names, and which of them its owner gives away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rtok.config.defenses import Place, StackConfig, named_place
from rtok.defenses import Defense, Stack, load_defense
from rtok.errors import UserError, listed
from rtok.files import sha256_of
from rtok.models.locations import is_on_hub
from rtok.sharing.public import without_places

TOKENS, WEIGHTS = "--with-tokens", "--with-weights"


@dataclass(frozen=True)
class Shared:
    """A defense of a run.

    Attributes:
        name: its file's name in the repository.
        defense: without what its training says of the machine; None where its file is not there any more.
        given: whether the repository has the file.
    """

    name: str
    defense: Defense | None
    given: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """The flags that publish it: those of all members of a stack."""
        return frozenset(TOKENS if member.private else WEIGHTS for member in self.members)

    @property
    def members(self) -> tuple[Defense, ...]:
        """The defenses in it: those of a stack, or itself; none where it is not there."""
        return self.defense.members if isinstance(self.defense, Stack) else tuple(filter(None, [self.defense]))

    def write(self, folder: Path) -> str:
        """Write the defense, and return the file's SHA-256."""
        assert self.defense is not None
        self.defense.save(folder / self.name)
        return sha256_of(folder / self.name)


def _public(defense: Defense) -> Defense:
    """Return a defense whose training does not say where its files lay."""
    public = replace(defense, config=without_places(defense.config)[0])
    return replace(public, members=tuple(map(_public, public.members))) if isinstance(public, Stack) else public


def shared(places: Iterable[str], model: str | None, flags: Collection[str]) -> dict[str, Shared]:
    """Return the defenses by their places.

    Args:
        model: the backbone of the run.
        flags: those of `TOKENS` and `WEIGHTS` that the owner passed.

    Raises:
        UserError: a flag publishes nothing, or what it should publish is not there any more.
    """
    places = list(places)
    loaded = {text: _loaded(text, model) for text in places}
    found = {text: Shared(name, loaded[text]) for text, name in _names(loaded).items()}
    found = {
        text: replace(one, given=one.defense is not None and one.needs <= set(flags)) for text, one in found.items()
    }
    for flag in flags:
        if not any(one.given and flag in one.needs for one in found.values()):
            raise UserError(f"{flag}: {_why_nothing(found, flag)}.")
    return found


def _loaded(text: str, model: str | None) -> Defense | None:
    place = named_place(text)
    if not _there(place):
        return None
    return _public(load_defense(place, model))


def _there(place: Place) -> bool:
    files = place.stack if isinstance(place, StackConfig) else [place]
    return all(is_on_hub(file) or file.is_file() for file in files)


def _names(loaded: Mapping[str, Defense | None]) -> dict[str, str]:
    """Name each defense as its file is called, with a number where several are called the same."""
    names = {text: _name(text, defense) for text, defense in loaded.items()}
    several = {name for name, count in Counter(names.values()).items() if count > 1}
    numbers = Counter[str]()
    for text, name in names.items():
        if name in several:
            numbers[name] += 1
            names[text] = f"{Path(name).stem}-run{numbers[name]}.safetensors"
    return names


def _name(text: str, defense: Defense | None) -> str:
    """Return a name that `hf:USER/REPO` finds: it begins as those of its kind do."""
    own, stacked = Path(text).name, isinstance(named_place(text), StackConfig)
    if defense is None or (own.startswith(defense.stem) and own.endswith(".safetensors") and not stacked):
        return own
    return f"{defense.stem}.safetensors"


def _why_nothing(found: Mapping[str, Shared], flag: str) -> str:
    if not found:
        return "the run has no defense"
    lost = [text for text, one in found.items() if one.defense is None]
    if lost:
        return f"the file {lost[0]} of the run's defense is not there any more: run this where it is"
    kinds = listed(dict.fromkeys(one.defense.kind for one in found.values() if one.defense))
    needed = sorted({name for one in found.values() for name in one.needs})
    return f"the run has no such part, but {kinds}: pass {listed(needed)}"
