"""Fitting the linear head with mmengine's Runner: DINOv2's recipe, on the features of a frozen backbone.

Every process of a run fits the same head from the same seed, and the main process saves it: no process waits
for another, and the head does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.optim import AdamW
from torch.utils.data import DataLoader

from rtok.checkpoints import read_checkpoint
from rtok.console import Progress, progress
from rtok.errors import UserError
from rtok.heads.segmentation import engine, recipe
from rtok.heads.segmentation.models import PlainCheckpointHook, RtokSegmenter
from rtok.heads.segmentation.samples import Sample, TrainingSamples

if TYPE_CHECKING:
    from rtok.data.masks import MaskedFiles

CHECKPOINTS = 20  # how often a fit saves what `--resume` needs


def fit_head(
    model: RtokSegmenter,
    source: MaskedFiles,
    *,
    steps: int,
    batch_size: int,
    short_side: int,
    window: int,
    seed: int,
    state: Path,
    workers: int,
    on_error: str,
    label: str = "fit",
    enabled: bool = True,
) -> None:
    """Train `model.decode_head` on random crops of `source`, going on from what `state` holds.

    Args:
        steps, batch_size: iterations, and crops in each.
        short_side, window: pixels that pictures are scaled around, and that crops have.
        state: a folder for checkpoints and mmengine's own records.
        label, enabled: what the progress bar says, and whether this process has one.

    Raises:
        UserError: an image cannot be decoded and `on_error` is `stop`, or a mask is unreadable.
    """
    last = _last_checkpoint(state)
    done = 0 if last is None else int(last.stem.removeprefix("iter_"))
    samples = TrainingSamples(
        source,
        recipe.augmentation(short_side, window, model.backbone.backbone.mean.flatten().tolist()),
        seed=seed,
        length=steps * batch_size,
        start=done * batch_size,
        on_error=on_error,
    )
    loader: DataLoader[Sample] = DataLoader(samples, batch_size, collate_fn=_unchanged, num_workers=workers)
    # mmengine removes the oldest checkpoint before it writes the newest
    saving = {
        "type": "CheckpointHook",
        "by_epoch": False,
        "interval": max(1, steps // CHECKPOINTS),
        "max_keep_ckpts": 2,
    }
    model.train()
    with progress(label, steps, start=done, enabled=enabled) as bar:
        Runner(
            model,
            work_dir=str(state),
            train_dataloader=loader,
            train_cfg={"type": "IterBasedTrainLoop", "max_iters": steps, "val_interval": steps + 1},
            optim_wrapper=OptimWrapper(AdamW(model.decode_head.parameters(), **recipe.OPTIMIZER)),
            param_scheduler=recipe.schedule(steps),
            default_hooks={
                "logger": {"type": "LoggerHook", "log_metric_by_epoch": False},
                "checkpoint": saving,
                "sampler_seed": None,
            },
            custom_hooks=[PlainCheckpointHook(), _FeedAndReport(bar)],
            load_from=None if last is None else str(last),
            resume=last is not None,
            log_level=engine.log_level(),
            randomness={"seed": seed % 2**32},
            default_scope="mmseg",
            experiment_name=uuid4().hex,  # Runners of one name share their message hub
        ).train()
    model.eval()


class _FeedAndReport(Hook):
    """Unpacks what the loader read, raising its errors here, and moves the bar."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        for sample in data_batch["samples"]:
            if sample.error is not None:
                raise sample.error
        data_batch["inputs"] = [sample.packed["inputs"] for sample in data_batch["samples"]]
        data_batch["data_samples"] = [sample.packed["data_samples"] for sample in data_batch.pop("samples")]

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.bar.advance(1, loss=float(outputs["loss"].detach()), lr=runner.optim_wrapper.get_lr()["lr"][0])


def _unchanged(samples: Sequence[Sample]) -> dict[str, Sequence[Sample]]:
    return {"samples": samples}


def _last_checkpoint(state: Path) -> Path | None:
    """The newest checkpoint that is whole. mmengine writes them, and its note of the last one, in place."""
    paths = {int(path.stem.removeprefix("iter_")): path for path in state.glob("iter_*.pth")}
    for iteration in sorted(paths, reverse=True):
        with suppress(UserError):
            read_checkpoint(paths[iteration])
            return paths[iteration]
    return None
