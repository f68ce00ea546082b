"""The table of the adaptive trainings, from files like those that the runs write."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_adaptive", ROOT / "scripts/demo_adaptive.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(victim: str, threat: str, value: float, tokens: str | None = None, **more: Any) -> dict[str, Any]:
    about = {"victim": victim, "threat": threat, "defense": tokens and f"results/x/{tokens}/rtokens.safetensors"}
    interval = {"cosine_to_plain": [value - 0.1, value + 0.1]}
    return {**about, "cosine_to_plain": value, "fidelity": 0.9, "ci95": interval, **more}


def test_a_line_a_training_and_their_paired_differences(script: ModuleType, tmp_path: Path) -> None:
    trained, measured = ("transfer", "adaptive", "mixed"), ("transfer", "adaptive")
    for i, name in enumerate(trained):
        (tmp_path / name).mkdir()
        lines = [json.dumps({"seconds": seconds}) for seconds in (9.0, 1.0 + i, 1.0 + i)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines))
    values = {(a, b): 0.5 + 0.1 * i + 0.01 * j for i, a in enumerate(trained) for j, b in enumerate(measured)}
    rows = [row("plain", "transfer", 0.4), row("random", "transfer", 0.45)]
    rows += [row("robust", threat, value, name) for (name, threat), value in values.items()]
    differences = [
        row("robust", threat, value - 0.5, name, baseline_victim=other)
        for (name, threat), value in values.items()
        for other in ("plain", "robust")
        if name != "transfer" or other == "plain"
    ]
    (tmp_path / "eval-features").mkdir()
    results = json.dumps({"rows": rows, "differences": differences})
    (tmp_path / "eval-features" / "results.json").write_text(results)
    assert script.table(tmp_path) == (
        "| trained against | s a step | fidelity | cosine to plain, transfer | cosine to plain, adaptive |\n"
        "| :--- | ---: | ---: | ---: | ---: |\n"
        "| (no tokens) |  | 0.900 | 0.400 ± 0.100 |  |\n"
        "| (untrained tokens) |  | 0.900 | 0.450 ± 0.100 |  |\n"
        "| transfer | 1.00 | 0.900 | 0.500 ± 0.100 | 0.510 ± 0.100 |\n"
        "| adaptive | 2.00 | 0.900 | 0.600 ± 0.100 | 0.610 ± 0.100 |\n"
        "| mixed | 3.00 | 0.900 | 0.700 ± 0.100 | 0.710 ± 0.100 |\n"
        "| adaptive minus transfer, paired |  |  | 0.100 ± 0.100 | 0.110 ± 0.100 |\n"
        "| mixed minus transfer, paired |  |  | 0.200 ± 0.100 | 0.210 ± 0.100 |\n"
    )


def test_the_table_takes_the_place_of_the_one_before(script: ModuleType) -> None:
    page = f"above\n\n{script.BEGIN}\n{script.END}\n\nbelow\n"
    once = script.insert("| new |\n", script.insert("| old |\n", page))
    assert once == f"above\n\n{script.BEGIN}\n\n| new |\n\n{script.END}\n\nbelow\n"
    with pytest.raises(SystemExit, match="lacks the lines"):
        script.insert("| new |\n", "no markers")


def test_the_page_has_the_markers(script: ModuleType) -> None:
    assert script.insert("x", (ROOT / "docs/train.md").read_text())
