"""Input diversity: an image's own draws, its size kept, its gradient passed on."""

from __future__ import annotations

import torch
from torch import Tensor

from rtok.attacks import PGD, Context, FeatureCriterion, FixedSurrogate, Objective, craft
from rtok.attacks.diversity import Diversity
from rtok.attacks.objective import Step

KEYS = ("a", "b", "c", "d")


def images() -> Tensor:
    return 0.2 + 0.6 * torch.rand(4, 3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_an_image_is_shrunk_and_padded() -> None:
    seen = Diversity(1.0, KEYS, 0)(images(), slice(0, 4), Step(0, 0))
    assert seen.shape == (4, 3, 20, 30)
    for image in seen:
        covered = image.sum(0) > 0
        rows, columns = covered.any(1).nonzero().flatten(), covered.any(0).nonzero().flatten()
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert 18 <= height <= 20 and 27 <= width <= 30
        assert covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_the_chance_holds_and_zero_changes_nothing() -> None:
    clean = images()
    assert torch.equal(Diversity(0.0, KEYS, 0)(clean, slice(0, 4), Step(0, 0)), clean)
    changed = [
        not torch.equal(Diversity(0.5, KEYS, 0)(clean, slice(0, 4), Step(0, step))[b], clean[b])
        for step in range(50)
        for b in range(4)
    ]
    assert 70 < sum(changed) < 130  # 100 expected of 200, standard deviation 7


def test_random_numbers_belong_to_the_image() -> None:
    clean = images()
    whole = Diversity(1.0, KEYS, 0)(clean, slice(0, 4), Step(0, 3))
    alone = Diversity(1.0, KEYS[2:], 0)(clean[2:3], slice(0, 1), Step(0, 3))
    part = Diversity(1.0, KEYS, 0)(clean[2:], slice(2, 4), Step(0, 3))
    assert torch.equal(alone[0], whole[2]) and torch.equal(part, whole[2:])
    assert not torch.equal(Diversity(1.0, KEYS, 0)(clean, slice(0, 4), Step(0, 4)), whole)


def test_pgd_takes_its_gradient_through_it() -> None:
    """The model looks at the top row: unseen by the gradient where that is padding, seen where it is not."""
    clean, target = images(), torch.ones(4, 1, 30)
    objective = Objective(FixedSurrogate(lambda x: x[:, :1, 0]), FeatureCriterion(target, "channel"))
    augment = Diversity(1.0, KEYS, 0)
    _, gradient = Objective(objective.surrogate, objective.criterion, augment=augment).loss_and_gradient(
        clean, Step(0, 0)
    )
    leaf = clean.clone().requires_grad_()
    loss = objective.criterion(augment(leaf, slice(0, 4), Step(0, 0))[:, :1, 0], slice(0, 4))
    (expected,) = torch.autograd.grad(loss.sum(), leaf)
    torch.testing.assert_close(gradient, expected)
    plain = craft(PGD(steps=2), clean, objective, Context(KEYS)).images
    assert not torch.equal(craft(PGD(steps=2, diversity=1.0), clean, objective, Context(KEYS)).images, plain)
