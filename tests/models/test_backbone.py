from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from rtok.errors import UserError
from rtok.models import Backbone, Defended, load_backbone
from rtok.models.entry import AppendedTokens
from rtok.models.registry import all_specs, find

GOLDEN = Path(__file__).parent.parent / "golden"
# one member of each kind of architecture
KINDS = [
    "dinov2_vits14",
    "dinov2_vits14_reg",
    "dinov2_vitg14",
    "deit3_small_patch16_224",
    "openclip_vitb32",
    "dinov3_vits16",
    "dinov3_vits16plus",
    "timm:vit_small_patch8_224",
]


def tokens(count: int = 5, *, batch: int = 1) -> Tensor:
    return torch.randn(batch, count, 64, generator=torch.Generator().manual_seed(2))


def inserted(vit: Any, images: Tensor, extra: Tensor, at: int) -> Tensor:
    """An independent reference: tokens inserted at `at`, taken out again after the blocks."""
    sequence = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    extra = extra.expand(len(images), -1, -1)
    sequence = vit.blocks(torch.cat([sequence[:, :at], extra, sequence[:, at:]], 1))
    after = vit.norm(torch.cat([sequence[:, :at], sequence[:, at + extra.shape[1] :]], 1))
    return torch.cat([after[:, :1], after[:, vit.num_prefix_tokens :]], 1)


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize(
    ("kind", "name", "mlp_ratio"),
    [("plain", "dinov2_vits14", 4), ("reg4", "dinov2_vits14_reg", 4), ("swiglu", "dinov2_vitg14", 5.5)],
)
def test_golden_files_of_the_dinov2_code_base(tiny: Any, kind: str, name: str, mlp_ratio: float, size: int) -> None:
    spec = tiny(name, mlp_ratio=mlp_ratio).spec
    backbone = load_backbone(spec, weights=GOLDEN / f"dinov2_{kind}.pth", image_size=size)
    backbone._seen = True  # the golden inputs are normalized already, so that they leave [0, 1]
    backbone.mean.zero_()
    backbone.std.fill_(1)
    golden = load_file(GOLDEN / f"dinov2_{kind}_io.safetensors")
    for row, extra in (("plain", None), ("robust", golden["tokens"])):
        features = backbone(golden[f"input_{size}"], extra)
        wanted = torch.cat([golden[f"{row}_cls_{size}"][:, None], golden[f"{row}_patches_{size}"]], 1)
        assert (features - wanted).abs().max() <= 1e-5, row


@pytest.mark.parametrize("name", KINDS)
def test_tokens_off_is_timm(tiny: Any, name: str) -> None:
    """Bit for bit with the frozen layers in timm's own forward pass, and up to rounding with torch's layers."""
    model = tiny(name)
    backbone, images = model.load(), model.images()
    normalized = (images - backbone.mean) / backbone.std

    @torch.no_grad()
    def wanted(vit: Any) -> Tensor:
        if model.spec.kind == "embedding":
            return vit(normalized)
        features = vit.forward_features(normalized)
        return torch.cat([features[:, :1], features[:, vit.num_prefix_tokens :]], 1)

    assert torch.equal(backbone(images), wanted(backbone.vit))
    torch.testing.assert_close(backbone(images), wanted(model.vit), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "deit3_small_patch16_224"])
def test_the_place_of_tokens_in_a_plain_vit_does_not_matter(tiny: Any, name: str) -> None:
    model = tiny(name)
    size = 4 * model.spec.patch_size
    backbone, images = model.load(image_size=size), model.images(2, size)
    appended = backbone(images, tokens())
    normalized = (images - backbone.mean) / backbone.std
    for at in (1, backbone.vit.num_prefix_tokens, 9):
        assert torch.allclose(appended, inserted(backbone.vit, normalized, tokens(), at), atol=1e-5)
    assert (appended - backbone(images)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["dinov3_vits16", "dinov3_vits16plus"])
def test_tokens_among_rotary_positions_are_timm_with_more_registers(tiny: Any, name: str) -> None:
    model = tiny(name)
    backbone, images = model.load(image_size=64), model.images(2, 64)
    appended = backbone(images, tokens())
    more = tiny(name, num_reg_tokens=4 + 5).vit  # timm inserts registers in front of the patches, unrotated
    registers = torch.cat([model.vit.reg_token, tokens()], 1)
    more.load_state_dict({**model.vit.state_dict(), "reg_token": registers})
    with torch.no_grad():
        wanted = more.forward_features((images - backbone.mean) / backbone.std)
    assert torch.allclose(appended, torch.cat([wanted[:, :1], wanted[:, 10:]], 1), atol=1e-5)
    assert (appended - backbone(images)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov3_vits16"])
def test_only_tokens_get_gradients(tiny: Any, name: str) -> None:
    model = tiny(name)
    backbone = model.load()
    extra = tokens().requires_grad_()
    backbone(model.images(1), extra).sum().backward()
    assert extra.grad is not None
    assert extra.grad.abs().sum() > 0
    assert all(weight.grad is None and not weight.requires_grad for weight in backbone.parameters())


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vitg14", "deit3_small_patch16_224", "dinov3_vits16"])
def test_activation_checkpointing_keeps_a_block_and_changes_nothing(tiny: Any, name: str) -> None:
    model = tiny(name, depth=4)
    backbone, images = model.load(), model.images()

    def kept_and_gradient() -> tuple[int, Tensor]:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        x = images.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = backbone(x, tokens()).square().sum()
        kept = sum(sizes.values())
        return kept, torch.autograd.grad(loss, x)[0]

    everything, wanted = kept_and_gradient()
    backbone.activation_checkpointing = True
    little, gradient = kept_and_gradient()
    assert torch.equal(gradient, wanted)
    assert little < 0.5 * everything


def test_images_get_gradients_through_the_normalization(tiny: Any) -> None:
    model = tiny("dinov2_vits14")
    backbone = model.load(image_size=28)
    images = model.images(1, 28).double().requires_grad_()
    backbone.double()
    assert torch.autograd.gradcheck(
        lambda x: backbone.vit.forward_features((x - backbone.mean) / backbone.std)[:, 0, :2], images, fast_mode=True
    )
    weights = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(3))
    (ours,) = torch.autograd.grad((backbone(images) * weights).sum(), images)
    (timms,) = torch.autograd.grad(
        (backbone.vit.forward_features((images - backbone.mean) / backbone.std) * weights).sum(), images
    )
    assert torch.allclose(ours, timms, rtol=1e-6)


@pytest.mark.parametrize("extra", [None, tokens(), tokens(batch=3)])
def test_an_image_does_not_feel_its_batch(tiny: Any, extra: Tensor | None) -> None:
    model = tiny("dinov2_vits14_reg")
    backbone, images = model.load(image_size=56), model.images(3, 56)
    together = backbone(images, extra)
    for i in range(3):
        own = extra if extra is None or len(extra) == 1 else extra[i : i + 1]
        assert torch.allclose(together[i : i + 1], backbone(images[i : i + 1], own), atol=1e-6)


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov3_vits16", "openclip_vitb16"])
def test_intermediate_features_are_timms(tiny: Any, name: str) -> None:
    model = tiny(name)
    backbone, images = model.load(), model.images(1)
    with torch.no_grad():
        wanted = model.vit.forward_intermediates(
            (images - backbone.mean) / backbone.std,
            indices=[0, 1],
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
    second, first = backbone.intermediate(images, [1, 0])
    for ours, (patches, prefix) in zip((first, second), wanted, strict=True):
        assert torch.equal(ours, torch.cat([prefix[:, :1], patches], 1))
    if model.spec.kind == "tokens":
        assert torch.equal(backbone.intermediate(images, [1], tokens())[0], backbone(images, tokens()))


def test_bfloat16_keeps_normalization_and_features_in_float32(tiny: Any) -> None:
    for name in ("dinov2_vits14", "dinov3_vits16"):
        model = tiny(name)
        backbone, images = model.load(), model.images(1)
        exact = backbone(images, tokens())
        mean, rope = backbone.mean.clone(), backbone.rope
        backbone.to(torch.bfloat16)
        assert next(backbone.vit.parameters()).dtype == torch.bfloat16
        assert torch.equal(backbone.mean, mean)
        assert rope is None or (backbone.rope is not None and torch.equal(backbone.rope, rope))
        extra = tokens().requires_grad_()
        rough = backbone(images, extra)
        assert rough.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(rough, exact, dim=-1).mean() > 0.99
        rough.sum().backward()
        assert extra.grad is not None and extra.grad.dtype == torch.float32 and extra.grad.abs().sum() > 0


def test_fingerprint_tells_weights_apart_and_nothing_else(tiny: Any) -> None:
    model = tiny("dinov2_vits14")
    backbone = model.load(image_size=56)
    fingerprint = backbone.fingerprint()
    assert model.load(image_size=112).fingerprint() == fingerprint
    assert model.load(image_size=56).to(torch.bfloat16).fingerprint() == fingerprint
    backbone.vit.blocks[1].mlp.fc2.bias[3] += 0.1
    assert backbone.fingerprint() != fingerprint


def test_training_mode_does_not_exist(tiny: Any) -> None:
    backbone: Backbone = tiny("dinov2_vits14").load(image_size=28)
    backbone.train()
    assert not any(module.training for module in backbone.modules())


def test_attributes(tiny: Callable[..., Any]) -> None:
    backbone = tiny("dinov3_vits16").load(image_size=(64, 96))
    assert (backbone.image_size, backbone.grid, backbone.patch_size) == ((64, 96), (4, 6), 16)
    assert (backbone.dim, backbone.depth, backbone.num_registers, backbone.kind) == (64, 2, 4, "tokens")


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_what_the_registry_says_is_what_timm_builds(spec: Any) -> None:
    import timm

    with torch.device("meta"):
        vit = timm.create_model(spec.timm_name, **({} if spec.kind == "embedding" else {"num_classes": 0}))
    millions = sum(weight.numel() for weight in vit.parameters()) / 1e6
    assert spec == find(spec.name)
    assert vit.patch_embed.patch_size == (spec.patch_size,) * 2
    assert vit.patch_embed.img_size == (spec.native_size,) * 2
    assert (vit.embed_dim, vit.num_prefix_tokens - 1) == (spec.dim, spec.registers)
    assert millions == pytest.approx(spec.params, abs=0.06)


@pytest.mark.parametrize("name", ["dinov2_vits14_reg", "openclip_vitb32", "dinov3_vits16"])
def test_the_largest_activations_are_those_between_the_blocks(tiny: Any, name: str) -> None:
    model = tiny(name)
    backbone, images = model.load(), model.images()
    seen: list[Tensor] = []
    for block in model.vit.blocks:
        block.register_forward_hook(lambda _module, _input, output: seen.append(output))
    with torch.no_grad():
        model.vit.forward_features((images - backbone.mean) / backbone.std)
    wanted = torch.stack([output.abs().max(-1).values for output in seen], dim=1)
    assert torch.equal(backbone.largest_activations(images), wanted)
    assert backbone.largest_activations(images, tokens(5)).shape[-1] == wanted.shape[-1] + 5


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 3, 28, 28) * 255, r"images hold values from .* to 25.*; they must lie in \[0, 1\]. Divide"),
        (torch.full((1, 3, 28, 28), 7, dtype=torch.uint8), "images are of type torch.uint8; valid: floating-point"),
        (torch.rand(2, 1, 28, 28), r"the shape \(2, 1, 28, 28\); valid: \(B, 3, 28, 28\)"),
        (torch.rand(2, 3, 28, 42), r"the shape \(2, 3, 28, 42\); valid: \(B, 3, 28, 28\)"),
        (torch.rand(3, 28, 28), r"the shape \(3, 28, 28\); .* batch axis"),
        ([0.0], "images are a list"),
    ],
)
def test_images_that_are_none_are_refused(tiny: Any, images: Any, message: str) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=28)
    defended = Defended(backbone, AppendedTokens(torch.zeros(1, 2, backbone.dim)))
    for call in (backbone, defended, defended.largest_activations, partial(backbone.intermediate, blocks=[0])):
        with pytest.raises(UserError, match=message):
            call(images)
    assert backbone(torch.rand(1, 3, 28, 28)).isfinite().all()


def test_values_are_looked_at_once_and_never_while_tracing(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Tensor] = []
    monkeypatch.setattr("rtok.models.backbone.check_range", looked.append)
    backbone = tiny("dinov2_vits14").load(image_size=28)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert backbone(mode.from_tensor(torch.rand(2, 3, 28, 28))).shape == (2, 5, backbone.dim)
    assert not looked
    for _ in range(2):
        backbone(torch.rand(2, 3, 28, 28).requires_grad_())
    assert len(looked) == 1
    assert backbone.to("meta")(torch.rand(2, 3, 28, 28, device="meta")).is_meta
