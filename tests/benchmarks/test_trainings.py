"""The table of trainings compares ways image by image, over their seeds, and times what each run did."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from benchmarks.ours import save_random
from benchmarks.trainings import compared, main, measured, side_by_side

SECONDS = {"attack": [1.0, 3.0, 2.0], "step": [4.0, 6.0, 5.0]}


def write_eval(
    folder: Path, adaptive: dict[str, list[float]], victim: str = "robust", threat: str = "adaptive"
) -> None:
    """An evaluation of three images, two of them of one photo, by the names of the defenses' runs."""
    folder.mkdir(parents=True)
    with (folder / "per_image.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "group", "victim", "threat", "defense", "fidelity", "cosine_to_plain"])
        for run, values in adaptive.items():
            for number, value in enumerate(values):
                defense = f"results/{run}/lora.safetensors"
                rows.writerow([f"{number}.png", f"photo {number // 2}", victim, threat, defense, 0.9, value])


def test_seeds_are_side_by_side_and_differences_paired(tmp_path: Path) -> None:
    write_eval(tmp_path / "eval-0", {"pgd-3-seed-0": [0.1, 0.2, 0.6], "pgd-30-seed-0": [0.2, 0.3, 0.7]})
    write_eval(tmp_path / "eval-1", {"pgd-30-seed-1": [0.4, 0.5, 0.9], "pgd-3-seed-1": [0.3, 0.4, 0.8]})
    write_eval(tmp_path / "eval-2", {"pgd-3-seed-2": [1.0, 1.0, 1.0]}, threat="transfer")
    write_eval(tmp_path / "eval-3", {"": [1.0, 1.0, 1.0]}, victim="plain")
    assert set(measured(tmp_path, "transfer")[1]["pgd-3"]) == {"2"}
    groups, ways = measured(tmp_path, "adaptive")
    assert groups == ["photo 0", "photo 0", "photo 1"]
    assert side_by_side(ways, "pgd-3", ["0", "1"])[1].tolist() == [[0.1, 0.3], [0.2, 0.4], [0.6, 0.8]]
    low, high = compared(groups, ways, {"pgd-3": SECONDS, "pgd-30": SECONDS}, ["pgd-30"])
    assert (low["way"], low["seeds"], low["images"]) == ("pgd-3", ["0", "1"], 3)
    assert low["left"] == pytest.approx(0.4) and low["fidelity"] == pytest.approx(0.9)
    assert low["seed_means"] == pytest.approx([0.3, 0.5])
    assert low["minus pgd-30"] == pytest.approx(-0.1) and "minus pgd-30" not in high
    begin, end = low["minus pgd-30 ci95"]
    assert begin < -0.1 < end
    del ways["pgd-30"]["1"]  # then only the seed that both have is compared
    alone, _ = compared(groups, ways, {"pgd-3": SECONDS, "pgd-30": SECONDS}, ["pgd-30"])
    assert alone["minus pgd-30"] == pytest.approx(-0.1) and alone["left"] == pytest.approx(0.4)


def test_the_whole_benchmark(forgotten: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = "timm:test_vit"
    save_random(model, tmp_path / "vit.safetensors")
    attacks = {"pgd-2": {"steps": 2, "quantize": "none"}, "n-fgsm": {"method": "n-fgsm", "quantize": "none"}}
    for way, attack in attacks.items():
        run = tmp_path / "runs" / f"{way}-seed-0"
        run.mkdir(parents=True)
        config = {
            "model": {"name": model, "weights": str(tmp_path / "vit.safetensors"), "image_size": 32},
            "data": {"name": "photos"},
            "attack": attack,
            "train": {"steps": 2, "batch_size": 2, "threat": "adaptive"},
            "precision": {"pgd-2": "fp32", "n-fgsm": "auto"}[way],
            "out": str(run),
        }
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    write_eval(tmp_path / "runs" / "eval-0", {"pgd-2-seed-0": [0.5, 0.5, 0.6], "n-fgsm-seed-0": [0.2, 0.3, 0.4]})
    out = tmp_path / "table.json"
    main([str(tmp_path / "runs"), "--turns", "1", "--compare", "pgd-2", "--out", str(out)])
    rows = {row["way"]: row for row in json.loads(out.read_text())["rows"]}
    assert set(rows) == set(attacks)
    assert all(row["attack_seconds"][0] > 0 and len(row["step_seconds"]) == 1 for row in rows.values())
    assert rows["n-fgsm"]["minus pgd-2"] == pytest.approx(-0.7 / 3)
    printed = capsys.readouterr().out
    assert "| `n-fgsm` |" in printed and "-0.233 [" in printed
