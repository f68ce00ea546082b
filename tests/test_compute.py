"""The fast paths give the slow path's numbers: compiled, in bfloat16, in micro-batches, through oneDNN."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from rtok.attacks import Context, FeatureCriterion, FixedSurrogate, Objective, cosine, craft
from rtok.attacks.graphs import Graphs, graphs_for
from rtok.attacks.pgd import PGD
from rtok.compute import Compute
from rtok.config.schema import Compile
from rtok.errors import UserError
from rtok.models import Backbone, load_backbone
from rtok.models.frozen import FrozenLinear

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler on the CPU",
)
SIZE = 56
ATTACK = PGD(eps=0.25, step=0.05, steps=10)  # random weights take a large radius


@pytest.fixture
def backbone(weights: Path) -> Backbone:
    """A ViT-S/14 of two blocks: they compile in seconds, twelve do not."""
    model = load_backbone("dinov2_vits14", weights=weights, image_size=SIZE)
    model.vit.blocks = model.vit.blocks[:2]
    model.depth = 2
    return model


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 7, 7, generator=generator)
    return nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)


def slow(backbone: Backbone) -> Backbone:
    """The same backbone with PyTorch's own linear layers."""
    model = copy.deepcopy(backbone)
    for module in model.modules():
        if isinstance(module, FrozenLinear):
            module.__class__ = nn.Linear
    return model


def compiled(backbone: Backbone) -> Backbone:
    return Compute.start(compile="default").prepare(backbone)


def in_bfloat16(backbone: Backbone) -> Backbone:
    return Compute.start(precision="bf16").prepare(backbone)


def with_half_gradients(backbone: Backbone) -> Backbone:
    backbone.half_gradients = True
    return backbone


def checkpointed(backbone: Backbone) -> Backbone:
    backbone.activation_checkpointing = True
    return backbone


def as_it_is(backbone: Backbone) -> Backbone:
    return backbone


EXACT = [as_it_is, checkpointed, pytest.param(compiled, marks=needs_a_compiler)]


def features_and_gradient(model: Backbone, images: Tensor) -> tuple[Tensor, Tensor]:
    x = images.clone().requires_grad_()
    features = model(x)
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((features * weights).sum(), x)
    return features.detach(), gradient


def where_an_attack_ends(model: Backbone, judge: Backbone, images: Tensor, micro_batch: int | None = None) -> Tensor:
    """The cosine (B,) that the attack on `model` leaves, as the slow path in fp32 sees it."""
    with torch.no_grad():
        target = model(images)
        truth = judge(images)
    objective = Objective(FixedSurrogate(model), FeatureCriterion(target, "token"), micro_batch)
    found = craft(ATTACK, images, objective, Context.of(images, std=judge.std))
    with torch.no_grad():
        return cosine(judge(found.images), truth, "token")


@pytest.mark.parametrize("fast", EXACT)
def test_features_and_gradients_agree(backbone: Backbone, images: Tensor, fast: Callable[[Backbone], Backbone]) -> None:
    reference = features_and_gradient(slow(backbone), images)
    for got, wanted in zip(features_and_gradient(fast(backbone), images), reference, strict=True):
        assert (got - wanted).norm() <= 1e-5 * wanted.norm()


@needs_a_compiler
def test_a_compiled_image_has_the_same_bits_in_a_smaller_batch(backbone: Backbone, images: Tensor) -> None:
    model = compiled(backbone)
    whole, last = features_and_gradient(model, images), features_and_gradient(model, images[:4])
    assert torch.equal(last[0], whole[0][:4])
    weights = torch.randn(whole[0].shape, generator=torch.Generator().manual_seed(1))[:4]
    few = images[:4].clone().requires_grad_()
    (gradient,) = torch.autograd.grad((model(few) * weights).sum(), few)
    assert torch.equal(gradient, whole[1][:4])


def test_the_modes_of_compile(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append(options) or function)
    told = {}
    for mode in get_args(Compile):
        compute = Compute.start(compile=mode)
        compute.prepare(backbone)
        told[mode] = compute.summary()
        assert compute.describe()["compile"] == mode and not compute.graphs  # those are for GPUs
        assert graphs_for(compute) is None
    assert asked == [{"mode": mode, "dynamic": False} for mode in ("default", "reduce-overhead", "max-autotune")]
    assert "compiled" not in told[False] and told["max-autotune"].endswith(", compiled (max-autotune)")
    assert told["cuda-graphs"].endswith("; compile: cuda-graphs is for GPUs")
    monkeypatch.setattr(Compute, "device", torch.device("cuda"))
    compute = Compute(compute.accelerator, compile="cuda-graphs")
    assert compute.graphs and isinstance(graphs_for(compute), Graphs)


@pytest.mark.parametrize("micro_batch", [None, 4])
@pytest.mark.parametrize("fast", EXACT)
def test_attacks_end_where_the_slow_path_ends(
    backbone: Backbone, images: Tensor, fast: Callable[[Backbone], Backbone], micro_batch: int | None
) -> None:
    judge = slow(backbone)
    wanted = where_an_attack_ends(judge, judge, images)
    got = where_an_attack_ends(fast(backbone), judge, images, micro_batch)
    assert wanted.mean() < 0.9, "the attack was to move the features"
    assert (got - wanted).abs().max() <= 2e-3
    assert (got - wanted).mean().abs() <= 5e-4


@pytest.mark.parametrize(("fast", "bar"), [(in_bfloat16, 0.01), (with_half_gradients, 0.005)])
def test_bfloat16_costs_no_strength(
    backbone: Backbone, images: Tensor, fast: Callable[[Backbone], Backbone], bar: float
) -> None:
    judge = slow(backbone)
    wanted = where_an_attack_ends(judge, judge, images)
    got = where_an_attack_ends(fast(backbone), judge, images)
    assert (got - wanted).mean().abs() <= bar


@pytest.mark.parametrize("there", [True, False])
def test_auto_decides_by_the_device(backbone: Backbone, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtok.compute.pays", lambda device: there)
    compute = Compute.start(precision="auto")
    assert compute.prepare(backbone).half_gradients == there == compute.describe()["half_gradients"]
    assert ("bf16 products in the gradients" in compute.summary()) == there
    assert not Compute.start().prepare(backbone).half_gradients


def test_tokens_trained_in_bfloat16_are_as_good(
    backbone: Backbone, images: Tensor, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All measured in fp32 on the same adversarial images."""
    from rtok.config.schema import Config
    from rtok.defenses import RobustnessTokens
    from rtok.training import train

    settings["model"]["image_size"] = SIZE
    settings |= {"tokens": {"count": 20, "init_std": 0.5}, "train": {"steps": 8, "batch_size": 4, "lr": 0.05}}
    model = load_backbone("dinov2_vits14", weights=settings["model"]["weights"], image_size=SIZE)
    with torch.no_grad():
        truth = model(images)
    objective = Objective(FixedSurrogate(model), FeatureCriterion(truth, "token"))
    attacked = craft(PGD(eps=0.03, step=0.01, steps=5), images, objective).images

    def kept(tokens: RobustnessTokens) -> float:
        with torch.no_grad():
            return cosine(model(attacked, tokens.values), truth, "token").mean().item()

    untrained = kept(RobustnessTokens.draw(20, model.dim, std=0.5))
    monkeypatch.setattr("rtok.compute.pays", lambda device: True)
    trained = {}
    for precision in ("fp32", "bf16", "auto"):
        out = tmp_path / precision
        train(Config.model_validate({**settings, "precision": precision, "out": str(out)}))
        trained[precision] = kept(RobustnessTokens.load(out / "rtokens.safetensors"))
    gain = trained["fp32"] - untrained
    assert gain > 0.005, "training was to matter"
    for precision in ("bf16", "auto"):
        assert abs(trained[precision] - trained["fp32"]) <= min(0.01, 0.2 * gain)


@needs_a_compiler
def test_a_compiled_run_that_was_interrupted_resumes_to_the_same_tokens(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from rtok.config.schema import Config
    from rtok.training import train
    from rtok.training.step import Trainer

    settings |= {"tokens": {"count": 3}, "compile": True}  # as version 0.1 wrote it
    settings["train"] = {"steps": 4, "batch_size": 3, "checkpoint_every": 1}
    configs = {name: Config.model_validate({**settings, "out": str(tmp_path / name)}) for name in ("whole", "cut")}
    load = load_backbone

    def shallow(*args: Any, **options: Any) -> Backbone:  # two blocks compile in seconds, twelve do not
        model = load(*args, **options)
        model.vit.blocks = model.vit.blocks[:2]
        model.depth = 2
        return model

    step = Trainer.step

    def interrupted(self: Trainer, number: int, batch: Any) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, batch)

    monkeypatch.setattr("rtok.setup.load_backbone", shallow)
    train(configs["whole"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", interrupted)
        train(configs["cut"])
    train(configs["cut"], resume=True)
    whole, cut = (load_file(tmp_path / name / "rtokens.safetensors")["rtokens"] for name in ("whole", "cut"))
    assert torch.equal(cut, whole)


def test_processes_without_gpus_get_the_hint_where_accelerate_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ValueError("no such device")

    monkeypatch.setattr("accelerate.Accelerator", fail)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="no such device"):  # the variable is set: it is something else
        Compute.start()
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    with pytest.raises(UserError, match=r"cannot start 2 processes .* set ACCELERATE_USE_CPU=true"):
        Compute.start()
