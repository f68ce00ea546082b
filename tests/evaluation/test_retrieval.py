"""Retrieval against a computation of its own, for any batch, process count, limit and resumption."""

from __future__ import annotations

import csv
import pickle
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from rtok.attacks.stored import file_name, load_image
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.evaluation import evaluate_features, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.retrieval import Gallery, descriptors
from rtok.models import load_backbone
from rtok.setup import Setup


def neighbors(gallery: np.ndarray, queries: np.ndarray, k: int) -> list[set[int]]:
    """Per row i of `queries` the k rows of `gallery` but i with the largest cosine."""
    length = np.linalg.norm
    similarity = (queries @ gallery.T) / np.outer(length(queries, axis=1), length(gallery, axis=1))
    return [set([j for j in np.argsort(-row) if j != i][:k]) for i, row in enumerate(similarity)]


def overlap(plain: np.ndarray, found: np.ndarray, k: int) -> list[float]:
    pairs = zip(neighbors(plain, plain, k), neighbors(plain, found, k), strict=True)
    return [len(own & other) / k for own, other in pairs]


def per_image(out: Path, column: str, victim: str) -> dict[str, float]:
    with (out / "per_image.csv").open() as file:
        return {row["image"]: float(row[column]) for row in csv.DictReader(file) if row["victim"] == victim}


@pytest.mark.parametrize("kind", ["tokens", "embedding"])
@pytest.mark.parametrize("count", [3, 7, 14])
def test_retrieval_is_the_share_of_the_own_neighbors(kind: str, count: int) -> None:
    random = np.random.default_rng(count)
    plain, moved = random.normal(size=(2, count, 3 if kind == "tokens" else 1, 8))
    plain, moved = plain + 0.1, plain + 0.8 * moved
    k = {3: 1, 7: 3, 14: 5}[count]
    expected = overlap(plain[:, 0], moved[:, 0], k)
    assert count == 3 or 0 < sum(expected) < count

    features, found = (torch.from_numpy(x if kind == "tokens" else x[:, 0]).float() for x in (plain, moved))
    vectors = torch.nn.functional.normalize(torch.from_numpy(plain[:, 0]).float(), dim=-1)
    gallery = Gallery([f"{i}.png" for i in range(count)], vectors)
    assert gallery.k == k and gallery.chance == pytest.approx(k / (count - 1))
    chosen = [2, 0, 1] if count == 3 else [4, 1, 6]
    keys = [gallery.keys[i] for i in chosen]
    torch.testing.assert_close(
        gallery.retrieval(keys, features[chosen], found[chosen]), torch.tensor([expected[i] for i in chosen])
    )
    assert gallery.retrieval(keys, features[chosen], features[chosen]).tolist() == [1.0] * 3


def test_copies_of_an_image_are_found_in_the_order_of_the_data() -> None:
    """Ten images, six of them copies: which copies are among the four nearest does not change with the last bits."""
    vectors = torch.eye(10, dtype=torch.float64)
    vectors[5:] = vectors[4]
    last_bits = 1 + 1e-13 * torch.arange(10, dtype=torch.float64)  # the last copy would be the nearest
    gallery = Gallery([str(i) for i in range(10)], vectors * last_bits[:, None])
    (nearest,) = gallery._nearest(["4"], vectors[4:5])
    assert sorted(nearest.tolist()) == [5, 6, 7, 8]
    noisy = vectors[4:5] + 1e-12 * torch.randn(1, 10, dtype=torch.float64)
    assert gallery.retrieval(["4"], vectors[4:5], noisy).tolist() == [1.0]


@dataclass
class Pictures:
    """Some of 64 images, as a source and as a batch."""

    keys: list[str]
    images: torch.Tensor

    def __len__(self) -> int:
        return len(self.keys)

    def on(self, device: torch.device) -> torch.Tensor:
        return self.images.to(device)


def test_what_a_process_sends_of_its_gallery_is_no_larger_than_the_vectors() -> None:
    sent: list[bytes] = []

    def gather(found: list[Any]) -> list[Any]:
        sent.append(pickle.dumps(found))
        return found

    images = torch.rand(64, 256, generator=torch.Generator().manual_seed(0))
    pictures = Pictures([str(i) for i in range(64)], images)
    batches = [Pictures(pictures.keys[part], images[part].clone()) for part in (slice(32, 64), slice(32))]
    compute = SimpleNamespace(is_main=False, device=torch.device("cpu"), processes=1, gather=gather)
    setup = SimpleNamespace(compute=compute, source=pictures, batches=lambda: batches, backbone=lambda batch: batch)
    gallery = Gallery.of(cast(Setup, setup))
    assert gallery.keys == pictures.keys and torch.equal(gallery.vectors, descriptors(images))
    assert len(sent[0]) < 1.1 * images.numel() * images.element_size()


def test_two_images_have_no_neighbors(small: dict[str, Any]) -> None:
    changes = {"data": {**small["data"], "limit": 2}, "threats": ["transfer"], "control_draws": 1}
    results = evaluate_features(Config.model_validate({**small, **changes}))
    for row in results["rows"]:
        assert row["retrieval"] is None and row["retrieval_clean"] is None and row["retrieval_chance"] is None
        assert row["ci95"]["retrieval"] is None


def test_the_rows_equal_a_computation_from_the_images(small: dict[str, Any], tmp_path: Path) -> None:
    """Also with a limit: the six chosen images are the gallery."""
    cfg = Config.model_validate(
        {**small, "data": {**small["data"], "limit": 6}, "threats": ["transfer"], "control_draws": 1}
    )
    adversarial_set = tmp_path / "set"
    make_adversarial_set(cfg.model_copy(update={"out": adversarial_set}))
    stored = Config.model_validate(
        {**small, "data": {**small["data"], "limit": 6}, "attack": {"from": adversarial_set}}
    )
    results = evaluate_features(stored)

    backbone = load_backbone("dinov2_vits14", weights=cfg.model.weights, image_size=28)
    source = open_source(cfg.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=6, seed=0)
    attacked = torch.stack([load_image(adversarial_set / "images" / file_name(key)) for key in batch.keys])
    tokens = RobustnessTokens.load(Path(small["tokens"])).values
    with torch.no_grad():
        plain = backbone(batch.images)[:, 0].numpy()
        outputs = {
            "plain": (backbone(attacked), backbone(batch.images)),
            "robust": (backbone(attacked, tokens), backbone(batch.images, tokens)),
        }
    for victim, (moved, clean) in outputs.items():
        (row,) = [row for row in results["rows"] if row["victim"] == victim]
        for column, features in (("retrieval", moved), ("retrieval_clean", clean)):
            expected = overlap(plain, features[:, 0].numpy(), k=2)
            assert per_image(stored.out, column, victim) == pytest.approx(dict(zip(batch.keys, expected, strict=True)))
            assert row[column] == pytest.approx(np.mean(expected))
        low, high = row["ci95"]["retrieval"]
        assert low <= row["retrieval"] <= high
        assert row["retrieval_chance"] == pytest.approx(2 / 5)
    assert {row["retrieval_clean"] for row in results["rows"] if row["victim"] == "plain"} == {1.0}


def test_batches_and_a_resumption_change_nothing(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do processes: `test_features` compares all rows of one and two."""

    def run(name: str, **changes: Any) -> Config:
        options = {"threats": ["transfer"], "control_draws": 1, **changes}
        return Config.model_validate({**small, **options, "out": tmp_path / name})

    whole = run("whole", batch_size=1)
    evaluate_features(whole)
    cut = run("cut", batch_size=3)
    evaluate, calls = Evaluator.evaluate, {"n": 0}

    def interrupted(self: Evaluator, batch: Any) -> Any:
        calls["n"] += 1
        if calls["n"] == 2:
            raise KeyboardInterrupt
        return evaluate(self, batch)

    monkeypatch.setattr(Evaluator, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_features(cut)
    evaluate_features(cut, resume=True)
    for victim in ("plain", "random", "robust"):
        assert per_image(cut.out, "retrieval", victim) == per_image(whole.out, "retrieval", victim)
    assert len(set(per_image(whole.out, "retrieval", "robust").values())) > 1
