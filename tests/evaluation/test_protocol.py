"""A protocol from its name to the leaderboard, on a tiny model."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.config import load_config
from rtok.errors import UserError
from rtok.evaluation import evaluate_features
from rtok.evaluation.protocol import entry_names
from rtok.files import sha256_of
from rtok.reporting.report.blocks import Paragraph
from rtok.reporting.report.entries import read_entries
from rtok.reporting.report.leaderboard import leaderboard
from rtok.statistics import mean_interval


@pytest.fixture
def given(small: dict[str, Any]) -> list[str]:
    """What a user of the protocol gives, and what keeps it small."""
    model, data = small["model"], small["data"]
    return [
        *(f"model.{key}={model[key]}" for key in ("name", "weights", "image_size")),
        *("data.name=folder", f"data.root={data['root']}", "data.workers=0"),
        *("attack=[{eps: 1/255, steps: 1}, {eps: 8/255, steps: 2}]", "threats=[transfer, adaptive]"),
        *("control_draws=1", "sanity.images=0"),
    ]


def follow(given: list[str], out: Path, *changes: str) -> Path:
    evaluate_features(load_config("eval-features", "protocol-v1", [*given, *changes], out))
    return out


def test_from_the_protocol_to_the_leaderboard(
    given: list[str], small: dict[str, Any], make_tokens: Callable[[str, int], str], tmp_path: Path
) -> None:
    files = [small["tokens"], make_tokens("other", 1)]
    run = follow(given, tmp_path / "run", f"defense=[{', '.join(files)}]")
    parent = Path(files[0]).parent.name
    results = json.loads((run / "results.json").read_text())
    entries = [json.loads((run / f"protocol-v1-{parent}-{name}.json").read_text()) for name in ("tokens", "other")]
    assert len(list(run.glob("protocol-*.json"))) == 2

    for entry, file in zip(entries, files, strict=True):
        assert (entry["protocol"], entry["name"]) == ("protocol-v1", f"{parent}/{Path(file).stem}")
        about = {"kind": "tokens", "sha256": sha256_of(Path(file)), "parameters": 3 * 64}
        assert {key: entry["defense"][key] for key in about} == about
        assert entry["deviations"]["model.image_size"] == 28 and entry["deviations"]["control_draws"] == 1
        assert entry["fixed"]["model.image_size"] == 224 and "data.root" not in entry["fixed"]
        assert entry["data"]["images"].startswith("7 images, ")
        assert entry["versions"]["rtok"] and entry["versions"]["torch"]
        assert entry["rows"] == [row for row in results["rows"] if row["defense"] in (None, file)]
        # a score: each image's mean over the two attacks, then the mean over the images
        with (run / "per_image.csv").open() as table:
            mine = [row for row in csv.DictReader(table) if row["defense"] == file and row["threat"] == "adaptive"]
        assert len(mine) == 2 * 7
        values = [
            fmean(float(row["cosine_to_plain"]) for row in mine if row["image"] == image)
            for image in dict.fromkeys(row["image"] for row in mine)
        ]
        (score,) = [r for r in entry["scores"] if (r["threat"], r["victim"]) == ("adaptive", "robust")]
        assert score["cosine_to_plain"] == pytest.approx(fmean(values))
        assert score["ci95"]["cosine_to_plain"] == pytest.approx(mean_interval(values, range(7)))
        gained = [r for r in entry["differences"] if r["baseline_victim"] == "random" and r["threat"] == "transfer"]
        (control,) = [r for r in entry["scores"] if r["victim"] == "random" and r["threat"] == "transfer"]
        (robust,) = [r for r in entry["scores"] if (r["victim"], r["threat"]) == ("robust", "transfer")]
        difference = robust["cosine_to_plain"] - control["cosine_to_plain"]
        assert gained[0]["cosine_to_plain"] == pytest.approx(difference)

    out = tmp_path / "board"
    said = CliRunner().invoke(build(), ["report", "--leaderboard", str(run), "--out", str(out)])
    assert said.exit_code == 0 and said.output.startswith("leaderboard of 2 defenses: ")
    text = (out / "report.md").read_text()
    assert text.startswith("# Leaderboard: protocol-v1")
    ranked = sorted(entries, key=lambda e: -min(r["cosine_to_plain"] for r in e["scores"] if r["victim"] == "robust"))
    places = [text.index(f"| {entry['name']}\\* | 192 |") for entry in ranked]
    assert places == sorted(places)
    assert "Deviates from the protocol" in text and "control_draws = 1" in text
    assert "attack = [{method: pgd, norm: linf, eps: 1/255, units: pixel, " in text
    assert "**The attacks were not checked" in text and "| defense | transfer | adaptive |" in text
    assert all(f"## What {what}" in text for what in ("training gained", "a defense is worth"))
    assert f"{min(r['cosine_to_plain'] for r in ranked[0]['scores'] if r['victim'] == 'robust'):.3f}" in text
    assert "<h1>Leaderboard: protocol-v1</h1>" in (out / "report.html").read_text()


def test_entries_of_other_images_or_protocols_are_refused_by_name(
    given: list[str], small: dict[str, Any], tmp_path: Path
) -> None:
    quick = [f"defense={small['tokens']}", "attack=[{eps: 1/255, steps: 1}]", "threats=[transfer]"]
    run = follow(given, tmp_path / "run", *quick)
    fewer = follow(given, tmp_path / "fewer", *quick, "data.limit=3")
    with pytest.raises(UserError, match=r"run/protocol-v1-.*7 images.*fewer/protocol-v1-.*3 images.*the same images"):
        read_entries([run, fewer])
    (entry,) = fewer.glob("protocol-*.json")
    content = json.loads((run / entry.name).read_text())
    entry.write_text(json.dumps({**content, "protocol": "protocol-v2"}))
    with pytest.raises(UserError, match=r"run/protocol-v1-.* follows protocol-v1.* follows protocol-v2"):
        read_entries([run, fewer])
    # conforming entries first, however low their score
    entry.write_text(json.dumps({**content, "name": "low", "deviations": {}, "scores": lowered(content["scores"])}))
    assert [(one.name, bool(one.content["deviations"])) for one in read_entries([run, fewer])] == [
        ("low", False),
        (content["name"], True),
    ]
    for damage in ({"scores": []}, {"scores": "x"}, {"defense": {}}):
        entry.write_text(json.dumps({**content, **damage}))
        with pytest.raises(UserError, match=f"fewer/{entry.name}"):
            read_entries([run, fewer])
    with pytest.raises(UserError, match="holds no entry of a protocol"):
        read_entries([tmp_path])


def test_what_an_entry_should_not_be_relied_on_for_stands_above_its_numbers(
    given: list[str], small: dict[str, Any], tmp_path: Path
) -> None:
    quick = [f"defense={small['tokens']}", "attack=[{eps: 1/255, steps: 1}]", "threats=[transfer]"]
    run = follow(given, tmp_path / "run", *quick)
    (file,) = run.glob("protocol-*.json")
    content = json.loads(file.read_text())
    assert content["defense"]["seeds"].keys() == {"training", "start"}
    seen = [{**row, "seen_in_training": 2} if row["victim"] == "robust" else row for row in content["scores"]]
    for changes, alarms in (
        ({"sanity": "sound", "deviations": {}}, []),
        ({"sanity": "suspicious"}, ["* Deviates", "The checks call the attacks suspicious"]),
        ({"scores": seen, "deviations": {}}, ["The attacks were not checked", "NOT HELD OUT: 2 images"]),
    ):
        file.write_text(json.dumps({**content, **changes}))
        found = [b.text for b in leaderboard(read_entries([run])) if isinstance(b, Paragraph) and b.alarm]
        assert len(found) == len(alarms)
        assert all(text.startswith(alarm) for text, alarm in zip(found, alarms, strict=True)), found


def lowered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "cosine_to_plain": row["cosine_to_plain"] - 0.5} for row in rows]


def test_entries_are_named_by_run_and_file() -> None:
    assert entry_names(["a/b/rtokens.safetensors", "a/c/rtokens.safetensors"]) == {
        "a/b/rtokens.safetensors": "b/rtokens",
        "a/c/rtokens.safetensors": "c/rtokens",
    }
    same = ["a/x/t.safetensors", "b/x/t.safetensors"]
    assert entry_names(same) == {file: file for file in same}
