"""Square attack against the rules of its paper, on models whose best answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rtok.attacks import Context, FeatureCriterion, FixedSurrogate, LabelCriterion, Objective, craft
from rtok.attacks.objective import Step
from rtok.attacks.square import Square

KEYS = ("a", "b", "c")
EPS = 8 / 255


def images(count: int = 3, side: int = 12) -> Tensor:
    drawn = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return (drawn * 255).round() / 255


def brightness() -> Objective:
    """The brighter, the better: the best image is the clean one plus eps everywhere."""
    target = -torch.ones(3, 1)
    return Objective(FixedSurrogate(lambda x: 0.01 + x.mean((1, 2, 3))[:, None]), _Sum(target, "channel"))


class _Sum(FeatureCriterion):
    def __call__(self, output: Tensor, images: object) -> Tensor:
        return output[:, 0]


def test_it_finds_the_best_corner_of_the_ball() -> None:
    clean = images()
    found = craft(Square(eps=EPS, queries=1500), clean, brightness(), Context(KEYS))
    delta = found.images - clean
    assert delta.abs().max() <= EPS + 1e-6
    best = (clean + EPS).clamp(0, 1) - clean
    assert (delta - best).abs().mean() < 0.1 * EPS  # nearly every pixel is at the best corner
    torch.testing.assert_close(found.loss, brightness().loss(found.images, Step(0, 0)))
    torch.testing.assert_close(found.images * 255, (found.images * 255).round(), atol=1e-4, rtol=0)


def test_more_queries_and_a_better_start_help() -> None:
    clean, objective = images(), brightness()
    few, many = (craft(Square(eps=EPS, queries=n), clean, objective, Context(KEYS)).loss for n in (10, 200))
    warm = craft(Square(eps=EPS, queries=10), clean, objective, Context(KEYS, start=(clean + EPS).clamp(0, 1))).loss
    assert (many > few).all() and (warm > many).all()


def test_an_image_does_not_depend_on_its_batch() -> None:
    clean, objective = images(), brightness()
    whole = craft(Square(eps=EPS, queries=60), clean, objective, Context(KEYS, seed=3)).images
    for b, key in enumerate(KEYS):
        alone = craft(Square(eps=EPS, queries=60), clean[b : b + 1], objective, Context((key,), seed=3)).images
        assert torch.equal(alone[0], whole[b])
    other = craft(Square(eps=EPS, queries=60), clean, objective, Context(KEYS, seed=4)).images
    assert not torch.equal(other, whole)


def test_the_budget_is_what_is_asked_of_the_model() -> None:
    asked: list[int] = []

    def model(x: Tensor) -> Tensor:
        asked.append(len(x))
        return x.mean((1, 2, 3))[:, None]

    objective = Objective(FixedSurrogate(model), _Sum(torch.zeros(3, 1), "channel"))
    craft(Square(eps=EPS, queries=25), images(), objective, Context(KEYS))
    assert asked == [3] * 25


def test_a_misclassified_image_is_asked_no_more() -> None:
    """Class 1 is brightness over 0.5: one image is beyond it already, one gets there, one cannot."""
    clean = torch.tensor([0.6, 0.49, 0.2]).view(3, 1, 1, 1).expand(3, 3, 8, 8).contiguous()
    clean = (clean * 255).round() / 255
    asked: list[int] = []

    def model(x: Tensor) -> Tensor:
        asked.append(len(x))
        return torch.stack([torch.full((len(x),), 0.5), x.mean((1, 2, 3))], 1)

    objective = Objective(FixedSurrogate(model), LabelCriterion(torch.zeros(3).long(), loss="margin"))
    found = craft(Square(eps=EPS, queries=300), clean, objective, Context(KEYS))
    assert asked[:2] == [3, 2] and asked[-1] == 1 and len(asked) == 300
    assert found.forwards[0] == 1 < found.forwards[1] < found.forwards[2] == 300 and found.forwards.sum() == sum(asked)
    assert torch.equal(found.images[0], clean[0])
    assert (found.loss > 0).tolist() == [True, True, False]
    labels = torch.zeros(3).long()
    solved = LabelCriterion(labels, loss="margin").solved(torch.tensor([-0.1, 0.0, 0.2]))
    assert solved.tolist() == [False, False, True]
    assert not LabelCriterion(labels).solved(torch.tensor([5.0, 0.0, 1.0])).any()


def test_solved_images_leave_the_search() -> None:
    clean = images()
    asked: list[int] = []

    class Halfway(_Sum):
        def solved(self, loss: Tensor) -> Tensor:
            return torch.tensor([True, False, True])

    def model(x: Tensor) -> Tensor:
        asked.append(len(x))
        return x.mean((1, 2, 3))[:, None]

    objective = Objective(FixedSurrogate(model), Halfway(torch.zeros(3, 1), "channel"))
    craft(Square(eps=EPS, queries=4), clean, objective, Context(KEYS))
    assert asked == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("query", "share"), [(0, 0.8), (10, 0.8), (11, 0.4), (51, 0.2), (201, 0.1), (1001, 0.025), (8001, 0.8 / 512)]
)
def test_squares_shrink_as_published(query: int, share: float) -> None:
    assert Square(queries=10_000).share(query) == pytest.approx(share)
    assert Square(queries=1_000).share(query // 10 + 1) <= share  # fewer queries, the same schedule


def test_normalized_units_have_a_radius_per_channel() -> None:
    std = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    clean = torch.full((3, 3, 8, 8), 0.5)
    search = Square(eps=EPS, units="normalized", queries=50, quantize="none")
    delta = craft(search, clean, brightness(), Context(KEYS, std=std)).images - clean
    torch.testing.assert_close(delta.abs().amax((0, 2, 3)), EPS * std.flatten())


def test_margin_is_the_best_wrong_logit_over_the_right_one() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0], [3.0, 0.0, -1.0]])
    margin = LabelCriterion(torch.tensor([1, 2]), loss="margin")(logits, slice(0, 2))
    assert margin.tolist() == [-2.0, 4.0]
