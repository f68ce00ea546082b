"""Fitting heads: DINOv2's recipe, resumed exactly, and the same as in the files for the official tools."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.config.sections import DataConfig
from rtok.console import Progress
from rtok.data.decoding import DecodeError
from rtok.data.folder_seg import open_folder_seg
from rtok.data.framing import Framing
from rtok.data.masks import MaskedFiles
from rtok.data.transforms import floats
from rtok.heads.segmentation import recipe
from rtok.heads.segmentation.fit import fit_head
from rtok.heads.segmentation.models import build_head, build_segmenter
from rtok.heads.segmentation.samples import TrainingSamples
from tests.masked import defended


@pytest.fixture
def training(masked_set: Path) -> MaskedFiles:
    return open_folder_seg(DataConfig(name="folder-seg", root=masked_set, split="train"))


@pytest.fixture
def fit(
    tiny: Callable, training: MaskedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Tensor]]:
    """Fit a head for six steps on tiny features, and return its weights."""
    backbone = tiny("dinov2_vits14").load(image_size=28)

    def run(name: str, *, stop_after: int | None = None, **changes: Any) -> dict[str, Tensor]:
        head = build_head(64, 1, 3)
        model = build_segmenter(defended(backbone, changes.pop("tokens", None)), head, (1,), 25, 17)
        options = {
            "steps": 6,
            "batch_size": 2,
            "short_side": 36,
            "window": 25,
            "seed": 0,
            "workers": 0,
            "on_error": "stop",
        }
        before = backbone.fingerprint()
        advance = Progress.advance

        def cut(self: Progress, amount: int = 1, **metrics: Any) -> None:
            advance(self, amount, **metrics)
            if self.done == stop_after:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Progress, "advance", cut)
            source = changes.pop("source", training)
            fit_head(model, source, **{**options, "state": tmp_path / name, **changes})
        assert backbone.fingerprint() == before and not model.training
        return {key: value.clone() for key, value in head.state_dict().items()}

    return run


def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(fit: Callable, tmp_path: Path) -> None:
    whole = fit("whole")
    with pytest.raises(KeyboardInterrupt):
        fit("cut", stop_after=4)
    assert (tmp_path / "cut" / "last_checkpoint").read_text().endswith("iter_3.pth")
    moved = tmp_path / "moved"
    (tmp_path / "cut").rename(moved)
    resumed = fit("moved")
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    assert int(whole["bn.num_batches_tracked"]) == 6
    checkpoint = torch.load(moved / "iter_6.pth", weights_only=True)
    assert all(key.startswith("decode_head.") for key in checkpoint["state_dict"])


def test_a_fit_depends_on_its_seed_and_on_the_tokens(fit: Callable) -> None:
    first, again = fit("a"), fit("b")
    assert all(torch.equal(first[key], again[key]) for key in first)
    for name, changes in (("c", {"seed": 1}), ("d", {"tokens": torch.randn(1, 3, 64)})):
        other = fit(name, **changes)
        assert not torch.equal(first["conv_seg.weight"], other["conv_seg.weight"])


def test_a_fit_learns(fit: Callable, training: MaskedFiles, tiny: Callable) -> None:
    """More iterations of the recipe lower the loss on whole training pictures."""
    backbone = tiny("dinov2_vits14").load(image_size=28)
    framing = Framing("slide", 36, 25, seed=0)

    def loss(weights: dict[str, Tensor]) -> float:
        head = build_head(64, 1, 3)
        head.load_state_dict(weights)
        model = build_segmenter(backbone, head, (1,), 25, 17)
        losses = []
        for i, key in enumerate(training.keys):
            labels = framing.mask(training.read_mask(i), key)[None]
            with torch.no_grad():
                logits = model.logits(floats(framing(training.read(i), 0)[None]))
            losses.append(float(F.cross_entropy(logits, labels, ignore_index=255)))
        return sum(losses) / len(losses)

    assert loss(fit("long", steps=80, batch_size=4)) < loss(fit("short", steps=8, batch_size=4)) - 0.05


def test_an_image_that_cannot_be_decoded(fit: Callable, training: MaskedFiles, tmp_path: Path) -> None:
    shutil.copytree(training.root, tmp_path / "set")
    source = replace(training, root=tmp_path / "set")
    (tmp_path / "set" / source.keys[1]).write_bytes(b"broken")
    with pytest.raises(DecodeError, match=r"p1\.png"):
        fit("stops", source=source)
    fit("skips", source=source, on_error="skip")


def test_samples_are_a_function_of_their_position(training: MaskedFiles) -> None:
    transforms = recipe.augmentation(36, 25, (0.5, 0.4, 0.3))

    def packed(position: int, **options: Any) -> Any:
        return TrainingSamples(training, transforms, seed=0, length=12, **options)[position].packed

    sample = packed(5)
    assert sample["inputs"].shape == (3, 25, 25) and sample["data_samples"].gt_sem_seg.data.shape == (1, 25, 25)
    assert torch.equal(sample["inputs"], packed(5, start=5)["inputs"])
    assert packed(4, start=5) is None
    assert not torch.equal(sample["inputs"], packed(8)["inputs"])  # the same picture's next visit
    visits = [
        {tuple(packed(visit * 3 + i)["data_samples"].metainfo["ori_shape"]) for i in range(3)} for visit in (0, 1)
    ]
    assert visits[0] == visits[1] == {training.read_mask(i).shape for i in range(3)}


def test_small_pictures_are_filled_up_with_the_mean_and_ignored_labels(training: MaskedFiles) -> None:
    samples = TrainingSamples(training, recipe.augmentation(12, 30, (0.5, 0.4, 0.3)), seed=0, length=40)
    for position in range(40):
        packed = samples[position].packed
        assert packed is not None
        image, labels = packed["inputs"], packed["data_samples"].gt_sem_seg.data[0]
        if int((labels == 255).sum()) > 450:
            corner = image[:, -1, -1].tolist()  # BGR
            assert corner == [round(255 * 0.3), round(255 * 0.4), round(255 * 0.5)]
            return
    pytest.fail("no picture was smaller than the crop")


def test_the_schedule_is_dinov2s() -> None:
    rise, fall = recipe.schedule(40_000)
    assert (rise["end"], fall["begin"], fall["end"]) == (1500, 1500, 40_000)
    assert recipe.schedule(10) == [{**fall, "begin": 0, "end": 10}]


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    from rtok.heads.segmentation.fit import _last_checkpoint

    assert _last_checkpoint(tmp_path) is None
    for iteration in (5, 10, 15):
        torch.save({"state_dict": {"decode_head.conv_seg.bias": torch.zeros(3)}}, tmp_path / f"iter_{iteration}.pth")
    (tmp_path / "iter_15.pth").write_bytes((tmp_path / "iter_15.pth").read_bytes()[:-100])
    (tmp_path / "last_checkpoint").write_text("")  # as a kill between opening and writing leaves it
    assert _last_checkpoint(tmp_path) == tmp_path / "iter_10.pth"
