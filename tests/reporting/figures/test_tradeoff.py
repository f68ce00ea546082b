"""The trade-off has the rows' values, along the setting that was varied."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.reporting.figures.tradeoff import tradeoff
from rtok.results.columns import main_column

COSINE = main_column("eval-features")


@pytest.fixture
def trained(rows):
    """The rows of three weights: more weight gives more fidelity, and less under attack. With their settings."""
    found, settings = rows[:2], {}
    for weight in (4.0, 0.5, 1.0):
        file = f"weight-{weight}/rtokens.safetensors"
        settings[file] = {"train.invariance_weight": weight, "train.steps": 50, "defense.count": 10, "attack.eps": 0.01}
        for row in rows[2:]:
            y = row["cosine_to_plain"] - 0.1 * weight
            ci95 = {"cosine_to_plain": [y - 0.1, y + 0.1]}
            found.append(row | {"defense": file, "fidelity": 0.8 + weight / 100, "cosine_to_plain": y, "ci95": ci95})
    return found, settings


def panels(figure):
    return {axes.get_title(loc="left"): axes for part in figure.subfigs for axes in part.axes}


def lines(axes):
    named = (line for line in axes.lines if not line.get_label().startswith("_"))
    return {line.get_label(): np.column_stack(line.get_data()).tolist() for line in named}


def test_a_panel_a_threat_and_a_line_along_the_weight(tmp_path, drawn, trained):
    assert tradeoff(*trained, tmp_path / "tradeoff.png", COSINE)
    found = panels(drawn[0])
    assert list(found) == ["transfer", "informed", "adaptive"]
    expected = [pytest.approx([0.8 + weight / 100, 0.692 - 0.1 * weight]) for weight in (0.5, 1.0, 4.0)]
    assert lines(found["transfer"]) == {
        "tokens, by invariance weight": expected,
        "control": [[0.912, 0.611]],
        "plain, transfer": [[1.0, 0.192]],
    }
    assert "control" not in lines(found["adaptive"])
    assert lines(found["adaptive"])["plain, transfer"] == [[1.0, 0.192]]
    assert [text.get_text() for text in found["informed"].texts] == ["0.5", "1", "4"]
    spans = [segment[:, 1].tolist() for drawn in found["transfer"].collections for segment in drawn.get_segments()]
    assert spans[0] == pytest.approx([0.692 - 0.05 - 0.1, 0.692 - 0.05 + 0.1])


def test_other_settings_are_other_lines_and_seeds_one_point(tmp_path, drawn, trained):
    rows, settings = trained
    more, wide = [], {}
    for row in rows:
        if row["victim"] == "robust":
            for name, radius in (("seed1", 0.01), ("wide", 4 / 255)):
                file = f"{name}/{row['defense']}"
                wide[file] = settings[row["defense"]] | {"attack.eps": radius}
                more.append(row | {"defense": file, "cosine_to_plain": row["cosine_to_plain"] + 0.02})
    tradeoff([*rows, *more], settings | wide, tmp_path / "tradeoff.png", COSINE)
    axes = panels(drawn[0])["transfer"]
    found = lines(axes)
    assert [found["tokens (radius 2.6/255), by invariance weight"][0][1]] == pytest.approx([0.692 - 0.05 + 0.01])
    assert [found["tokens (radius 4/255), by invariance weight"][0][1]] == pytest.approx([0.692 - 0.05 + 0.02])
    dots = [line for line in axes.lines if line.get_label().startswith("_")]
    assert [len(line.get_xdata()) for line in dots] == [2, 2, 2]


def test_trainings_that_differ_otherwise_are_no_seeds(tmp_path, drawn, trained):
    rows, settings = trained
    first = "weight-1.0/rtokens.safetensors"
    for own in settings.values():
        own |= {"train.eps_schedule.hold": 0.0, "train.eps_schedule.ramp": 0.5, "train.micro_batch": None}
    without = settings[first] | {"train.eps_schedule": None, "train.micro_batch": 4}
    del without["train.eps_schedule.hold"], without["train.eps_schedule.ramp"]
    more = [row | {"defense": "steady.safetensors"} for row in rows if row["defense"] == first]
    tradeoff([*rows, *more], settings | {"steady.safetensors": without}, tmp_path / "tradeoff.png", COSINE)
    found = lines(panels(drawn[0])["transfer"])
    assert [
        len(found[f"tokens ({name}), by invariance weight"])
        for name in ("eps schedule hold 0, ramp 0.5", "no eps schedule")
    ] == [3, 1]


def test_ranks_are_a_line_and_other_kinds_points_with_names(tmp_path, drawn, trained):
    rows, settings = trained
    for own, rank in zip(settings.values(), (2, 8, 32), strict=True):
        own.clear()
        own |= {"defense.kind": "lora", "defense.rank": rank, "defense.alpha": float(rank)}
    other = {"defense.kind": "weights", "train.lr": 0.1}
    loras = [row | {"kind": "lora"} if row["victim"] == "robust" else row for row in rows]
    more = [row | {"kind": "weights", "defense": "w.pt"} for row in rows[2:] if row["victim"] == "robust"]
    tradeoff([*loras, *more], settings | {"w.pt": other}, tmp_path / "tradeoff.png", COSINE)
    axes = panels(drawn[0])["transfer"]
    assert {name: len(line) for name, line in lines(axes).items() if name[0] in "lw"} == {
        "lora, by rank": 3,
        "weights": 1,
    }
    assert {text.get_text() for text in axes.texts} == {"2", "8", "32", "weights w"}


def test_defenses_without_settings_are_points_with_names(tmp_path, drawn, trained):
    rows, _ = trained
    assert tradeoff(rows, {}, tmp_path / "tradeoff.png", COSINE)
    axes = panels(drawn[0])["transfer"]
    assert [text.get_text() for text in axes.texts] == ["weight-4.0", "weight-0.5", "weight-1.0"]
    assert "tokens" in lines(axes)


def test_names_of_neighbors_do_not_overlap(tmp_path, drawn, trained):
    rows, _ = trained
    close = [
        row | {"fidelity": 0.8, "cosine_to_plain": 0.5 + row["fidelity"] / 100} if row["victim"] == "robust" else row
        for row in rows
    ]
    assert tradeoff(close, {}, tmp_path / "tradeoff.png", COSINE)
    for axes in panels(drawn[0]).values():
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 3
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_one_defense_has_no_trade_off(tmp_path, drawn, rows):
    assert not tradeoff(rows, {}, tmp_path / "tradeoff.png", COSINE)
    assert not drawn and not (tmp_path / "tradeoff.png").exists()
