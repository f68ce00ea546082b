from pathlib import Path

import rtok
from rtok.config import AttackConfig, Config, DataConfig, ModelConfig, TokensConfig, TrainConfig
from rtok.config.reference import render
from rtok.config.validation import key_names

PAGE = Path(rtok.__file__).parent.parent / "docs" / "config.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


def test_every_key_is_described() -> None:
    sections = {"": Config, "model.": ModelConfig, "tokens.": TokensConfig, "data.": DataConfig}
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
