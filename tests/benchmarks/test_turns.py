"""`python -m benchmarks` from end to end, on a small model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main


def test_every_part_beside_the_naive_path_and_what_products_alone_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    given = {"models": "timm:test_vit", "image-size": 32, "batch": 2, "steps": 2, "repeats": 2, "precision": "auto"}
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    parts = ["attack", "step", "evaluation"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *options, "--out", str(out), "--parts", *parts])
    main()
    rows = json.loads(out.read_text())["rows"]
    assert [row["part"] for row in rows] == parts
    for row in rows:
        assert len(row["naive_seconds"]) == len(row["rtok_seconds"]) == 2 and "peers_seconds" not in row
        shares = [limit / own for limit, own in zip(row["limit_seconds"], row["rtok_seconds"], strict=True)]
        assert row["share_of_limit"] == pytest.approx(sum(shares) / 2)
        # of two turns, the median is the mean
        counted = sum(row["gflop"][name] / row["gemm_gflops"][name] for name in ("gradients", "others"))
        assert sum(row["limit_seconds"]) / 2 == pytest.approx(counted)
        ratios = [own / old for own, old in zip(row["rtok_seconds"], row["naive_seconds"], strict=True)]
        assert row["rtok_over_naive"] == pytest.approx(sum(ratios) / 2)
    attack, step, _ = (row["gflop"] for row in rows)
    # the attack with its clean features; the step updates with clean and adversarial images, forward and backward
    assert attack["gradients"] == step["gradients"] and step["others"] > 5 * attack["others"]
    assert attack["gradients"] > 4 * attack["others"]
    *table, _written = capsys.readouterr().out.splitlines()
    assert sum("products alone" in line for line in table) == 3 and max(map(len, table)) <= 80
