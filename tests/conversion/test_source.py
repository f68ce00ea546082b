"""Where tokens and weights may come from, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rtok.conversion import convert
from rtok.defenses import load_defense
from rtok.errors import UserError


def result(made: Any, out: Path) -> tuple[Tensor, Tensor]:
    """The tokens in a converted DINOv2 file, and one of its weights."""
    state = torch.load(out)
    return state["register_tokens"], state["blocks.1.attn.qkv.weight"]


def wrapped(kind: str, made: Any) -> dict[str, Any]:
    """The original's files: tokens alone, or with the whole model."""
    whole = {f"model.{key}": tensor for key, tensor in load_file(made.weights).items()}
    whole["rtokens"] = made.tokens.values
    return {
        "rtokens.pt": {"rtokens": made.tokens.values},
        "last.ckpt": whole,
        "module": {f"module.{key}": tensor for key, tensor in whole.items()},
        "state_dict": {"state_dict": whole, "epoch": 3, "optimizer": {"lr": 0.1}},
    }[kind]


@pytest.mark.parametrize("kind", ["rtokens.pt", "last.ckpt", "module", "state_dict"])
@pytest.mark.parametrize("given", [True, False])
def test_the_originals_files_need_no_name(robust: Any, tmp_path: Path, kind: str, given: bool) -> None:
    made = robust("dinov2_vits14")
    torch.save(wrapped(kind, made), tmp_path / "file.ckpt")
    arguments = {"backbone_weights": made.weights} if given else {}
    if kind == "rtokens.pt" and not given:
        with pytest.raises(UserError, match=r"do not say which backbone.*--model.*--backbone-weights"):
            convert(tmp_path / "file.ckpt", tmp_path / "out.pth")
        return
    done = convert(tmp_path / "file.ckpt", tmp_path / "out.pth", **arguments)
    assert done.backbone == "dinov2_vits14"
    tokens, weight = result(made, tmp_path / "out.pth")
    assert torch.equal(tokens, made.tokens.values)
    assert torch.equal(weight, load_file(made.weights)["blocks.1.attn.qkv.weight"])


def test_a_run_folder_stands_for_its_tokens(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    run = tmp_path / "run"
    run.mkdir()
    made.tokens.save(run / "rtokens-5.safetensors")
    convert(run, tmp_path / "out.pth", backbone_weights=made.weights)
    assert torch.equal(result(made, tmp_path / "out.pth")[0], made.tokens.values)
    made.tokens.save(run / "rtokens-10.safetensors")
    with pytest.raises(UserError, match=r"2 defenses; choose one of them: .*rtokens-5.*rtokens-10"):
        convert(run, tmp_path / "other.pth", backbone_weights=made.weights)


def test_the_weights_of_the_training_are_the_default(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    config = {"model": {"name": "dinov2_vits14", "weights": str(made.weights)}}
    replace(made.tokens, config=config).save(made.path)
    convert(made.path, tmp_path / "out.pth")
    assert torch.equal(result(made, tmp_path / "out.pth")[1], load_file(made.weights)["blocks.1.attn.qkv.weight"])
    made.weights.rename(tmp_path / "moved.safetensors")
    with pytest.raises(UserError, match=r"trained on the weights '.*no such file here.*--backbone-weights"):
        convert(made.path, tmp_path / "other.pth")


def test_the_normalization_of_the_training_is_kept(robust: Any, tmp_path: Path) -> None:
    import onnxruntime

    made = robust("openclip_vitl14", image_size=(28, 28))
    config = {"model": {"name": "openclip_vitl14", "normalization": "imagenet"}}
    backbone = made.model.load(image_size=28, normalization="imagenet")
    replace(made.tokens, config=config, fingerprint=backbone.fingerprint()).save(made.path)
    convert(made.path, tmp_path / "out.onnx", to="onnx", backbone_weights=made.weights)
    images = made.images(2, 28)
    (found,) = onnxruntime.InferenceSession(tmp_path / "out.onnx").run(None, {"images": images.numpy()})
    assert (torch.from_numpy(found) - backbone(images, made.tokens.values)).abs().max() < 1e-4
    assert (torch.from_numpy(found) - made.features(images)).abs().max() > 1e-2


def other_weights(made: Any, path: Path) -> Path:
    state = load_file(made.weights)
    state["blocks.0.mlp.fc1.weight"] = state["blocks.0.mlp.fc1.weight"] + 0.1
    torch.save(state, path)
    return path


def test_weights_that_the_tokens_were_not_trained_on_are_refused(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    other = other_weights(made, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"trained on other weights of 'dinov2_vits14' \(fingerprint [0-9a-f]{16}\)"):
        convert(made.path, tmp_path / "out.pth", backbone_weights=other)
    torch.save(wrapped("last.ckpt", made), tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"not those of the model in.*1 tensors differ.*blocks.0.mlp.fc1.weight"):
        convert(tmp_path / "last.ckpt", tmp_path / "out.pth", backbone_weights=other)
    assert not (tmp_path / "out.pth").exists()


def test_weights_of_another_architecture_are_refused(robust: Any, tmp_path: Path) -> None:
    deit = robust("deit3_small_patch16_224")
    made = robust("dinov2_vits14")
    arguments = {"backbone_weights": deit.weights}
    with pytest.raises(UserError, match=r"deit3_small.*are not those of 'dinov2_vits14'"):
        convert(made.path, tmp_path / "out.pth", **arguments)
    with pytest.raises(UserError, match=r"made for 'dinov2_vits14'.*not for 'deit3_small_patch16_224'"):
        convert(made.path, tmp_path / "out.pth", to="timm", model="deit3_small_patch16_224", **arguments)


def test_weights_that_fit_nothing_are_refused(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    torch.save(wrapped("rtokens.pt", made), tmp_path / "rtokens.pt")
    torch.save({"x": torch.zeros(3, 64)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"fit no backbone that `rtok models` lists.*--model"):
        convert(tmp_path / "rtokens.pt", tmp_path / "out.pth", backbone_weights=tmp_path / "other.pth")


def test_a_checkpoint_without_tokens_is_refused(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    with pytest.raises(UserError, match="holds no robustness tokens"):
        convert(made.weights, tmp_path / "out.pth", backbone_weights=made.weights)
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_converted_file_is_neither_tokens_nor_a_backbone(robust: Any, tmp_path: Path, suffix: str) -> None:
    """Four tokens in a model without registers: its file has the keys and shapes of a model with four."""
    plain = robust("dinov2_vits14")
    replace(plain.tokens, values=plain.tokens.values[:, :4]).save(plain.path)
    converted = (tmp_path / "robust").with_suffix(suffix)
    convert(plain.path, converted, backbone_weights=plain.weights)
    with pytest.raises(UserError, match=r"is already a converted model \(dinov2, 4 robustness tokens\)"):
        convert(converted, tmp_path / "again.pth")
    with pytest.raises(UserError, match=r"is already a converted model .* Give the defense that it was made from\."):
        load_defense(converted)
    other = robust("dinov2_vits14_reg")
    with pytest.raises(UserError, match=r"not a plain backbone: it has 4 robustness tokens inside"):
        convert(other.path, tmp_path / "again.pth", backbone_weights=converted)
    with pytest.raises(UserError, match=r"not a plain backbone: it has 4 robustness tokens inside"):
        other.model.load(weights=converted)
