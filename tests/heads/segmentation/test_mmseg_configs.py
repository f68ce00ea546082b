"""The config files for mmsegmentation's own tools: they run, and say the same as `head: {type: fit}`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rtok.config.ready import READY
from rtok.heads.segmentation import engine, recipe
from rtok.heads.segmentation.files import read_head
from rtok.models import load_backbone
from rtok.models.registry import all_specs, find

FOLDER = READY / "mmseg"
DINOV2 = sorted(spec.name for spec in all_specs() if spec.family == "dinov2")


def read(name: str) -> Any:
    engine.start()
    from mmengine import Config

    return Config.fromfile(FOLDER / f"{name}_linear.py")


@pytest.mark.parametrize("name", DINOV2)
def test_every_dinov2_model_has_a_file_with_its_numbers(name: str) -> None:
    model, spec = read(name).model, find(name)
    depth = {"s": 12, "b": 12, "l": 24, "g": 40}[name[len("dinov2_vit")]]
    assert model.backbone.backbone == name
    assert model.backbone.blocks == list(range(depth - 4, depth))
    assert model.decode_head.in_channels == [spec.dim] and model.decode_head.channels == spec.dim


def test_there_are_no_other_files() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.py")) == [f"{name}_linear.py" for name in DINOV2]


def test_the_recipe_is_that_of_our_own_fit() -> None:
    config = read("dinov2_vits14")
    mean = (0.485, 0.456, 0.406)
    plain = [dict(step) for step in config.train_pipeline[2:]]
    for step in plain:
        for key, value in step.items():
            step[key] = dict(value) if isinstance(value, dict) else value
    assert plain == recipe.augmentation(512, 512, mean)
    assert [dict(step) for step in config.param_scheduler] == recipe.schedule(40_000)
    assert {k: v for k, v in config.optim_wrapper.optimizer.items() if k != "type"} == recipe.OPTIMIZER


def test_a_head_trained_by_mmseg_is_read(small_weights: Path, tmp_path: Path, write_head: Callable) -> None:
    from mmengine.runner import Runner

    random = np.random.default_rng(0)
    for folder in ("training", "validation"):
        for kind, suffix, shape in (("images", "jpg", (40, 44, 3)), ("annotations", "png", (40, 44))):
            (tmp_path / kind / folder).mkdir(parents=True)
            for i in range(2):
                pixels = random.integers(0, 151, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / kind / folder / f"{i}.{suffix}")
    config = read("dinov2_vits14")
    crop = dict(crop_size=(25, 25), size=(25, 25))
    for step in config.train_pipeline:
        step.update({key: value for key, value in crop.items() if key in step})
    for loader, split in ((config.train_dataloader, "training"), (config.val_dataloader, "validation")):
        loader.update(batch_size=min(2, loader.batch_size), num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(tmp_path)
        pipeline = config.train_pipeline if split == "training" else config.test_pipeline
        loader.dataset.pipeline = pipeline
        for step in pipeline:
            if "scale" in step:
                step["scale"] = (99_999_999, 36)
    config.merge_from_dict(
        {
            "model.backbone": {
                "backbone": "timm:test_vit", "weights": str(small_weights), "image_size": 32, "blocks": [2, 3, 4, 5],
            },
            "model.decode_head": {"in_channels": [64], "channels": 64},
            "model.data_preprocessor.size": (25, 25),
            "model.test_cfg": {"crop_size": (25, 25), "stride": (17, 17)},
            "train_cfg": {"max_iters": 2, "val_interval": 2},
            "default_hooks.checkpoint.interval": 2,
            "work_dir": str(tmp_path / "work"),
            "log_level": "ERROR",
            "experiment_name": tmp_path.name,
        }
    )  # fmt: skip
    Runner.from_cfg(config).train()
    content = torch.load(tmp_path / "work" / "iter_2.pth", weights_only=True)
    assert set(content["state_dict"]) == set(
        torch.load(write_head(tmp_path / "like.pth", 64, 150), weights_only=True)["state_dict"]
    )
    backbone = load_backbone("timm:test_vit", weights=small_weights, image_size=32)
    head = read_head(tmp_path / "work" / "iter_2.pth", backbone, 150)
    assert int(head.bn.num_batches_tracked) == 2
