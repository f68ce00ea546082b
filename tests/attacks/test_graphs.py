"""Captured looks find what looks find: with a capture that behaves as a CUDA graph does, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rtok.attacks import (
    APGD,
    PGD,
    Context,
    FeatureCriterion,
    FixedSurrogate,
    LabelCriterion,
    MaskCriterion,
    Objective,
    autoattack,
    craft,
)
from rtok.attacks.autoattack import AutoAttack
from rtok.attacks.graphs import KEPT, Graphs, OnGPU
from rtok.attacks.objective import Step
from rtok.compute import Compute
from rtok.config.schema import Config
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.half import exact_gradients
from rtok.training import train
from tests.attacks.devices import Recorded

STEPS, SIDE, CLASSES = 4, 28, 5


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def backbone(tiny: Callable[..., Any]) -> Backbone:
    return tiny("dinov2_vits14").load(image_size=SIDE)


def batch(seed: int, count: int = 4) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def on_features(model: Any, images: Tensor, graphs: Graphs | None = None, **options: Any) -> Objective:
    with torch.no_grad():
        target = model(images)
    return Objective(FixedSurrogate(model), FeatureCriterion(target, "token"), graphs=graphs, **options)


def both(attack: Any, images: Tensor, make: Callable[[Graphs | None], Objective], graphs: Graphs) -> None:
    """An attack finds the same bits, in the same number of passes, with and without graphs."""
    wanted, found = (craft(attack, images, make(one), Context.of(images)) for one in (None, graphs))
    for name in ("images", "loss", "forwards", "gradients"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert not torch.equal(found.images, images)


@pytest.mark.parametrize("attack", [PGD(steps=STEPS, momentum=0.5, quantize="none"), APGD(steps=STEPS)])
@pytest.mark.parametrize("micro_batch", [None, 3])
def test_features_of_several_batches_have_one_graph(
    attack: Any, micro_batch: int | None, backbone: Backbone, recorded: Recorded
) -> None:
    graphs, images = Graphs(recorded), batch(0)
    for number in range(3):
        images = batch(number)
        both(attack, images, lambda one, x=images: on_features(backbone, x, one, micro_batch=micro_batch), graphs)
    parts = 1 if micro_batch is None else 2  # of three images and of one
    assert recorded.captures == parts
    assert recorded.replays == parts * (3 * STEPS - 1)  # the very first look is no replay


def test_what_the_caller_gave_is_left_alone(backbone: Backbone, recorded: Recorded) -> None:
    graphs, given = Graphs(recorded), []
    for number in range(3):
        images, points = batch(number), batch(10 + number)
        objective = on_features(backbone, images, graphs)
        objective.look(points, Step(0, 0))
        given.append((objective.criterion.target, points))
    assert recorded.captures == 1 and recorded.replays == 2
    for number, (target, points) in enumerate(given):
        assert torch.equal(points, batch(10 + number)) and torch.equal(target, backbone(batch(number)))


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "dlr"])
def test_labels_and_masks_are_inputs_of_a_graph(loss: Any, recorded: Recorded) -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)).requires_grad_(False)
    segmenter = nn.Conv2d(3, CLASSES, 3, padding=1).requires_grad_(False)
    graphs = Graphs(recorded)
    for number in range(3):
        images, generator = batch(number), torch.Generator().manual_seed(number)
        labels, masks = (torch.randint(0, CLASSES, size, generator=generator) for size in ((4,), (4, SIDE, SIDE)))
        for model, criterion in (
            (classifier, LabelCriterion(labels, loss=loss)),
            (segmenter, MaskCriterion(masks, loss=loss)),
        ):
            make = lambda one, m=model, c=criterion: Objective(FixedSurrogate(m), c, graphs=one)  # noqa: E731
            both(PGD(steps=STEPS, quantize="none"), images, make, graphs)
    assert recorded.captures == 2


def test_an_attack_that_drops_images_fills_few_sizes_up(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoattack, "STEPS", 5)
    torch.manual_seed(0)
    images = batch(0, 12)
    model = nn.Sequential(nn.Conv2d(3, 4, 7, 7), nn.Tanh(), nn.Flatten(), nn.Linear(64, CLASSES)).requires_grad_(False)
    objective = Objective(FixedSurrogate(model), LabelCriterion(model(images).argmax(1)))
    attack = AutoAttack(eps=1 / 255, version="custom", attacks=["apgd-ce", "apgd-dlr", "apgd-t"])
    graphs = Graphs(recorded)
    wanted = craft(attack, images, objective)
    found = craft(attack, images, Objective(objective.surrogate, objective.criterion, graphs=graphs))
    assert 0 < (wanted.images != images).flatten(1).any(1).sum() < 12, "some were to fall, and some to resist"
    torch.testing.assert_close(found.images, wanted.images)
    assert torch.equal(found.gradients, wanted.gradients)
    assert recorded.captures >= 3 and len(graphs.sizes.met) <= 3


def test_parameters_that_change_in_place_are_seen(backbone: Backbone, recorded: Recorded) -> None:
    tokens = RobustnessTokens.draw(3, backbone.dim, std=0.5)
    model, images, graphs = tokens.model(backbone), batch(0), Graphs(recorded)
    (values,) = tokens.parameters().values()
    target = backbone(images.flip(0))
    seen = []
    for _ in range(4):
        looks = [
            Objective(FixedSurrogate(model), FeatureCriterion(target, "token"), graphs=one).look(images, Step(0, 0))
            for one in (graphs, None)
        ]
        assert all(torch.equal(one, other) for one, other in zip(*looks, strict=True))
        seen.append(looks[0].loss)
        with torch.no_grad():
            values.mul_(-1.5)
    assert recorded.captures == 1 and recorded.replays == 3
    assert not torch.equal(seen[1], seen[2]) and not torch.equal(seen[2], seen[3])  # and are the caller's own


def test_what_is_new_at_every_step_is_never_captured(backbone: Backbone, recorded: Recorded) -> None:
    images, graphs = batch(0), Graphs(recorded)
    target = backbone(images).detach()

    class Fresh:
        def members(self, step: Step) -> list[tuple[float, Any]]:
            drawn = RobustnessTokens.draw(2, backbone.dim, std=0.5, seed=step.index)
            return [(0.5, backbone), (0.5, drawn.model(backbone))]

    make = lambda one: Objective(Fresh(), FeatureCriterion(target.flip(0), "token"), graphs=one)  # noqa: E731
    both(PGD(steps=40, quantize="none"), images, make, graphs)
    assert recorded.captures == 0
    both(PGD(steps=2, diversity=1.0), images, lambda one: on_features(backbone, images, one), graphs)
    assert recorded.captures == 0  # nor is what the host decides


def test_exact_gradients_are_not_answered_by_rounded_ones(backbone: Backbone, recorded: Recorded) -> None:
    backbone.half_gradients = True
    images = batch(0)
    objective = on_features(backbone, images, Graphs(recorded))
    points = images.flip(0)
    for _ in range(3):
        rounded = objective.look(points, Step(0, 0)).gradient
    with exact_gradients():
        exact = [objective.look(points, Step(0, 0)).gradient for _ in range(3)]
    assert torch.equal(exact[0], exact[2]) and not torch.equal(exact[0], rounded)
    assert recorded.captures == 2


def test_only_so_many_graphs_are_kept(recorded: Recorded) -> None:
    graphs, x = Graphs(recorded), torch.ones(2)
    for number in [*range(KEPT + 1), 0]:
        for _ in range(3):
            (found,) = graphs.run(lambda x, k=number: (x * k,), [x], (number,), alive=None)
            assert torch.equal(found, x * number)
    assert recorded.captures == KEPT + 2  # the first one was captured again


def test_a_training_on_graphs_gives_the_same_tokens(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Recorded] = []
    settings["train"] = {"steps": 3, "batch_size": 4, "lr": 0.1, "threat": "mixed", "micro_batch": 2}
    settings |= {"tokens": {"count": 2}}

    def trained(name: str) -> Tensor:
        train(Config.model_validate({**settings, "out": str(tmp_path / name)}))
        return RobustnessTokens.load(tmp_path / name / "rtokens.safetensors").values

    plain = trained("plain")
    monkeypatch.setattr(Compute, "graphs", True)
    monkeypatch.setattr("rtok.attacks.graphs.OnGPU", lambda: made.append(Recorded()) or made[-1])
    assert torch.equal(trained("graphs"), plain)
    assert sum(one.replays for one in made) > 3


class FakeCUDA:
    """`torch.cuda` as far as a capture needs it; it notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None

    def graph_pool_handle(self) -> str:
        self.asked.append("pool")
        return "pool"

    def Stream(self) -> FakeCUDA:
        return self

    def CUDAGraph(self) -> FakeCUDA:
        return self

    def current_stream(self) -> FakeCUDA:
        return self

    def wait_stream(self, other: object) -> None:
        self.asked.append("wait")

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        self.asked.append("warm-up")
        yield

    @contextmanager
    def graph(self, graph: object, **options: object) -> Iterator[None]:
        self.asked.append("capture")
        assert options == {"pool": "pool", "stream": self, "capture_error_mode": "thread_local"}
        yield
        if self.error:
            raise self.error

    def replay(self) -> None:
        self.asked.append("replay")


def test_a_capture_on_a_gpu_warms_up_first_and_shares_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, on_gpu, x = FakeCUDA(), OnGPU(), torch.ones(2)
    for name in ("graph_pool_handle", "Stream", "CUDAGraph", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    replay, outputs = on_gpu(lambda x: (2 * x,), [x])
    replay()
    assert torch.equal(outputs[0], 2 * x)
    assert fake.asked == ["pool", "wait", "warm-up", "wait", "capture", "replay"]
    on_gpu(lambda x: (3 * x,), [x])
    assert fake.asked.count("pool") == 1
    fake.error = RuntimeError("operation not permitted when stream is capturing\nmore of it")
    with pytest.raises(UserError, match=r"cuda-graphs: .* captured \(operation not .* capturing\): use compile: false"):
        on_gpu(lambda x: (3 * x,), [x])
