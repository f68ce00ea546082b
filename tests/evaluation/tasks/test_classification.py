"""eval-class: numbers against a direct computation, heads of every kind, and runs that can be cut anywhere."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from rtok.attacks import PGD, Context, FixedSurrogate, LabelCriterion, Objective, craft
from rtok.attacks.square import Square
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_classification, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.heads import probe, store
from rtok.models import Backbone, load_backbone, registry
from rtok.statistics import share_interval

HEADS = ["control-1-0", "control-1-1", "plain", "robust"]
FILES = ["config.yaml", "examples", "examples.png", "heads", "per_image.csv", "results.json", "run.json", "summary.png"]
ATTACK = {"preset": "standard", "eps": "12/255", "steps": 3}
AUTO = {"preset": "autoattack", "eps": "12/255", "quantize": "round", "version": "custom", "attacks": ["apgd-ce"]}
COLOURS = {"blue": (60, 70, 160), "green": (70, 150, 80), "red": (150, 70, 70)}


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and test pictures of three classes that differ by their colour, with much noise on top."""
    root = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                coarse = np.clip(random.normal(colour, 45, (4, 4, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return root


@pytest.fixture
def model(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A four-block ViT of width 64 that goes by the name of DINOv2's smallest."""
    small = tiny("dinov2_vits14", depth=4)
    monkeypatch.setitem(registry._BY_NAME, "dinov2_vits14", small.spec)
    return {"name": "dinov2_vits14", "weights": str(small.path), "image_size": 28}


def save_tokens(path: Path, count: int = 3, dim: int = 64, seed: int = 0) -> str:
    """Tokens large enough to change the features; eval does not care that nobody trained them."""
    RobustnessTokens.draw(count, dim, std=0.5, seed=seed, backbone="dinov2_vits14").save(path)
    return str(path)


def load(model: dict[str, Any]) -> Backbone:
    return load_backbone(model["name"], weights=model["weights"], image_size=28)


@pytest.fixture
def head_files(tmp_path: Path, model: dict[str, Any], labelled: Path) -> dict[str, str]:
    """Heads that name the nearest class mean of the test pictures' plain or robust features: good, not perfect."""
    files = sorted(labelled.glob("test/*/*.png"))
    pixels = np.stack([np.array(Image.open(file).resize((28, 28), Image.Resampling.BILINEAR)) for file in files])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    tokens = RobustnessTokens.load(Path(save_tokens(tmp_path / "tokens.safetensors"))).values
    paths = {}
    for name, r in (("plain", None), ("robust", tokens)):
        means = features(load(model), images, r).unflatten(0, (3, 3)).mean(1)
        torch.save({"weight": means, "bias": -means.square().sum(1) / 2}, tmp_path / f"{name}.pth")
        paths[name] = str(tmp_path / f"{name}.pth")
    return paths


@pytest.fixture
def settings(model: dict[str, Any], labelled: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "model": model,
        "data": {"name": "folder", "root": str(labelled), "split": "test", "workers": 0},
        "tokens": save_tokens(tmp_path / "tokens.safetensors"),
        "attack": ATTACK,
        "head": {"type": "fit"},
        "batch_size": 4,
        "control_draws": 2,
        "sanity": {"images": 0},
        "out": str(tmp_path / "run"),
    }


def config(settings: dict[str, Any], **changes: Any) -> Config:
    return Config.model_validate({**settings, **changes})


def rows_of(results: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def without_own_heads(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows without those of controls with a head of their own, which files of heads do not hold."""
    return [row for row in results["rows"] if (row["victim"], row["head_features"]) != ("random", "robust")]


def per_image(out: Path) -> list[dict[str, str]]:
    with (out / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def features(backbone: Any, images: Tensor, tokens: Tensor | None = None) -> Tensor:
    found = backbone(images, tokens)
    return torch.cat([found[:, 0], found[:, 1:].mean(1)], 1)


def test_attacks_are_checked_and_victims_compared(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    settings |= {"sanity": {"images": 3, "queries": 30}, "attack": {**ATTACK, "steps": 20}}
    cfg = config(settings, head={"path": head_files}, threats=["transfer", "adaptive"])
    results = evaluate_classification(cfg)
    checks = results["sanity"]["checks"]
    assert results["sanity"]["verdict"] == "sound", [check for check in checks if not check["passed"]]
    # three of the plain model, and five of the robust victim with each of its heads
    who = [(check["victim"], check["head_features"]) for check in checks]
    assert who == [("plain", "plain")] * 3 + [("robust", "plain")] * 5 + [("robust", "robust")] * 5
    transfer = {row["victim"]: row for row in rows_of(results, threat="transfer", head_features="plain")}
    compared = results["differences"][:2]
    for row, baseline in zip(compared, ("random", "plain"), strict=True):
        assert (row["baseline_victim"], row["head_features"]) == (baseline, "plain")
        for name in ("clean_accuracy", "adversarial_accuracy"):
            gain = transfer["robust"][name] - transfer[baseline][name]
            assert row[name] == pytest.approx(gain, abs=1e-9)
            low, high = row["ci95"][name]
            assert low <= row[name] <= high


def test_queries_use_the_margin_of_the_logits(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    settings |= {"query": {"queries": [60], "starts": ["cold"]}, "threats": ["query"], "batch_size": 9}
    idle = {"preset": "standard", "eps": "40/255", "init": "none", "step": 1e-9}  # so that transfer finds nothing
    cfg = config(settings, head={"path": head_files}, attack=idle)
    results = evaluate_classification(cfg)
    rows = rows_of(results, threat="query")
    told = [(row["victim"], row["head_features"]) for row in rows]
    assert told == [("random", "plain"), ("robust", "plain"), ("robust", "robust")]
    assert all(row["adversarial_accuracy"] <= row["clean_accuracy"] for row in rows)
    backbone, source = load(settings["model"]), open_source(cfg.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=9, seed=0)
    tokens = RobustnessTokens.load(Path(settings["tokens"])).values
    head = torch.load(head_files["plain"], weights_only=True)

    def model(x: Tensor) -> Tensor:
        return features(backbone, x, tokens) @ head["weight"].T + head["bias"]

    assert batch.labels is not None
    criterion = LabelCriterion(batch.labels, ignore_index=-100, loss="margin")
    search = Square(eps=40 / 255, queries=60)
    found = craft(search, batch.images, Objective(FixedSurrogate(model), criterion), Context(batch.keys)).images
    public = [row for row in per_image(cfg.out) if (row["victim"], row["head_features"]) == ("robust", "plain")]
    sure = torch.tensor([float(row["adversarial_confidence"]) for row in public])
    own = torch.tensor([row["worst_from"] == "query" for row in public])  # rather than what transfer found
    expected = model(found).softmax(1).amax(1)
    assert own.any()
    torch.testing.assert_close(sure[own], expected[own], atol=1e-3, rtol=0)
    assert (expected < model(batch.images).softmax(1).amax(1) - 0.01).any()


def test_numbers_equal_a_direct_computation(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    cfg = config(settings, threats=["transfer", "adaptive"], head={"path": head_files}, batch_size=9)
    results = evaluate_classification(cfg)
    backbone = load(settings["model"])
    source = open_source(cfg.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=9, seed=0)
    tokens = RobustnessTokens.load(Path(settings["tokens"])).values
    files = {name: torch.load(path, weights_only=True) for name, path in head_files.items()}

    def model(head: str, r: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        return lambda x: features(backbone, x, r) @ files[head]["weight"].T + files[head]["bias"]

    def attacked(surrogate: Callable[[Tensor], Tensor]) -> Tensor:
        objective = Objective(FixedSurrogate(surrogate), LabelCriterion(batch.labels, ignore_index=-100))
        return craft(PGD(eps=12 / 255, steps=3), batch.images, objective, Context(batch.keys)).images

    victims = {("plain", "plain"): model("plain")}
    victims |= {("robust", head): model(head, tokens) for head in files}
    transfer = attacked(model("plain"))
    right = model("plain")(batch.images).argmax(1) == batch.labels
    fooled = right & (model("plain")(transfer).argmax(1) != batch.labels)
    for (victim, head), predict in victims.items():
        for threat, adversarial in (("transfer", transfer), ("adaptive", attacked(predict))):
            if (threat, victim) == ("adaptive", "plain"):
                continue
            (row,) = rows_of(results, victim=victim, head_features=head, threat=threat)
            clean, after = predict(batch.images).argmax(1), predict(adversarial).argmax(1)
            assert row["clean_accuracy"] == pytest.approx(float((clean == batch.labels).float().mean()))
            assert row["adversarial_accuracy"] == pytest.approx(float((after == batch.labels).float().mean()))
            assert row["flipped"] == pytest.approx(float((clean != after).float().mean()))
            assert row["ci95"]["flipped"] == pytest.approx(share_interval((clean != after).float(), range(9)))
            if threat == "transfer":
                assert row["surrogate_success"] == pytest.approx(float(fooled.sum() / right.sum()))
                on_success = (after == batch.labels)[fooled]
                assert row["accuracy_on_success"] == pytest.approx(float(on_success.float().mean()))
    assert 0 < fooled.sum() < 9  # else the last column would not have been tested
    rows = [row for row in per_image(cfg.out) if row["victim"] == "robust" and row["threat"] == "transfer"]
    for head in files:
        found = [row for row in rows if row["head_features"] == head]
        for name, images in (("clean", batch.images), ("adversarial", transfer)):
            confidence, prediction = model(head, tokens)(images).softmax(1).max(1)
            assert [int(row[f"{name}_prediction"]) for row in found] == prediction.tolist()
            assert [float(row[f"{name}_confidence"]) for row in found] == pytest.approx(confidence.tolist(), abs=1e-4)
        assert [int(row["label"]) for row in found] == batch.labels.tolist()


def test_whether_an_attack_on_hidden_features_fooled_its_surrogate_is_told_by_the_output(
    settings: dict[str, Any],
) -> None:
    """The surrogate is a victim too, whose predictions are in the per-image file."""
    hidden = {**ATTACK, "layer": 0.5}
    results = evaluate_classification(config(settings, attack=hidden, threats=["transfer", "adaptive"]))
    for threat in ("transfer", "adaptive"):
        (row,) = rows_of(results, threat=threat, victim="robust", head_features="plain")
        rows = [
            row
            for row in per_image(Path(settings["out"]))
            if row["threat"] == threat
            and row["victim"] == ("plain" if threat == "transfer" else "robust")
            and row["head_features"] == "plain"
        ]
        right = [row for row in rows if row["clean_prediction"] == row["label"]]
        fooled = sum(row["adversarial_prediction"] != row["label"] for row in right)
        assert len(right) > 0 and row["surrogate_success"] == pytest.approx(fooled / len(right))


def test_rows_and_files(settings: dict[str, Any]) -> None:
    attacks = [ATTACK, {"preset": "paper", "steps": 2, "quantize": "round"}]
    cfg = config(settings, attack=attacks)
    results = evaluate_classification(cfg)
    assert sorted(path.name for path in cfg.out.iterdir()) == FILES
    assert sorted(path.stem for path in (cfg.out / "heads").iterdir()) == HEADS
    assert json.loads((cfg.out / "results.json").read_text()) == results
    both = [(victim, head) for victim in ("random", "robust") for head in ("plain", "robust")]
    expected = [("transfer", "plain", "plain")]
    expected += [(threat, *who) for threat in ("transfer", "informed", "adaptive") for who in both]
    found = [(row["threat"], row["victim"], row["head_features"]) for row in results["rows"]]
    assert found == expected * 2
    assert results["command"] == "eval-class" and results["images"] == 9
    informed, adaptive = (rows_of(results, threat=threat, victim="robust")[1] for threat in ("informed", "adaptive"))
    assert informed["surrogate_success"] is None and informed["ci95"]["accuracy_on_success"] is None
    assert adaptive["surrogate_success"] is not None
    # 9 images x 2 attacks x (plain, under three threats two heads of two draws and of the robust victim)
    assert len(per_image(cfg.out)) == 9 * 2 * (1 + 3 * 2 * 3)


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


def test_class_255_is_a_class() -> None:
    """255 marks pixels without label in segmentation; as a class index it must be attacked like any other."""
    from rtok.config.attack_methods import PGDConfig
    from rtok.evaluation.tasks.classification import ClassificationTask

    task = ClassificationTask(
        SimpleNamespace(split=None, settings=SimpleNamespace(robust_victims=(), control_victims=()))
    )  # type: ignore[arg-type]
    batch = type("Batch", (), {"labels": torch.tensor([255])})
    criterion = task.criterion(PGDConfig(), batch, torch.zeros(1, 1000))  # type: ignore[arg-type]
    assert criterion(torch.zeros(1, 1000), slice(0, 1)).item() == pytest.approx(np.log(1000))


def test_the_control_is_the_mean_over_its_draws(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    cfg = config(settings, threats=["transfer"], control_draws=3, head={"path": head_files})
    results = evaluate_classification(cfg)
    rows = [row for row in per_image(cfg.out) if row["victim"] == "random"]
    hits = [float(row["clean_correct"]) for row in rows]
    (row,) = rows_of(results, victim="random")
    assert len(hits) == 27 and row["clean_accuracy"] == pytest.approx(sum(hits) / 27)
    by_image = np.array(hits).reshape(9, 3)
    assert row["ci95"]["clean_accuracy"] == pytest.approx(share_interval(by_image, range(9)))


def test_rows_do_not_depend_on_the_batch(settings: dict[str, Any], tmp_path: Path) -> None:
    data = {**settings["data"], "limit": 3}
    settings |= {"attack": [ATTACK, AUTO], "threats": ["transfer"], "data": data}
    for size in (1, 3):
        evaluate_classification(config(settings, batch_size=size, out=tmp_path / str(size)))
    assert_same_rows(tmp_path / "1", tmp_path / "3")


def test_two_processes_give_the_rows_of_one(
    settings: dict[str, Any],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_rtok: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    monkeypatch.undo()  # processes of their own know the real model only
    settings["model"]["weights"] = str(weights)
    settings |= {"threats": ["transfer"], "tokens": save_tokens(tmp_path / "wide.safetensors", dim=384)}
    file = tmp_path / "eval.yaml"
    file.write_text(yaml.safe_dump(settings))
    evaluate_classification(config(settings, out=tmp_path / "one"))
    done = run_rtok("eval-class", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == FILES
    assert_same_rows(tmp_path / "one", tmp_path / "two")


def test_an_interrupted_evaluation_resumes_to_the_same_files(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_classification(config(settings, out=tmp_path / "whole", batch_size=3))
    cut = config(settings, out=tmp_path / "cut", batch_size=3)
    evaluate, calls = Evaluator.evaluate, []

    def interrupted(self: Evaluator, batch: Any) -> Any:
        calls.append(batch.keys)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self, batch)

    monkeypatch.setattr(Evaluator, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_classification(cut)
    monkeypatch.setattr("rtok.heads.classifiers.fit_probe", None)  # the heads are there: nothing is fitted again
    evaluate_classification(cut, resume=True)
    assert [len(keys) for keys in calls] == [3, 3, 3, 3] and calls[1] == calls[2]
    for name in ("per_image.csv", "results.json"):
        assert (cut.out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in cut.out.iterdir()) == FILES


def test_a_run_killed_while_fitting_resumes(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_classification(config(settings, out=tmp_path / "whole"))
    cut = config(settings, out=tmp_path / "cut")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("rtok.heads.classifiers.fit_probe", killed)
        evaluate_classification(cut)
    assert sorted(path.stem for path in (cut.out / "state").glob("*.npy")) == [f"features-{name}" for name in HEADS]
    evaluate_classification(cut, resume=True)
    assert (cut.out / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()


def test_an_adversarial_set_on_labels(settings: dict[str, Any], tmp_path: Path) -> None:
    made = make_adversarial_set(config(settings, tokens=None, out=tmp_path / "set"))
    assert made.images == 9
    about = json.loads((tmp_path / "set" / "attack.json").read_text())
    assert about["objective"] == "labels"
    names = sorted(path.name for path in (tmp_path / "set").iterdir())
    assert names == ["attack.json", "examples", "examples.png", "heads", "images", "manifest.csv"]
    crafted = evaluate_classification(config(settings, threats=["transfer"], out=tmp_path / "crafted"))
    attack = {"from": str(tmp_path / "set")}
    stored = evaluate_classification(config(settings, attack=attack, out=tmp_path / "stored"))
    assert stored["rows"] == crafted["rows"]
    other = {"type": "fit", "l2": [0.5]}  # through another head nobody knows whether the surrogate was fooled
    unknown = evaluate_classification(config(settings, attack=attack, head=other, out=tmp_path / "other"))
    assert {row["surrogate_success"] for row in unknown["rows"]} == {None}


def test_an_adversarial_set_on_features(settings: dict[str, Any], tmp_path: Path) -> None:
    make_adversarial_set(config(settings, tokens=None, head=None, out=tmp_path / "set"))
    attack = {"from": str(tmp_path / "set")}
    results = evaluate_classification(config(settings, attack=attack, out=tmp_path / "stored"))
    assert {row["attack"] for row in results["rows"]} == {"standard, eps 0.0470588, steps 3 on features"}


def test_autoattack(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    cfg = config(settings, attack=AUTO, head={"path": head_files}, threats=["transfer"])
    results = evaluate_classification(cfg)
    (plain,) = rows_of(results, victim="plain")
    assert (plain["steps"], plain["restarts"], plain["eps"]) == (None, None, pytest.approx(12 / 255))
    assert plain["surrogate_success"] > 0.5 and plain["image_linf_255"] <= 12 + 1e-4
    assert plain["accuracy_on_success"] == 0
    ((attack, caution),) = results["cautions"].items()
    assert attack == plain["attack"] and "autoattack is no transfer attack" in caution
    too_few = {"preset": "autoattack", "version": "custom", "attacks": ["apgd-t"]}
    with pytest.raises(UserError, match="apgd-t needs at least 4 classes, and the head has 3"):
        evaluate_classification(config(settings, attack=too_few, head={"path": head_files}, out="not-there"))
    assert not Path("not-there").exists()


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": None}, "head: is missing"),
        ({"tokens": None}, "defense: is missing"),
        ({"head": {"type": "backbone"}}, "dinov2_vits14 has no classifier on its class token"),
        ({"head": {"type": "fit", "split": "val"}}, "has no folder 'val'"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    cfg = config(settings, **changes)
    with pytest.raises(UserError, match=message):
        evaluate_classification(cfg)
    assert not cfg.out.exists()


def test_heads_that_do_not_fit_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    def refused(message: str, **content: Tensor) -> None:
        torch.save(content, tmp_path / "head.pth")
        cfg = config(settings, head={"path": str(tmp_path / "head.pth")})
        with pytest.raises(UserError, match=message):
            evaluate_classification(cfg)
        assert not cfg.out.exists()

    refused("1000 classes, but the data has 3", weight=torch.zeros(1000, 128), bias=torch.zeros(1000))
    refused("width 100, but dinov2_vits14 gives 64 or 128", weight=torch.zeros(3, 100), bias=torch.zeros(3))
    refused("is a head without a bias", weight=torch.zeros(3, 128))


def test_data_that_cannot_be_classified(settings: dict[str, Any], labelled: Path, pictures: Path) -> None:
    def refused(message: str, **data: Any) -> None:
        cfg = config(settings, data={"name": "folder", "split": "test", "workers": 0, **data})
        with pytest.raises(UserError, match=message):
            evaluate_classification(cfg)
        assert not cfg.out.exists()

    refused("folder has no classes here", root=str(pictures))
    refused("9 images of train are also in test", root=str(labelled / "test"))  # no split folders: all one part


def test_splits_must_have_the_same_classes(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_any = store.open_source

    def with_other_names(data: Any, *, seed: int) -> Any:
        return dataclasses.replace(open_any(data, seed=seed), class_names=["blue", "green", "violet"])

    monkeypatch.setattr(store, "open_source", with_other_names)
    with pytest.raises(UserError, match="both need the same class folders"):
        evaluate_classification(config(settings))


def assert_same_rows(one: Path, two: Path) -> None:
    first, second = per_image(one), per_image(two)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            if key.endswith("confidence"):
                assert float(b[key]) == pytest.approx(float(value), abs=2e-3), (a["image"], key)
            else:
                assert b[key] == value, (a["image"], key)


def test_a_control_with_its_own_head_equals_a_direct_computation(settings: dict[str, Any], tmp_path: Path) -> None:
    """Digits: each draw's probe by scikit-learn, attacks by hand, and the table and differences that follow."""
    eps, std, l2 = 4 / 255, 0.5, 0.1
    tokens = RobustnessTokens.draw(3, 64, std=std, backbone="dinov2_vits14", config={"defense": {"init_std": std}})
    tokens.save(tmp_path / "tokens.safetensors")
    attack = {"eps": eps, "steps": 2, "init": "none", "quantize": "none"}
    data = {"name": "digits", "split": "test", "limit": 30, "workers": 0}
    head = {"type": "fit", "limit": 80, "l2": [l2]}
    changes = {"data": data, "attack": attack, "head": head, "threats": ["transfer", "adaptive"], "batch_size": 30}
    cfg = config(settings, **changes)
    results = evaluate_classification(cfg)
    backbone = load(settings["model"])

    def pictures(**part: Any) -> tuple[Tensor, Tensor]:
        source = open_source(cfg.data.model_copy(update=part), seed=0)
        (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=80, seed=0)
        assert batch.labels is not None
        return batch.images, batch.labels

    (fitted_on, targets), (images, labels) = pictures(split="train", limit=80), pictures()

    def victim(r: Tensor | None, head_on: Tensor | None) -> Callable[[Tensor], Tensor]:
        inputs = features(backbone, fitted_on, head_on).double().numpy()
        mean, scale = inputs.mean(0), inputs.std(0)
        probe = LogisticRegression(C=1 / (80 * l2), tol=1e-8, max_iter=10_000).fit((inputs - mean) / scale, targets)
        weight = torch.tensor(probe.coef_ / scale, dtype=torch.float32)
        bias = torch.tensor(probe.intercept_ - probe.coef_ @ (mean / scale), dtype=torch.float32)
        return lambda x: features(backbone, x, r) @ weight.T + bias

    def attacked(model: Callable[[Tensor], Tensor]) -> Tensor:
        x = images.clone()
        for _ in range(2):
            x.requires_grad_(True)
            loss = torch.nn.functional.cross_entropy(model(x), labels, reduction="sum")
            moved = x.detach() + eps / 4 * torch.autograd.grad(loss, x)[0].sign()
            x = (images + (moved - images).clamp(-eps, eps)).clamp(0, 1)
        return x

    def accuracy(model: Callable[[Tensor], Tensor], *tried: Tensor) -> float:
        """Of the worst of several attacks for each image."""
        right = torch.stack([model(x).argmax(1) == labels for x in tried])
        return float(right.all(0).float().mean())

    draws = [RobustnessTokens.draw(3, 64, "control", draw, std=std).values for draw in (0, 1)]
    transfer = attacked(victim(None, None))
    found: dict[tuple[str, str, str], float] = {}
    for name, members in (("random", draws), ("robust", [tokens.values])):
        for own in (False, True):
            models = [victim(r, r if own else None) for r in members]
            who = (name, "robust" if own else "plain")
            clean, moved, adaptive = (
                np.mean([accuracy(model, images) for model in models]),
                np.mean([accuracy(model, transfer) for model in models]),
                np.mean([accuracy(model, attacked(model), transfer) for model in models]),
            )
            for threat, expected in (("transfer", moved), ("adaptive", adaptive)):
                (row,) = rows_of(results, victim=name, head_features=who[1], threat=threat)
                # one image of 30 may lie on a border
                assert row["clean_accuracy"] == pytest.approx(clean, abs=0.034), (who, threat)
                assert row["adversarial_accuracy"] == pytest.approx(expected, abs=0.034), (who, threat)
                found[(*who, threat)] = row["adversarial_accuracy"]
    gains = [row for row in results["differences"] if row["baseline_victim"] == "random"]
    assert len(gains) == 4
    for row in gains:
        own, threat = row["head_features"], row["threat"]
        expected = found["robust", own, threat] - found["random", own, threat]
        assert row["adversarial_accuracy"] == pytest.approx(expected, abs=1e-9)
    assert len({round(value, 2) for value in found.values()}) > 4  # the cases differ, or they would test little


def test_a_copy_is_fitted_to_the_scores_through_the_public_head(
    settings: dict[str, Any], head_files: dict[str, str]
) -> None:
    """Also where the victim's own head is private: the copy goes through the head that the attacker has."""
    asking = {"queries_per_image": 1, "steps": 30}
    cfg = config(settings, head={"path": head_files}, threats=["extracted"], extracted=asking, control_draws=1)
    results = evaluate_classification(cfg)
    told = [(row["victim"], row["head_features"], row["queries"], row["start"]) for row in results["rows"]]
    own = [("random", "plain"), ("robust", "plain"), ("robust", "robust")]
    assert told == [(*who, 1, "each image") for who in own]
    backbone = load(settings["model"])
    (batch,) = evaluation_batches(open_source(cfg.data, seed=0), Transform("squash", (28, 28)), batch_size=9, seed=0)
    victim = RobustnessTokens.load(Path(settings["tokens"]))
    heads = {name: torch.load(path, weights_only=True) for name, path in head_files.items()}

    def scores(r: Tensor, head: str) -> Tensor:
        return (features(backbone, batch.images, r) @ heads[head]["weight"].T + heads[head]["bias"]).log_softmax(1)

    for number, head in ((2, "plain"), (3, "robust")):
        copy = RobustnessTokens.load(cfg.out / "extracted" / f"{number}-robust.safetensors").values
        answer = scores(victim.values, head)
        far, near = (
            float((answer.exp() * (answer - scores(r, "plain"))).sum(1).mean())
            for r in (victim.untrained(backbone, 0, "extracted").values, copy)
        )
        assert near < 0.7 * far, head
