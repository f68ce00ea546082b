"""eval-features and adversarial sets: numbers against independent references, and runs that can be cut anywhere."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional as F

from rtok.attacks import PGD, Context, FeatureCriterion, FixedSurrogate, Objective, craft
from rtok.attacks.stored import file_name, load_image
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_features, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.models import load_backbone

FILES = ["config.yaml", "examples", "features.png", "per_image.csv", "results.json", "run.json", "summary.png"]
Rows = list[dict[str, Any]]


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Tokens large enough to change the features; eval does not care that nobody trained them."""
    path = tmp_path / "tokens.safetensors"
    drawn = RobustnessTokens.draw(3, 384, std=0.5, backbone="dinov2_vits14", image_size=(28, 28))
    drawn.save(path)
    return path


def config(settings: dict[str, Any], token_file: Path | None, **changes: Any) -> Config:
    base = {**settings, "batch_size": 4, "control_draws": 2}
    if token_file is not None:
        base["tokens"] = str(token_file)
    return Config.model_validate({**base, **changes})


def rows_of(results: dict[str, Any], **wanted: Any) -> Rows:
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def per_image(out: Path) -> list[dict[str, str]]:
    with (out / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def test_numbers_equal_a_direct_computation(settings: dict[str, Any], token_file: Path) -> None:
    cfg = config(settings, token_file, threats=["transfer"])
    results = evaluate_features(cfg)
    backbone = load_backbone("dinov2_vits14", weights=cfg.model.weights, image_size=28)
    source = open_source(cfg.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=7, seed=0)
    plain = backbone(batch.images)
    pgd = PGD(eps=8 / 255, step=1e-2, steps=3, units="normalized", init="gaussian", mse_weight=1.0, quantize="floor")
    objective = Objective(FixedSurrogate(backbone), FeatureCriterion(plain, "token"))
    adversarial = craft(pgd, batch.images, objective, Context(batch.keys, std=backbone.std)).images
    r = RobustnessTokens.load(token_file).values
    clean_r, adversarial_r = backbone(batch.images, r), backbone(adversarial, r)

    def cos(a: torch.Tensor, b: torch.Tensor, dim: int) -> float:
        return float(F.cosine_similarity(a, b, dim=dim).mean())

    expected = {
        "fidelity": cos(clean_r, plain, -1),
        "cosine": cos(adversarial_r, clean_r, -1),
        "cosine_to_plain": cos(adversarial_r, plain, -1),
        "fidelity_token": cos(clean_r, plain, 1),
        "cosine_token": cos(adversarial_r, clean_r, 1),
        "cosine_to_plain_token": cos(adversarial_r, plain, 1),
        "cosine_cls": cos(adversarial_r[:, 0], clean_r[:, 0], -1),
        "cosine_cls_to_plain": cos(adversarial_r[:, 0], plain[:, 0], -1),
        "mse": float((adversarial_r - clean_r).square().mean()),
        "image_linf_255": float((adversarial - batch.images).abs().amax((1, 2, 3)).mean()) * 255,
    }
    (row,) = rows_of(results, victim="robust")
    for name, value in expected.items():
        # Batches of 4 and 7 may differ in the last bits of a sign step: hence not 1e-6.
        assert row[name] == pytest.approx(value, abs=2e-3), name
    for name in ("cosine_to_plain", "cosine_cls_to_plain"):
        assert row["ci95"][name][0] < row[name] < row["ci95"][name][1]
    (row,) = rows_of(results, victim="plain")
    assert row["fidelity"] == pytest.approx(1, abs=1e-6) and row["ci95"]["fidelity"] is None  # by definition
    assert row["cosine_to_plain"] == row["cosine"] == pytest.approx(cos(backbone(adversarial), plain, -1), abs=2e-3)


def test_rows_and_files(settings: dict[str, Any], token_file: Path) -> None:
    cfg = config(settings, token_file)
    results = evaluate_features(cfg)
    assert sorted(path.name for path in cfg.out.iterdir()) == FILES
    assert json.loads((cfg.out / "results.json").read_text()) == results
    assert [(row["threat"], row["victim"]) for row in results["rows"]] == [
        ("transfer", "plain"),
        ("transfer", "random"),
        ("transfer", "robust"),
        ("informed", "random"),
        ("informed", "robust"),
        ("adaptive", "random"),
        ("adaptive", "robust"),
    ]
    robust = rows_of(results, victim="robust")[0]
    about = {"attack": "paper, steps 3", "norm": "linf", "units": "normalized", "steps": 3, "restarts": 1, "n": 3}
    assert {key: robust[key] for key in about} == about and robust["defense"] == str(token_file)
    assert robust["kind"] == "tokens"
    assert robust["eps"] == pytest.approx(8 / 255)
    assert {row["draws"] for row in rows_of(results, victim="random")} == {2}
    # 7 images x (plain, under three threats two draws and robust)
    assert len(per_image(cfg.out)) == 7 * (1 + 3 * 3)


def test_adaptive_is_the_worse_of_its_two_targets(
    settings: dict[str, Any], token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    from rtok.evaluation.tasks.features import FeatureTask

    measure = FeatureTask.measure

    def spy(self: FeatureTask, view: Any) -> dict[str, torch.Tensor]:
        columns = measure(self, view)
        seen.append(columns)
        return columns

    monkeypatch.setattr(FeatureTask, "measure", spy)
    cfg = config(settings, token_file, threats=["adaptive"], batch_size=7)
    evaluate_features(cfg)
    away_from_plain, away_from_victim, transferred = (columns["cosine_to_plain"] for columns in seen[-3:])
    assert not torch.allclose(away_from_plain, away_from_victim)  # the control came first
    rows = [row for row in per_image(cfg.out) if row["victim"] == "robust"]
    alone = torch.tensor([float(row["cosine_to_plain_alone"]) for row in rows])
    torch.testing.assert_close(alone, torch.minimum(away_from_plain, away_from_victim))
    found = torch.tensor([float(row["cosine_to_plain"]) for row in rows])
    torch.testing.assert_close(found, torch.minimum(alone, transferred))


def test_the_control_is_the_mean_over_its_draws(settings: dict[str, Any], token_file: Path) -> None:
    cfg = config(settings, token_file, threats=["transfer"], control_draws=3)
    results = evaluate_features(cfg)
    rows = [row for row in per_image(cfg.out) if row["victim"] == "random"]
    means = [sum(float(row["cosine_to_plain"]) for row in rows if row["draw"] == str(draw)) / 7 for draw in range(3)]
    assert len({round(mean, 6) for mean in means}) == 3
    assert rows_of(results, victim="random")[0]["cosine_to_plain"] == pytest.approx(sum(means) / 3, abs=1e-9)


def test_rows_do_not_depend_on_the_batch(settings: dict[str, Any], token_file: Path, tmp_path: Path) -> None:
    for size in (1, 7):
        evaluate_features(config(settings, token_file, batch_size=size, out=tmp_path / str(size)))
    _assert_same_rows(tmp_path / "1", tmp_path / "7")


def test_an_interrupted_evaluation_resumes_to_the_same_files(
    settings: dict[str, Any], token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_features(config(settings, token_file, out=tmp_path / "whole", batch_size=2))
    cut = config(settings, token_file, out=tmp_path / "cut", batch_size=2)
    evaluate = Evaluator.evaluate
    calls = {"n": 0}

    def interrupted(self: Evaluator, batch: Any) -> Any:
        calls["n"] += 1
        if calls["n"] == 3:
            raise KeyboardInterrupt
        return evaluate(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "evaluate", interrupted)
        evaluate_features(cut)
    with (cut.out / "state" / "images.jsonl").open("a") as file:
        file.write('{"image": "torn')  # a line that a kill cut off
    calls["n"] = 10
    evaluate_features(cut, resume=True)
    for name in ("per_image.csv", "results.json"):
        assert (cut.out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in cut.out.iterdir()) == FILES


def test_two_processes_give_the_rows_of_one(
    settings: dict[str, Any],
    token_file: Path,
    tmp_path: Path,
    run_rtok: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    settings |= {"tokens": str(token_file), "batch_size": 4, "control_draws": 2}
    file = tmp_path / "eval.yaml"
    file.write_text(yaml.safe_dump(settings))
    evaluate_features(Config.model_validate({**settings, "out": tmp_path / "one"}))
    done = run_rtok("eval-features", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == FILES
    _assert_same_rows(tmp_path / "one", tmp_path / "two")


def test_an_adversarial_set_is_made_once_and_evaluated_often(
    settings: dict[str, Any], token_file: Path, tmp_path: Path
) -> None:
    made = make_adversarial_set(config(settings, None, out=tmp_path / "set"))
    names = sorted(path.name for path in (tmp_path / "set").iterdir())
    assert names == ["attack.json", "examples", "examples.png", "images", "manifest.csv"]
    assert made.images == 7 and made.max_linf_255 <= 3
    crafted = evaluate_features(config(settings, token_file, threats=["transfer"], out=tmp_path / "crafted"))
    stored = evaluate_features(
        config(settings, token_file, attack={"from": str(tmp_path / "set")}, out=tmp_path / "stored")
    )
    assert stored["rows"] == crafted["rows"]


def test_a_set_for_something_else_is_refused(settings: dict[str, Any], token_file: Path, tmp_path: Path) -> None:
    make_adversarial_set(config(settings, None, out=tmp_path / "set"))
    stored = {"attack": {"from": str(tmp_path / "set")}, "out": str(tmp_path / "eval")}

    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(UserError, match=message):
            evaluate_features(config(settings, token_file, **{**stored, **changes}))
        assert not (tmp_path / "eval").exists()

    refused("made at 28 x 28 px", model={**settings["model"], "image_size": 42})
    refused("weights", model={**settings["model"], **_other_weights(settings, tmp_path)})
    other = tmp_path / "others"
    other.mkdir()
    (other / "new.png").write_bytes((Path(settings["data"]["root"]) / "picture0.png").read_bytes())
    refused("made for other images", data={**settings["data"], "root": str(other)})
    refused("holds no finished adversarial set", attack={"from": str(tmp_path)})


def test_a_set_from_other_pixels_is_refused(settings: dict[str, Any], token_file: Path, tmp_path: Path) -> None:
    make_adversarial_set(config(settings, None, out=tmp_path / "set"))
    data = {**settings["data"], "resize": "crop"}
    with pytest.raises(UserError, match=r"another data\.resize"):
        evaluate_features(config(settings, token_file, attack={"from": str(tmp_path / "set")}, data=data))


def test_stored_images_are_the_crafted_ones(settings: dict[str, Any], tmp_path: Path) -> None:
    cfg = config(settings, None, out=tmp_path / "set")
    make_adversarial_set(cfg)
    manifest = list(csv.DictReader((tmp_path / "set" / "manifest.csv").open()))
    assert [row["image"] for row in manifest] == [f"picture{i}.png" for i in range(7)]
    for row in manifest:
        image = load_image(tmp_path / "set" / row["file"])
        assert row["file"] == f"images/{file_name(row['image'])}"
        assert float(row["linf_255"]) > 0 and image.shape == (3, 28, 28)


def test_another_surrogate_is_possible(settings: dict[str, Any], token_file: Path, tmp_path: Path) -> None:
    surrogate = {"tokens": str(token_file)}
    results = evaluate_features(config(settings, token_file, threats=["transfer"], surrogate=surrogate))
    assert results["rows"][0]["surrogate"] == f"dinov2_vits14 + {token_file}"


def test_a_surrogate_with_tokens_is_pulled_away_from_its_own_features_if_asked(
    settings: dict[str, Any], token_file: Path, tmp_path: Path
) -> None:
    """What the attacked model with tokens keeps of its own clean features, by the target of the attack."""
    kept = {}
    for target in ("plain", "victim"):
        changes = {
            "surrogate": {"tokens": str(token_file)},
            "attack": {"preset": "standard", "steps": 3, "target": target},
        }
        results = evaluate_features(
            config(settings, token_file, threats=["transfer"], out=tmp_path / target, **changes)
        )
        kept[target] = rows_of(results, victim="robust")[0]["cosine"]
    assert kept["victim"] < kept["plain"] - 1e-3


def test_attacks_may_be_a_list(settings: dict[str, Any], token_file: Path) -> None:
    attacks = [{"preset": "paper", "steps": 2, "quantize": "round"}, {"preset": "standard", "steps": 2}]
    results = evaluate_features(config(settings, token_file, threats=["transfer"], attack=attacks))
    assert [row["units"] for row in results["rows"]] == ["normalized"] * 3 + ["pixel"] * 3


def test_skipped_files_are_counted(settings: dict[str, Any], token_file: Path, tmp_path: Path, pictures: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in pictures.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    data = {**settings["data"], "root": str(folder)}
    with pytest.raises(UserError, match=r"broken\.png"):
        evaluate_features(config(settings, token_file, threats=["transfer"], data=data, out=tmp_path / "stop"))
    data["on_error"] = "skip"
    results = evaluate_features(config(settings, token_file, threats=["transfer"], data=data))
    assert results["images"] == 7 and results["skipped"] == 1
    record = json.loads((Path(settings["out"]) / "run.json").read_text())
    assert record["skipped"] == ["broken.png"]


def _other_weights(settings: dict[str, Any], tmp_path: Path) -> dict[str, str]:
    from safetensors.torch import load_file, save_file

    state = load_file(settings["model"]["weights"])
    state["cls_token"] += 1
    save_file(state, tmp_path / "other.safetensors")
    return {"weights": str(tmp_path / "other.safetensors")}


def _assert_same_rows(one: Path, two: Path) -> None:
    first, second = per_image(one), per_image(two)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            if key in (
                "cosine",
                "cosine_to_plain",
                "cosine_to_plain_alone",
                "mse",
                "cosine_cls",
                "cosine_cls_to_plain",
                "cosine_token",
                "cosine_to_plain_token",
            ):
                assert float(b[key]) == pytest.approx(float(value), abs=1e-3), (a["image"], key)
            elif key in ("fidelity", "fidelity_token", "image_linf_255"):
                assert float(b[key]) == pytest.approx(float(value), abs=1e-5), (a["image"], key)
            else:
                assert b[key] == value


def test_an_adversarial_image_does_not_depend_on_batch_or_processes(
    settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file = tmp_path / "attack.yaml"
    file.write_text(yaml.safe_dump({**settings, "batch_size": 3}))
    for size in (1, 7):
        make_adversarial_set(config(settings, None, batch_size=size, out=tmp_path / str(size)))
    done = run_rtok("attack", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    for i in range(7):
        name = f"images/{file_name(f'picture{i}.png')}"
        alone = load_image(tmp_path / "1" / name)
        assert torch.equal(load_image(tmp_path / "7" / name), alone)
        assert torch.equal(load_image(tmp_path / "two" / name), alone)
    assert (tmp_path / "two" / "manifest.csv").read_text() == (tmp_path / "1" / "manifest.csv").read_text()


def test_an_interrupted_set_resumes_to_the_same_files(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adversarial_set(config(settings, None, batch_size=2, out=tmp_path / "whole"))
    cut = config(settings, None, batch_size=2, out=tmp_path / "cut")
    craft = Evaluator.craft
    calls = {"n": 0}

    def interrupted(self: Evaluator, *arguments: Any) -> torch.Tensor:
        calls["n"] += 1
        if calls["n"] == 3:
            raise KeyboardInterrupt
        return craft(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "craft", interrupted)
        make_adversarial_set(cut)
    with pytest.raises(UserError, match="holds no finished adversarial set"):
        evaluate_features(config(settings, None, attack={"from": str(cut.out)}, tokens=_any_tokens(tmp_path)))
    calls["n"] = 10
    make_adversarial_set(cut, resume=True)
    assert (cut.out / "manifest.csv").read_bytes() == (tmp_path / "whole" / "manifest.csv").read_bytes()
    for path in (tmp_path / "whole" / "images").iterdir():
        assert (cut.out / "images" / path.name).read_bytes() == path.read_bytes()
    assert sorted(p.name for p in cut.out.iterdir()) == [
        "attack.json",
        "examples",
        "examples.png",
        "images",
        "manifest.csv",
    ]


def _any_tokens(tmp_path: Path) -> str:
    path = tmp_path / "any.safetensors"
    RobustnessTokens.draw(2, 384, backbone="dinov2_vits14", image_size=(28, 28)).save(path)
    return str(path)
