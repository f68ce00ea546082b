"""The defenses that an attacker trains on their own, for the `guessed` threat: files, or trained as the run starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtok.config.registry import DEFENSES
from rtok.config.schema import Config
from rtok.config.threats import GuessedConfig
from rtok.defenses import defense_files, load_defense, resolve_defenses
from rtok.errors import UserError
from rtok.evaluation.victims import Victim, robust_victims
from rtok.seeding import image_seed
from rtok.setup import Setup

if TYPE_CHECKING:
    from rtok.runs.run import Run

FOLDER = "guessed"  # of the run: a training run of its own, which a resumed evaluation goes on with
_SEEDS = 2**31  # seeds stay readable in a config


@dataclass(frozen=True)
class GuessedDefenses:
    """The attacker's defenses as victims with the public head; those to be trained are there after `prepare`."""

    setup: Setup
    settings: GuessedConfig | None
    head: str | None
    victims: list[Victim] = field(default_factory=list)

    @classmethod
    def open(cls, setup: Setup, head: str | None) -> GuessedDefenses:
        """Read and check the files, if the config names some.

        Raises:
            UserError: a file does not fit the backbone.
        """
        chosen = setup.config.guessed
        if isinstance(chosen, GuessedConfig):
            return cls(setup, chosen, head)
        files = resolve_defenses(setup.config.guessed_paths)
        return cls(
            setup, None, head, robust_victims(files, setup.backbone, (head,), check_weights=setup.config.check_weights)
        )

    def prepare(self, run: Run) -> None:
        """Train the tokens that no file holds."""
        if self.settings is None or self.victims:
            return
        from rtok.training.loop import train  # evaluations seldom train

        out = run.path / FOLDER
        train(self.recipe(self.settings, out), self.setup.given, resume=True, command=("rtok", "train"))
        self.victims.extend(robust_victims(defense_files(out), self.setup.backbone, (self.head,)))

    def recipe(self, settings: GuessedConfig, out: Path) -> Config:
        """The attacker's training: that of the first robust victim as far as its file tells, from other seeds.

        The attacker knows the method but not the draw (Kerckhoffs), and trains on `guessed.data`.
        """
        config = self.setup.config
        known = load_defense(resolve_defenses(config.defense_places)[0], config.model.name)
        if known.kind not in DEFENSES:
            raise UserError(
                f"guessed: a {known.kind} is not trained; name files of the attacker's own, or list another first."
            )
        told: dict[str, Any] = dict(known.config)
        data = settings.images(config.data).model_dump(mode="json")
        if settings.data is None:
            data["resize"] = told.get("data", {}).get("resize", data["resize"])
        seeds = [image_seed(config.seed, FOLDER, number) % _SEEDS for number in range(settings.train)]
        recipe: dict[str, Any] = {key: told[key] for key in ("attack", "train") if key in told}
        recipe |= {"model": config.model.model_dump(mode="json"), "defense": {**known.settings(), "seeds": seeds}}
        recipe |= {"data": data, "precision": config.precision, "seed": seeds[0], "out": str(out)}
        return Config.model_validate(recipe)
