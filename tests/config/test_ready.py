from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from rtok.config import load_config
from rtok.config.ready import READY, find_config, ready_configs
from rtok.config.strict_yaml import parse
from rtok.errors import UserError

DINOV2 = {f"dinov2_vit{size}14{registers}" for size in "sblg" for registers in ("", "_reg")}
COMMANDS = ("train", "eval-features")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_dinov2_model_has_a_ready_config(command: str) -> None:
    assert set(ready_configs(command)) >= DINOV2


def test_all_ready_configs_are_valid_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    paths = [(command, path) for command in COMMANDS for path in ready_configs(command).values()]
    for command, path in paths:
        config = load_config(command, path)
        assert config.model.name == path.stem
        assert yaml.safe_load(path.read_text())["model"] == {
            "name": path.stem
        }  # also by YAML 1.1, for editors
    assert len(paths) == 16
    assert {path for path in READY.rglob("*.yaml") if path.parent.name != "demo"} == {
        path for _, path in paths
    }


def test_ready_configs_repeat_no_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    for command in COMMANDS:
        for path in ready_configs(command).values():
            full = load_config(command, path)
            raw, _ = parse(path.read_text(), "")
            assert isinstance(raw, dict)
            for section in raw:
                for key in raw[section] if isinstance(raw[section], dict) else [None]:
                    shorter = {name: dict(v) if isinstance(v, dict) else v for name, v in raw.items()}
                    del (shorter[section] if key else shorter)[key or section]
                    (tmp_path / "shorter.yaml").write_text(yaml.safe_dump(shorter))
                    with suppress(UserError):  # the key is needed
                        assert load_config(command, tmp_path / "shorter.yaml") != full, (
                            f"{path}: {section}.{key}"
                        )


def test_evaluation_reads_what_training_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    for name in DINOV2:
        assert load_config("eval-features", name).token_paths == [load_config("train", name).out]


def test_a_file_comes_before_a_ready_config(folder: Path) -> None:
    (folder / "dinov2_vits14").write_text("")
    assert find_config("train", "dinov2_vits14") == Path("dinov2_vits14")


def test_what_is_not_found(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"--config dinov2_vits15: no such file.*Did you mean 'dinov2_vits14'"
    ):
        find_config("train", "dinov2_vits15")
    with pytest.raises(UserError, match="is a folder"):
        find_config("train", folder)
