from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from rtok.config import load_config
from rtok.config.ready import READY, all_ready, find_config, named, ready_configs
from rtok.config.strict_yaml import parse
from rtok.errors import UserError
from rtok.models.registry import all_specs

NAMED = {spec.name for spec in all_specs()}
COMMANDS = ("train", "eval-features")
DINOV2 = {spec.name for spec in all_specs() if spec.family == "dinov2"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_named_model_has_a_ready_config(command: str) -> None:
    variants = {f"{kind}-{name}" for kind in ("robust-lora", "robust-deep-tokens", "fast") for name in NAMED}
    assert set(ready_configs(command)) == NAMED | (variants if command == "train" else set())


def test_every_dinov2_model_has_one_for_segmentation_and_classification() -> None:
    assert set(ready_configs("eval-seg")) == DINOV2
    own_classifier = {spec.name for spec in all_specs() if spec.family == "deit3"}
    assert set(ready_configs("eval-class")) == DINOV2 | own_classifier


def test_all_ready_configs_are_valid_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    monkeypatch.setenv("ADE20K_DIR", "/data/ADEChallengeData2016")
    texts = {
        (command, name): text
        for command in (*COMMANDS, "eval-seg", "eval-class")
        for name, text in ready_configs(command).items()
    }
    for (command, name), text in texts.items():
        config = load_config(command, name)
        kind = config.to_dict()["defense"]["kind"] if command == "train" else "none"
        assert name in (config.model.name, f"robust-{kind}-{config.model.name}", f"fast-{config.model.name}")
        assert config.out.name.startswith(name)
        # also by YAML 1.1, for editors
        assert yaml.safe_load(text)["model"]["name"] == config.model.name
        assert text.startswith("# ") and "MODEL" not in text
    assert len(texts) == 64 + 3 * len(NAMED)
    assert {name for name in all_ready() if not name.startswith(("demo/", "protocols/"))} == {
        f"{command}/{name}" for command, name in texts
    }


@pytest.mark.parametrize("file", sorted((READY / "recipes").iterdir()), ids=lambda file: file.stem)
def test_recipes_name_families_that_exist_and_change_something(file: Path) -> None:
    recipe, duplicates = parse(file.read_text(), file.name)
    assert isinstance(recipe, dict) and not duplicates
    assert set(recipe["families"]) <= {spec.family for spec in all_specs()}
    for changes in recipe["families"].values():
        for key, value in changes.items():
            assert {**recipe["config"], "about": recipe["about"]}.get(key) != value


def test_the_papers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 steps for DINOv2, 300 for DeiT-III and OpenCLIP; ImageNet's statistics for all."""
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    steps = {"dinov2": 50, "deit3": 300, "openclip": 300, "dinov3": 50}
    own_statistics = {"openclip"}  # which normalization of the weights' own is not ImageNet's
    for spec in all_specs():
        train, evaluate = load_config("train", spec.name), load_config("eval-features", spec.name)
        assert (train.train.steps, train.train.batch_size) == (steps[spec.family], 8)
        expected = "imagenet" if spec.family in own_statistics else "auto"
        assert train.model.normalization == evaluate.model.normalization == expected


def test_every_ready_config_has_a_full_name() -> None:
    ready = all_ready()
    assert {"demo/train", "train/dinov2_vits14", "eval-features/openclip_vitb32"} <= set(ready)
    assert find_config("train", "demo/train") == ready["demo/train"]
    assert find_config("eval-features", "protocol-v1") == ready["protocols/protocol-v1"]
    assert find_config("train", "train/dinov2_vits14") == find_config("train", "dinov2_vits14")
    assert set(named("dinov3_vits16")) == {"train/dinov3_vits16", "eval-features/dinov3_vits16"}
    assert set(named("train/dinov3_vits16")) == {"train/dinov3_vits16"}
    with pytest.raises(UserError, match=r"no ready config 'dinov3_vits17'. Did you mean 'dinov3_vits16'"):
        named("dinov3_vits17")


def test_ready_configs_repeat_no_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    for command in COMMANDS:
        for name, text in ready_configs(command).items():
            full = load_config(command, name)
            raw, _ = parse(text, "")
            assert isinstance(raw, dict)
            for section in raw:
                for key in raw[section] if isinstance(raw[section], dict) else [None]:
                    shorter = {k: dict(v) if isinstance(v, dict) else v for k, v in raw.items()}
                    del (shorter[section] if key else shorter)[key or section]
                    (tmp_path / "shorter.yaml").write_text(yaml.safe_dump(shorter))
                    with suppress(UserError):  # the key is needed
                        assert load_config(command, tmp_path / "shorter.yaml") != full, (
                            f"{command}/{name}: {section}.{key}"
                        )


def test_evaluation_reads_what_training_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    for name in NAMED:
        assert load_config("eval-features", name).defense_paths == [load_config("train", name).out]


def test_a_file_comes_before_a_ready_config(folder: Path) -> None:
    (folder / "dinov2_vits14").write_text("")
    assert find_config("train", "dinov2_vits14") == Path("dinov2_vits14")


def test_what_is_not_found(folder: Path) -> None:
    with pytest.raises(UserError, match=r"--config dinov2_vits15: no such file.*Did you mean 'dinov2_vits14'"):
        find_config("train", "dinov2_vits15")
    with pytest.raises(UserError, match="is a folder"):
        find_config("train", folder)
