"""A LoRA becomes an ordinary checkpoint of every format; deep tokens go where a graph can hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import peft
import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from rtok.config.defenses import DeepTokensConfig, LoRAConfig, TokensConfig, WeightsConfig
from rtok.config.registry import DEFENSES
from rtok.conversion import convert
from rtok.defenses import Defense
from rtok.errors import UserError
from rtok.inspection import inspect
from rtok.models import load_backbone, registry

BAR = 1e-4
Made = Callable[..., tuple[Any, Defense, Path]]


@pytest.fixture
def made(tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A tiny model under its real name, a defense that does something, and its file."""

    def make(name: str, section: Any) -> tuple[Any, Defense, Path]:
        model = tiny(name)
        monkeypatch.setitem(registry._BY_NAME, name, model.spec)
        backbone = model.load()
        found: Defense = DEFENSES.find(section.kind).load().create(section, backbone, seed=0)
        noise = torch.Generator().manual_seed(7)
        values = {key: 0.1 * torch.randn(v.shape, generator=noise) for key, v in found.parameters().items()}
        object.__setattr__(found, "fingerprint", backbone.fingerprint())
        found = found.replaced(values)
        found.save(tmp_path / "defense.safetensors")
        return model, found, tmp_path / "defense.safetensors"

    return make


def ours(model: Any, defense: Defense, images: Tensor) -> Tensor:
    backbone = model.load(image_size=tuple(images.shape[-2:]))
    with torch.no_grad():
        features = defense.model(backbone)(images)
        assert not torch.allclose(features, backbone(images), atol=1e-2)
    return features


def normalized(model: Any, images: Tensor) -> Tensor:
    backbone = model.load()
    return (images - backbone.mean) / backbone.std


@pytest.mark.parametrize(
    "name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov3_vits16", "deit3_small_patch16_224", "openclip_vitb32"]
)
def test_a_lora_is_an_ordinary_timm_model(name: str, made: Made, tmp_path: Path) -> None:
    model, lora, path = made(name, LoRAConfig(rank=2))
    done = convert(path, tmp_path / "out.safetensors", to="timm", backbone_weights=model.path)
    assert done.difference < BAR and done.tokens == 0 and done.kind == "lora"
    embedding = model.spec.kind == "embedding"
    kwargs = {"num_classes": 512 if embedding else 0}
    vit: Any = timm.create_model(model.spec.timm_name.partition(".")[0], **kwargs, **model.spec.timm_kwargs).eval()
    vit.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    images = model.images()
    with torch.no_grad():
        found = vit(normalized(model, images)) if embedding else vit.forward_features(normalized(model, images))
    if not embedding:
        found = torch.cat([found[:, :1], found[:, vit.num_prefix_tokens :]], dim=1)
    assert (found - ours(model, lora, images)).abs().max() < BAR * max(1.0, float(found.abs().max()))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dinov2_vits14", "Dinov2Model"),
        ("dinov2_vits14_reg", "Dinov2WithRegistersModel"),
        ("dinov3_vits16plus", "DINOv3ViTModel"),
    ],
)
def test_a_lora_is_an_ordinary_transformers_model(name: str, kind: str, made: Made, tmp_path: Path) -> None:
    model, lora, path = made(name, LoRAConfig(rank=2))
    size = 8 * model.spec.patch_size
    convert(path, tmp_path / "out", to="transformers", backbone_weights=model.path, image_size=size)
    loaded = transformers.AutoModel.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert type(loaded).__name__ == kind
    images = model.images(size=size)
    with torch.no_grad():
        found = loaded(pixel_values=normalized(model, images)).last_hidden_state
    found = torch.cat([found[:, :1], found[:, 1 + model.spec.registers :]], dim=1)
    assert (found - ours(model, lora, images)).abs().max() < BAR * max(1.0, float(found.abs().max()))


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov3_vits16"])
def test_a_lora_is_an_ordinary_official_file(name: str, made: Made, tmp_path: Path) -> None:
    model, lora, path = made(name, LoRAConfig(rank=2, targets=["qkv", "proj"]))
    out = tmp_path / "out.pth"
    convert(path, out, to=name.partition("_")[0], backbone_weights=model.path)
    state = torch.load(out, weights_only=True)
    assert "register_tokens" not in state
    before = dict(model.vit.state_dict())
    same = [key for key in before if key in state and torch.equal(state[key], before[key])]
    assert {"blocks.0.norm1.weight", "blocks.1.mlp.fc2.weight"} <= set(same)  # bit for bit
    assert "blocks.0.attn.qkv.weight" not in same
    with pytest.raises(UserError, match="not a plain backbone: it has a defense of the kind 'lora' inside"):
        load_backbone(model.spec, weights=out)
    assert inspect(out)[0].facts["defense"] == "lora"
    torch.save({**state}, tmp_path / "bare.pth")  # an ordinary file: without its description it is any backbone
    images = model.images()
    features = load_backbone(model.spec, weights=tmp_path / "bare.pth", image_size=model.spec.native_size)(images)
    assert (features - ours(model, lora, images)).abs().max() < BAR * max(1.0, float(features.abs().max()))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dinov2_vits14", "Dinov2Model"),
        ("dinov2_vitg14_reg", "Dinov2WithRegistersModel"),  # which splits the gated layer
        ("dinov3_vits16plus", "DINOv3ViTModel"),
    ],
)
def test_peft_loads_a_lora(name: str, kind: str, made: Made, tmp_path: Path) -> None:
    """Into transformers' model of the plain backbone, which `peft` then merges too."""
    model, lora, path = made(name, LoRAConfig(rank=2, alpha=3, targets=["qkv", "fc1"], blocks=[1]))
    size = 4 * model.spec.patch_size
    done = convert(path, tmp_path / "adapter", to="peft", backbone_weights=model.path)
    assert (done.target, done.tokens) == ("peft", 0)
    assert sorted(file.name for file in (tmp_path / "adapter").iterdir()) == [file.name for file in sorted(done.files)]
    plain = lora.replaced({key: torch.zeros_like(value) for key, value in lora.parameters().items()})
    plain.save(tmp_path / "plain.safetensors")
    arguments = {"to": "transformers", "backbone_weights": model.path, "image_size": size}
    convert(tmp_path / "plain.safetensors", tmp_path / "base", **arguments)
    base = transformers.AutoModel.from_pretrained(tmp_path / "base", dtype=torch.float32).eval()
    assert type(base).__name__ == kind
    images = model.images(size=size)
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    for vit in (adapted, adapted.merge_and_unload()):
        with torch.no_grad():
            found = vit(pixel_values=normalized(model, images)).last_hidden_state
        found = torch.cat([found[:, :1], found[:, 1 + model.spec.registers :]], dim=1)
        assert (found - ours(model, lora, images)).abs().max() < BAR * max(1.0, float(found.abs().max()))


@pytest.mark.parametrize("section", [DeepTokensConfig(count=3), TokensConfig(count=3), WeightsConfig()], ids=str)
def test_an_adapter_is_a_lora(section: Any, made: Made, tmp_path: Path) -> None:
    model, _, path = made("dinov2_vits14", section)
    with pytest.raises(UserError, match=r"--to peft cannot hold [a-z ]+: an adapter of PEFT is a LoRA"):
        convert(path, tmp_path / "out", to="peft", backbone_weights=model.path)
    model, _, path = made("deit3_small_patch16_224", LoRAConfig(rank=2))
    with pytest.raises(UserError, match="only for dinov2 and dinov3"):
        convert(path, tmp_path / "out", to="peft", backbone_weights=model.path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("section", [LoRAConfig(rank=2), DeepTokensConfig(count=3)], ids=["lora", "deep-tokens"])
def test_every_kind_goes_into_an_onnx_graph(section: Any, made: Made, tmp_path: Path) -> None:
    model, defense, path = made("dinov2_vits14", section)
    out = tmp_path / "out.onnx"
    convert(path, out, to="onnx", backbone_weights=model.path, image_size=56)
    images = model.images(size=56)
    cls, patches = onnxruntime.InferenceSession(out).run(None, {"images": images.numpy()})
    found = torch.cat([torch.from_numpy(cls)[:, None], torch.from_numpy(patches)], dim=1)
    assert (found - ours(model, defense, images)).abs().max() < BAR * max(1.0, float(found.abs().max()))


@pytest.mark.parametrize("to", ["dinov2", "timm", "transformers"])
def test_a_format_without_room_for_deep_tokens_says_so(to: str, made: Made, tmp_path: Path) -> None:
    model, _, path = made("dinov2_vits14", DeepTokensConfig(count=3))
    out = tmp_path / ("out" if to == "transformers" else "out.pth")
    with pytest.raises(UserError, match=f"--to {to} cannot hold deep tokens: use --to onnx"):
        convert(path, out, to=to, backbone_weights=model.path)
    assert not out.exists()


@pytest.mark.parametrize("to", ["dinov2", "timm", "transformers"])
def test_weights_need_no_backbone(to: str, made: Made, tmp_path: Path) -> None:
    """Nothing of its weights is left, so they may be gone."""
    _, weights, path = made("dinov2_vits14", WeightsConfig())
    replace(weights, config={"model": {"weights": str(tmp_path / "gone.pth")}}).save(path)
    out = tmp_path / ("out" if to == "transformers" else "out.safetensors")
    done = convert(path, out, to=to, **({} if to == "dinov2" else {"image_size": 56}))
    assert (done.kind, done.tokens) == ("weights", 0)
    if to == "dinov2":
        state = load_file(out)
        assert all(torch.equal(state[name], tensor) for name, tensor in weights.parameters().items())
        assert set(state) - set(weights.parameters()) == {"mask_token"}


def test_inspect_knows_the_kinds(made: Made) -> None:
    _, _, path = made("dinov2_vits14", LoRAConfig(rank=2, targets=["qkv", "fc2"]))
    (found,) = inspect(path)
    assert found.kind == "low-rank changes (lora)"
    shown = {key: found.facts[key] for key in ("backbone", "rank", "alpha", "targets", "blocks", "parameters")}
    expected = {"backbone": "dinov2_vits14", "rank": "2", "alpha": "2.0", "targets": "qkv fc2", "blocks": "all"}
    assert shown == {**expected, "parameters": f"{2 * 2 * (64 + 192 + 256 + 64):,}"}
    assert ("qkv_A", "(2, 2, 64)", "float32") in found.tensors
    _, _, path = made("dinov2_vits14", DeepTokensConfig(count=3))
    (found,) = inspect(path)
    assert (found.kind, found.facts["count"], found.facts["parameters"]) == ("deep tokens (deep-tokens)", "3", "384")
    model, _, path = made("dinov2_vits14", WeightsConfig())
    (found,) = inspect(path)
    numbers = sum(tensor.numel() for tensor in model.vit.state_dict().values())
    assert (found.kind, found.facts["parameters"]) == ("weights (weights)", f"{numbers:,}")
