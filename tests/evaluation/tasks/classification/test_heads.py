"""eval-class: heads of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_classification
from rtok.heads import probe
from tests.evaluation.tasks.classification.helpers import HEADS, config, features, load, save_tokens, without_own_heads
from tests.evaluation.tasks.results import per_image, rows_of


def test_fitted_heads_learn_and_are_reused(settings: dict[str, Any], tmp_path: Path) -> None:
    cfg = config(settings, threats=["transfer"])
    results = evaluate_classification(cfg)
    (plain,) = rows_of(results, victim="plain")
    (robust,) = rows_of(results, victim="robust", head_features="robust")
    assert plain["clean_accuracy"] > 0.75 and robust["clean_accuracy"] > 0.75
    files = {name: str(cfg.out / "heads" / f"{name}.safetensors") for name in ("plain", "robust")}
    again = evaluate_classification(
        config(settings, threats=["transfer"], head={"path": files}, out=tmp_path / "again")
    )
    assert again["rows"] == without_own_heads(results)
    assert not (tmp_path / "again" / "heads").exists()


def test_a_fitted_head_is_the_probe_of_the_train_split(settings: dict[str, Any]) -> None:
    cfg = config(settings, threats=["transfer"], head={"type": "fit", "l2": [0.1]})
    evaluate_classification(cfg)
    backbone = load(settings["model"])
    tokens = RobustnessTokens.load(Path(settings["tokens"])).values
    train = open_source(cfg.data.model_copy(update={"split": "train"}), seed=0)
    (batch,) = evaluation_batches(train, Transform("squash", (28, 28)), batch_size=36, seed=0)
    assert batch.labels is not None
    for name, r in (("plain", None), ("robust", tokens)):
        inputs = features(backbone, batch.images, r)
        expected = probe.fit_probe(inputs, batch.labels, torch.arange(36) % 5 == 0, 3, [0.1]).head.on(inputs)
        saved = load_file(cfg.out / "heads" / f"{name}.safetensors")
        found = inputs @ saved["weight"].T + saved["bias"]
        torch.testing.assert_close(found.softmax(1), expected.softmax(1), rtol=0, atol=2e-3)


def test_every_token_file_gets_its_own_head(settings: dict[str, Any], tmp_path: Path) -> None:
    tokens = [settings["tokens"], save_tokens(tmp_path / "other.safetensors", 2, seed=7)]
    cfg = config(settings, tokens=tokens, threats=["transfer"])
    results = evaluate_classification(cfg)
    names = sorted(path.stem for path in (cfg.out / "heads").iterdir())
    controls = [f"control-{twin}-{draw}" for twin in (1, 2) for draw in (0, 1)]
    assert names == [*controls, "plain", "robust-1", "robust-2"]
    files = {"plain": str(cfg.out / "heads/plain.safetensors")}
    files["robust"] = [str(cfg.out / f"heads/robust-{i}.safetensors") for i in (1, 2)]  # type: ignore[assignment]
    again = config(settings, tokens=tokens, threats=["transfer"], head={"path": files}, out=tmp_path / "again")
    assert evaluate_classification(again)["rows"] == without_own_heads(results)
    with pytest.raises(UserError, match="names 1 heads for 2 token files"):
        files["robust"] = files["robust"][0]
        evaluate_classification(config(settings, tokens=tokens, head={"path": files}, out=tmp_path / "no"))
    assert not (tmp_path / "no").exists()


def test_best_is_chosen_on_the_split(settings: dict[str, Any], tmp_path: Path) -> None:
    """Of three classifiers in a model_final.pth one was fitted; without accuracies on file it must be found."""
    cfg = config(settings, threats=["transfer"])
    fitted = evaluate_classification(cfg)
    good = load_file(cfg.out / "heads/plain.safetensors")
    generator = torch.Generator().manual_seed(0)
    candidates = {
        "classifier_1_blocks_avgpool_False_lr_0_1": (torch.randn(3, 64, generator=generator), torch.zeros(3)),
        "classifier_1_blocks_avgpool_True_lr_0_1": (good["weight"], good["bias"]),
        "classifier_4_blocks_avgpool_True_lr_0_1": (torch.randn(3, 320, generator=generator), torch.zeros(3)),
    }
    model = {}
    for name, (weight, bias) in candidates.items():
        model[f"classifiers_dict.{name}.linear.weight"] = weight
        model[f"classifiers_dict.{name}.linear.bias"] = bias
    torch.save({"model": model}, tmp_path / "model_final.pth")
    head = {"path": str(tmp_path / "model_final.pth"), "classifier": "best"}
    found = evaluate_classification(config(settings, threats=["transfer"], head=head, out=tmp_path / "best"))
    assert rows_of(found, victim="plain") == rows_of(fitted, victim="plain")
    saved = load_file(tmp_path / "best" / "heads/plain.safetensors")
    assert torch.equal(saved["weight"], good["weight"])


def test_another_surrogate_has_a_head_of_its_own(settings: dict[str, Any], tmp_path: Path) -> None:
    state = load_file(settings["model"]["weights"])
    state["cls_token"][..., ::2] += 1  # not a constant, which LayerNorm would take out
    save_file(state, tmp_path / "other.safetensors")
    surrogate = {"model": {**settings["model"], "weights": str(tmp_path / "other.safetensors")}}
    cfg = config(settings, surrogate=surrogate, threats=["transfer"])
    results = evaluate_classification(cfg)
    assert sorted(path.stem for path in (cfg.out / "heads").iterdir()) == [*HEADS, "surrogate"]
    with_file = {**surrogate, "head": str(cfg.out / "heads/surrogate.safetensors")}
    again = config(settings, surrogate=with_file, threats=["transfer"], out=tmp_path / "again")
    assert evaluate_classification(again)["rows"] == results["rows"]
    assert per_image(again.out) == per_image(cfg.out)
    generator = torch.Generator().manual_seed(0)
    head = {"weight": torch.randn(3, 128, generator=generator), "bias": torch.zeros(3)}
    torch.save(head, tmp_path / "other.pth")
    with_other = {**surrogate, "head": str(tmp_path / "other.pth")}
    other = config(settings, surrogate=with_other, threats=["transfer"], out=tmp_path / "other")
    evaluate_classification(other)
    assert per_image(other.out) != per_image(cfg.out)
