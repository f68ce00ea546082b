"""Of several starts, the strongest result counts."""

from __future__ import annotations

import torch
from torch import Tensor

from rtok.attacks import PGD, FixedSurrogate, LabelCriterion, Objective, craft
from rtok.attacks.objective import Step


def test_a_restart_that_fools_the_model_is_kept_over_one_with_a_larger_loss() -> None:
    """Three classes: the cross-entropy can be larger where the right class still wins."""
    # Logits of what the pixel's value stands for. Below 0.5 the right class 0 wins narrowly over two rivals
    # (loss 1.03); above, class 1 wins and class 2 is out (loss 0.98).
    narrow, wrong = torch.tensor([0.1, 0.0, 0.0]), torch.tensor([0.0, 0.5, -9.0])

    def model(images: Tensor) -> Tensor:
        return torch.where(images.mean((1, 2, 3))[:, None] > 0.5, wrong, narrow) + 0 * images.sum()

    objective = Objective(FixedSurrogate(model), LabelCriterion(torch.zeros(8, dtype=torch.long)))
    (low, high), _ = objective.score(torch.tensor([0.4, 0.6]).view(2, 1, 1, 1).expand(2, 3, 1, 1), Step(0, 0))
    assert low > high
    clean = torch.full((8, 3, 1, 1), 0.5)
    one, many = (craft(PGD(eps=0.1, steps=1, restarts=r), clean, objective).images for r in (1, 12))
    fooled = [model(found).argmax(1) != 0 for found in (one, many)]
    assert not fooled[0].all() and fooled[1].all()
