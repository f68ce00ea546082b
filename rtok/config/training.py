"""The `train` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from rtok.config.attack_methods import AnyAttack
from rtok.config.types import Count, Index, NotNegative, Positive, Section, Share, SmallCount, broken_rule, expected
from rtok.errors import UserError


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


class ValidateConfig(Section):
    """Validation: the white-box robustness and the fidelity on images that are held out of the training images.

    With the groups (photos, for their crops) that they come from they are never trained on. They are none of the images
    of another split, so that evaluations on those stay untouched.
    """

    every: Count = Field(50, description="Validate after every so many steps, and after the last.")
    images: SmallCount = Field(16, description="How many images to hold out.")
    attack: AnyAttack | None = Field(
        None,
        description="The attack on the defense as it then is, a section like `attack`. Null: 10 steps of PGD within "
        "the radius of `attack`.",
    )


class TrainConfig(Section):
    """The training."""

    steps: Count | None = Field(
        50,
        description="Updates of the defense (the paper: 50 for DINOv2, 300 for DeiT-III and OpenCLIP). Null where "
        "`epochs` is set.",
    )
    epochs: Count | None = Field(
        None,
        description="Instead of `steps`: how often training goes through its images. It takes epochs * images / "
        "batch_size steps, rounded up.",
    )
    batch_size: SmallCount = Field(8, description="Images per step, over all processes.")
    lr: Positive = Field(1e-3, description="Learning rate.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="The optimizer.")
    weight_decay: NotNegative | None = Field(
        None, description="Weight decay of the optimizer. Null: 0.01 for `adamw`, 0 for the others."
    )
    ema: Annotated[Positive, Field(lt=1)] | None = Field(
        None,
        description="Decay of an exponential moving average of the parameters, such as 0.99: the average is what is "
        "validated and saved. In the first steps the decay is at most (1 + step) / (10 + step). Null: no average.",
    )
    objective: Literal["cosine", "l2"] = Field(
        "cosine",
        description="What is trained, and raised by its attack: the cosine similarity to the plain clean features (the "
        "paper's), or minus the squared L2 distance to them, averaged over the tokens (FARE's).",
    )
    axis: Literal["token", "channel"] = Field(
        "token", description="The axis of the cosine similarity that is trained; `token` is the original code's."
    )
    flip: bool = Field(False, description="Mirror every image left to right with a chance of one half.")
    threat: Literal["transfer", "adaptive", "mixed"] = Field(
        "transfer",
        description="What the attack knows during training. `transfer`: only the plain backbone (the paper's); "
        "`adaptive`: also the current defense; `mixed`: half of the images each.",
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
    validation: ValidateConfig | None = Field(
        None,
        alias="validate",
        description="Measure held-out images during the training, and keep the best state. Null: the last state is "
        "kept (the paper's).",
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

    @model_validator(mode="before")
    @classmethod
    def _counts_in_epochs(cls, written: Any) -> Any:
        counts = isinstance(written, Mapping) and written.get("epochs") is not None and "steps" not in written
        return {**written, "steps": None} if counts else written

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise broken_rule("set one of steps and epochs, and the other to null")
        return self

    @property
    def total_steps(self) -> int:
        """The number of steps; `over` first turns epochs into steps."""
        assert self.steps is not None
        return self.steps

    def over(self, images: int) -> Self:
        """The same training with `epochs` turned into steps, for this many training images.

        Raises:
            UserError: it would end before its warm-up.
        """
        if self.epochs is None:
            return self
        steps = -(-self.epochs * images // self.batch_size)
        if self.warmup_steps >= steps:
            raise UserError(
                f"train.warmup_steps is {self.warmup_steps}, but {self.epochs} epochs of {images} images are only "
                f"{steps} steps: choose fewer, or train longer."
            )
        return self.model_copy(update={"steps": steps, "epochs": None})

    @property
    def is_laid_out(self) -> bool:
        """Whether what a step does depends on how many there are."""
        return self.lr_schedule != "constant" or self.eps_schedule is not None

    @field_validator("warmup_steps")
    @classmethod
    def _ends(cls, warmup_steps: int, info: ValidationInfo) -> int:
        steps = info.data.get("steps")
        if steps is not None and warmup_steps >= steps:
            raise expected(f"fewer than train.steps, {steps}")
        return warmup_steps
