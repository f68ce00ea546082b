from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rtok.checkpoints import read_checkpoint, state_dict
from rtok.errors import UserError
from rtok.models.naming.rules import Naming
from rtok.models.registry import all_specs
from rtok.models.weights import fit_weights, translate, translate_back

REPRESENTATIVES = [
    "dinov2_vits14",
    "dinov2_vits14_reg",
    "dinov2_vitg14",
    "dinov2_vitg14_reg",
    "deit3_small_patch16_224",
    "openclip_vitb32",
    "dinov3_vits16",
    "dinov3_vits16plus",
]
CASES = [(spec.name, naming.name) for spec in all_specs() if spec.name in REPRESENTATIVES for naming in spec.namings]


def naming_of(model: Any, name: str) -> Naming:
    (naming,) = [naming for naming in model.spec.namings if naming.name == name]
    return naming


@pytest.mark.parametrize(("name", "naming"), CASES)
def test_every_naming_goes_there_and_back(tiny: Any, tmp_path: Path, name: str, naming: str) -> None:
    model = tiny(name)
    tensors = model.vit.state_dict()
    if naming == "timm (without qkv biases)":  # such files say that the biases are zero
        for key in tensors:
            if key.endswith(("q_bias", "v_bias")):
                tensors[key].zero_()
    theirs = translate_back(tensors, naming_of(model, naming))
    before = {key: tensor.clone() for key, tensor in theirs.items()}
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    path = tmp_path / "file.safetensors"
    back, _ = fit_weights(theirs, shapes, model.spec.namings, model=name, path=path)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensors[key]) for key in tensors)
    assert theirs.keys() == before.keys()
    assert all(torch.equal(theirs[key], before[key]) for key in before)
    # and the whole way: a file in this naming gives the same features
    save_file({key: tensor.contiguous() for key, tensor in theirs.items()}, path)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, model.path)
    images = model.images(1)
    assert torch.equal(model.load(weights=path)(images), model.load()(images))


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("registers", [0, 4])
def test_transformers_agrees_on_what_its_dinov2_files_mean(
    tiny: Any, tmp_path: Path, registers: int, swiglu: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    name = f"dinov2_vit{'g' if swiglu else 's'}14" + ("_reg" if registers else "")
    variant = "Dinov2WithRegisters" if registers else "Dinov2"
    config = getattr(transformers, f"{variant}Config")(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=518,
        patch_size=14,
        use_swiglu_ffn=swiglu,
        **({"num_register_tokens": registers} if registers else {}),
    )
    reference = randomised(getattr(transformers, f"{variant}Model")(config))
    reference.save_pretrained(tmp_path)
    model = tiny(name)
    backbone = model.load(weights=tmp_path / "model.safetensors")
    images = model.images(1)
    with torch.no_grad():
        wanted = reference((images - backbone.mean) / backbone.std).last_hidden_state
    wanted = torch.cat([wanted[:, :1], wanted[:, 1 + registers :]], 1)
    assert torch.allclose(backbone(images), wanted, atol=1e-4)


@pytest.mark.parametrize("swiglu", [False, True])
def test_transformers_agrees_on_what_its_dinov3_files_mean(tiny: Any, tmp_path: Path, swiglu: bool) -> None:
    transformers = pytest.importorskip("transformers", minversion="4.56")
    config = transformers.DINOv3ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        num_register_tokens=4,
        use_gated_mlp=swiglu,
        hidden_act="silu" if swiglu else "gelu",
    )
    reference = randomised(transformers.DINOv3ViTModel(config))
    reference.save_pretrained(tmp_path)
    model = tiny("dinov3_vits16plus" if swiglu else "dinov3_vits16")
    backbone = model.load(weights=tmp_path / "model.safetensors", image_size=64)
    images = model.images(1, 64)
    with torch.no_grad():
        wanted = reference((images - backbone.mean) / backbone.std).last_hidden_state
    assert torch.allclose(backbone(images), torch.cat([wanted[:, :1], wanted[:, 5:]], 1), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "naming"),
    [
        ("dinov2_vitg14_reg", "DINOv2"),
        ("deit3_small_patch16_224", "DeiT"),
        ("openclip_vitb32", "OpenCLIP"),
        ("dinov3_vits16", "DINOv3"),
        ("dinov3_vits16plus", "DINOv3"),
    ],
)
def test_timm_agrees_on_what_official_files_mean(tiny: Any, name: str, naming: str) -> None:
    """timm's own key filters, which follow each code base, read what our tables write."""
    model = tiny(name)
    tensors = model.vit.state_dict()
    theirs = translate_back(tensors, naming_of(model, naming))
    theirs |= {"mask_token": torch.zeros(1, 64)} if naming.startswith("DINO") else {}
    options = {"adapt_layer_scale": True} if naming == "DeiT" else {}
    read = sys.modules[type(model.vit).__module__].checkpoint_filter_fn(theirs, model.vit, **options)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[key], tensors[key]) for key in tensors)


def test_official_dinov3_files_with_their_constants(tiny: Any) -> None:
    model = tiny("dinov3_vits16")
    tensors = model.vit.state_dict()
    theirs = translate_back(tensors, naming_of(model, "DINOv3"))
    theirs["blocks.0.attn.qkv.bias"][64:128] = 7  # masked, so it means nothing
    theirs["blocks.0.attn.qkv.bias_mask"] = torch.cat([torch.ones(64), torch.zeros(64), torch.ones(64)])
    theirs["rope_embed.periods"] = torch.ones(8)
    theirs["mask_token"] = torch.zeros(1, 64)
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    found = translate(theirs, shapes, naming_of(model, "DINOv3"))
    assert not found.problems
    assert all(torch.equal(found.tensors[key], tensors[key]) for key in tensors)


def test_a_whole_clip_file_gives_its_image_tower(tiny: Any) -> None:
    model = tiny("openclip_vitb32")
    tensors = model.vit.state_dict()
    theirs = translate_back(tensors, naming_of(model, "OpenCLIP"))
    assert theirs["visual.proj"].shape == (64, 512)
    text = dict.fromkeys(("logit_scale", "positional_embedding", "transformer.resblocks.0.ln_1.weight"), torch.zeros(1))
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    assert not translate({**theirs, **text}, shapes, naming_of(model, "OpenCLIP")).problems


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.1.norm2.bias"), "1 missing: blocks.1.norm2.bias"),
        (lambda state: state.update(surprise=torch.zeros(1)), "1 left over: surprise"),
        (lambda state: state.update({"norm.bias": torch.zeros(3)}), r"1 misshapen: norm.bias \(3,\) for \(64,\)"),
        (lambda state: state.update(register_tokens=torch.zeros(1, 4, 64)), "1 left over: register_tokens"),
    ],
)
def test_a_key_that_does_not_fit_is_named(tiny: Any, change: Any, message: str) -> None:
    model = tiny("dinov2_vits14")
    state = model.vit.state_dict()
    state["mask_token"] = torch.zeros(1, 64)
    change(state)
    torch.save(state, model.path.with_suffix(".pth"))
    with pytest.raises(UserError, match=message) as error:
        model.load(weights=model.path.with_suffix(".pth"))
    assert str(model.path.with_suffix(".pth")) in str(error.value)
    assert "dinov2_vits14" in str(error.value)


def test_weights_of_another_architecture_are_refused_in_one_short_message(tiny: Any) -> None:
    other, model = tiny("dinov2_vits14_reg", embed_dim=128), tiny("dinov2_vits14")
    with pytest.raises(UserError, match="not those of 'dinov2_vits14'") as error:
        model.load(weights=other.path)
    assert len(str(error.value)) < 500


def test_wrappers_are_taken_off_as_documented(tiny: Any, tmp_path: Path) -> None:
    model = tiny("dinov2_vits14")
    state = model.vit.state_dict()
    path = tmp_path / "checkpoint.pth"
    for content in (
        {"model": state, "epoch": 3},
        {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
        {"teacher": {f"module.backbone.{key}": tensor for key, tensor in state.items()}},
    ):
        torch.save(content, path)
        assert state_dict(read_checkpoint(path), path).keys() == state.keys()


def randomised(module: Any) -> Any:
    generator = torch.Generator().manual_seed(4)
    for weight in module.parameters():
        weight.data.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return module.eval()
