from pathlib import Path

from rtok.config import AttackConfig, Config, DataConfig, ModelConfig, TokensConfig, TrainConfig
from rtok.config.attack_presets import PRESETS
from rtok.config.registry import ATTACKS, DATASETS, DEFENSES, THREATS
from rtok.config.validation import key_names
from scripts.config_reference import render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "config.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


def test_every_key_is_described() -> None:
    sections = {"": Config, "model.": ModelConfig, "defense.": TokensConfig, "data.": DataConfig}
    for prefix, section in {**sections, "attack.": AttackConfig, "train.": TrainConfig}.items():
        for name, field in key_names(section).items():
            assert field.description, name
            assert f"| `{prefix}{name}` |" in render()
            assert field.description.replace("|", "\\|") in render()


def test_defaults_and_bounds() -> None:
    for line in (
        "| `attack.eps` | `8/255` | number (above 0) |",
        "| `attack.momentum` | `0.0` | number (at least 0) |",
        "| `train.micro_batch` | `null` | whole number (1 to 16384) or null |",
        "| `model.name` | required | text |",
        "| `standard-4` | `eps: 4/255` |",
    ):
        assert line in render()


def test_everything_registered_is_listed() -> None:
    page = render()
    for registry in (ATTACKS, DATASETS, DEFENSES, THREATS):
        for entry in registry.entries():
            assert entry.about and f"| `{entry.name}` | {entry.about} |" in page
    for preset in PRESETS:
        assert f"| `{preset}` |" in page
