"""The `train` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from rtok.config.types import Count, Index, NotNegative, Positive, Section, SmallCount, broken_rule, expected

Share = Annotated[NotNegative, Field(le=1)]


class EpsScheduleConfig(Section):
    """The radius of the attack over the training: it rises linearly from `start` to `attack.eps`.

    The step size of the attack grows with the radius, whether `attack.step` is set or not.
    """

    hold: Share = Field(0.0, description="Share of the steps over which the radius stays at `start`.")
    ramp: Share = Field(
        0.5, description="Share of the steps over which it then rises; the others have the full radius."
    )
    start: NotNegative = Field(
        0.0, description="The radius that it starts from, in `attack.units`. At a radius of 0 the attack is left out."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hold + self.ramp > 1 + 1e-9:  # shares such as 0.9 and 0.1 are rounded
            raise broken_rule(f"hold and ramp are shares of the steps and add up to {self.hold + self.ramp:g}, above 1")
        return self


class TrainConfig(Section):
    """The training."""

    steps: Count = Field(
        50, description="Updates of the tokens (the paper: 50 for DINOv2, 300 for DeiT-III and OpenCLIP)."
    )
    batch_size: SmallCount = Field(8, description="Images per step, over all processes.")
    lr: Positive = Field(1e-3, description="Learning rate.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="The optimizer.")
    axis: Literal["token", "channel"] = Field(
        "token", description="The axis of the cosine similarity that is trained; `token` is the original code's."
    )
    threat: Literal["transfer", "adaptive", "mixed"] = Field(
        "transfer",
        description="What the attack knows during training. `transfer`: only the plain backbone (the paper's); "
        "`adaptive`: also the current tokens; `mixed`: half of the images each.",
    )
    invariance_weight: NotNegative = Field(
        1.0,
        description="Weight of the invariance term: the loss is -(weight * invariance + adversarial). 1: the paper's. "
        "More keeps clean features closer to the plain ones, less leaves more for robustness.",
    )
    eps_schedule: EpsScheduleConfig | None = Field(
        None,
        description="The radius of the attack over the training. Null: `attack.eps` from the first step on (the "
        "paper's).",
    )
    warmup_steps: Index = Field(0, description="Steps over which the learning rate rises from 0.")
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant",
        description="The learning rate after the warm-up: constant (the paper's), or half a cosine down to 0, which it "
        "would reach one step after the last.",
    )
    checkpoint_every: Count = Field(
        10, description="Save a state that `--resume` can continue from every so many steps."
    )
    micro_batch: SmallCount | None = Field(
        None, description="Images that pass through the model at once: less memory, same result. Null: the whole batch."
    )
    activation_checkpointing: bool = Field(
        False,
        description="Keep one activation per block and recompute the others: much less memory, a third "
        "more work, same result.",
    )

    @property
    def is_laid_out(self) -> bool:
        """Whether what a step does depends on how many there are."""
        return self.lr_schedule != "constant" or self.eps_schedule is not None

    @field_validator("warmup_steps")
    @classmethod
    def _ends(cls, warmup_steps: int, info: ValidationInfo) -> int:
        if warmup_steps >= info.data.get("steps", warmup_steps + 1):
            raise expected(f"fewer than train.steps, {info.data['steps']}")
        return warmup_steps
