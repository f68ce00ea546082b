from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import rtok
from rtok.defenses import RobustnessTokens, defense_files
from rtok.errors import UserError

VALUES = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))


def backbone(name: str = "dinov2_vits14", dim: int = 8) -> Any:
    return SimpleNamespace(spec=SimpleNamespace(name=name), dim=dim, takes_entries=True)


def test_untrained_tokens_are_small_normal_numbers() -> None:
    values = RobustnessTokens.draw(200, 384, std=0.01, seed=0).values
    assert values.shape == (1, 200, 384)
    assert values.dtype == torch.float32
    assert values.mean().abs() < 2e-4
    assert values.std() == pytest.approx(0.01, rel=0.02)


def test_a_draw_is_a_function_of_seed_and_count() -> None:
    torch.manual_seed(1)
    first = RobustnessTokens.draw(3, 8, seed=5).values
    state = torch.get_rng_state()
    assert torch.equal(RobustnessTokens.draw(3, 8, seed=5).values, first)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    assert not torch.equal(RobustnessTokens.draw(3, 8, seed=6).values, first)
    # a width of 16, since torch draws in blocks of 16: without the count these would be the same numbers
    fewer, more = (RobustnessTokens.draw(count, 16, seed=5).values for count in (3, 4))
    assert not torch.equal(more[:, :3], fewer)
    assert torch.allclose(RobustnessTokens.draw(3, 8, std=0.02, seed=5).values, 2 * first)


def test_a_saved_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rtokens.safetensors"
    config = {"train": {"steps": 50}, "data": {"root": "photos/été"}}
    saved = RobustnessTokens(
        VALUES, backbone="dinov2_vits14", image_size=(224, 112), config=config, version=rtok.__version__
    )
    saved.save(path)
    with safe_open(path, framework="pt") as file:
        assert list(file.keys()) == ["rtokens"]
        about = file.metadata()
    assert about["format"] == "rtok-tokens-1"
    assert (about["backbone"], about["n"], about["dim"]) == ("dinov2_vits14", "3", "8")
    assert about["rtok_version"] == rtok.__version__
    loaded = RobustnessTokens.load(path)
    assert torch.equal(loaded.values, VALUES)
    assert (loaded.backbone, loaded.image_size) == ("dinov2_vits14", (224, 112))
    assert (loaded.config, loaded.version) == (config, rtok.__version__)
    assert (loaded.count, loaded.dim) == (3, 8)
    assert [file.name for file in tmp_path.iterdir()] == ["rtokens.safetensors"]


def test_no_value_is_printed() -> None:
    tokens = RobustnessTokens(torch.full((1, 2, 4), 0.123), backbone="dinov2_vits14")
    assert repr(tokens) == "RobustnessTokens(count=2, dim=4, backbone='dinov2_vits14')"


def test_tokens_that_were_trained_are_saved_without_their_graph(tmp_path: Path) -> None:
    values = VALUES.clone().to(torch.bfloat16).requires_grad_()
    RobustnessTokens(values).save(tmp_path / "rtokens.safetensors")
    assert torch.equal(RobustnessTokens.load(tmp_path / "rtokens.safetensors").values, values.detach().float())


@pytest.mark.parametrize(
    "content",
    [
        {"rtokens": VALUES},
        {"model.cls_token": torch.zeros(1, 1, 8), "model.norm.bias": torch.zeros(8), "rtokens": VALUES},
        {"module.model.cls_token": torch.zeros(1, 1, 8), "module.rtokens": VALUES},
        {"state_dict": {"model.norm.bias": torch.zeros(8), "rtokens": VALUES}, "epoch": 3},
        {"state_dict": {"module.rtokens": VALUES.half()}, "global_step": 10},
        {"rtokens": torch.nn.Parameter(VALUES)},
    ],
)
def test_the_originals_files_are_read(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    loaded = RobustnessTokens.load(path)
    assert torch.allclose(loaded.values, VALUES, atol=1e-3)
    assert (loaded.values.dtype, loaded.values.requires_grad) == (torch.float32, False)
    assert (loaded.backbone, loaded.image_size, loaded.config, loaded.version) == (None, None, {}, None)


def test_files_saved_on_a_gpu_are_read_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rtokens.pt"
    # what torch.save writes for a tensor on the first GPU: the same file with another location tag
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    torch.save({"rtokens": VALUES}, path)
    monkeypatch.undo()
    assert b"cuda:0" in path.read_bytes()
    assert torch.equal(RobustnessTokens.load(path).values, VALUES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.full((1, 2, 8), float("nan")), "NaN or infinity"),
        (torch.full((1, 2, 8), float("inf")), "NaN or infinity"),
        (torch.zeros(2, 8), r"shape \(2, 8\)"),
        (torch.zeros(2, 3, 8), r"shape \(2, 3, 8\)"),
        (torch.zeros(1, 0, 8), r"shape \(1, 0, 8\)"),
        (torch.zeros(1, 2, 8, dtype=torch.int64), "int64"),
    ],
)
def test_what_cannot_be_tokens_is_refused(tmp_path: Path, values: torch.Tensor, message: str) -> None:
    path = tmp_path / "rtokens.pt"
    torch.save({"rtokens": values}, path)
    with pytest.raises(UserError, match=message):
        RobustnessTokens.load(path)


@pytest.mark.parametrize(
    "content", [{"cls_token": VALUES}, {"rtokens": [1.0]}, {"rtokens": VALUES, "module.rtokens": VALUES}]
)
def test_a_file_without_tokens_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"model.pth' holds no robustness tokens"):
        RobustnessTokens.load(tmp_path / "model.pth")


def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    save_file({"rtokens": VALUES}, tmp_path / "rtokens.safetensors", metadata={"format": "rtok-tokens-2"})
    with pytest.raises(UserError, match="format 'rtok-tokens-2'"):
        RobustnessTokens.load(tmp_path / "rtokens.safetensors")


def test_tokens_of_another_backbone_are_refused_with_its_name() -> None:
    tokens = RobustnessTokens(VALUES, backbone="dinov2_vits14")
    tokens.check(backbone())
    with pytest.raises(UserError, match=r"made for 'dinov2_vits14' \(width 8\), not for 'deit3_small_patch16_224'"):
        tokens.check(backbone("deit3_small_patch16_224"))
    with pytest.raises(UserError, match=r"width 8\), not for 'dinov2_vits14' \(width 16\)"):
        tokens.check(backbone(dim=16))
    RobustnessTokens(VALUES).check(backbone("anything"))
    with pytest.raises(UserError, match="a backbone that the file does not name"):
        RobustnessTokens(VALUES).check(backbone(dim=16))


def test_a_path_stands_for_its_defense_files(tmp_path: Path) -> None:
    for name in ("rtokens-10.safetensors", "rtokens-5.safetensors", "other.safetensors", "rtokens.png"):
        (tmp_path / name).touch()
    names = [file.name for file in defense_files(tmp_path)]
    assert names == ["rtokens-5.safetensors", "rtokens-10.safetensors"]
    assert defense_files(tmp_path / "other.safetensors") == [tmp_path / "other.safetensors"]
    with pytest.raises(UserError, match="no defense file or run folder"):
        defense_files(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no defense"):
        defense_files(tmp_path / "empty")
