"""Tables say the same numbers on every width, and in Markdown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rtok.reporting.tables import cell, fitting, notes, print_results, varying
from rtok.results.columns import COLUMNS, Column

FEATURES = COLUMNS["eval-features"]


def printed(results, width):
    console = Console(file=io.StringIO(), width=width)
    print_results(results, console)
    return console.file.getvalue()


def headings(columns):
    return [column.heading for column in columns]


AT_80 = """\
attack paper: Linf radius 8/255 in normalized space, about 1.8/255 in pixels
with ImageNet's statistics, 30 steps

                          cosine                    cosine      Linf
 threat    victim       to plain  fidelity  cosine     CLS  (of 255)
 ───────────────────────────────────────────────────────────────────
 transfer  plain   0.192 ± 0.031     1.000   0.242   0.142       2.0
 transfer  random  0.611 ± 0.031     0.912   0.661   0.561       2.0
 transfer  robust  0.692 ± 0.031     0.912   0.742   0.642       2.0

 informed  robust  0.652 ± 0.031     0.912   0.702   0.602       2.0

 adaptive  robust  0.281 ± 0.031     0.912   0.331   0.231       2.0

Measured on 32 images.
defense: results/run/rtokens-10.safetensors; kind: tokens; token count: 10;
surrogate: dinov2_vits14 (transfer), dinov2_vits14 + drawn tokens (informed),
dinov2_vits14 + tokens (adaptive).
Cosine to plain: the victim's features of the adversarial image to the plain
model's of the clean one.
Intervals are 95 %.
Cosine to plain under transfer, robust: +0.081 ± 0.020 over the random control,
+0.500 [+0.400, +0.510] over plain.
Cosine to plain under adaptive, robust: +0.089 over plain under transfer.

Sanity checks of the attacks: SUSPICIOUS, 1 of 2 checks failed (4 images). The
numbers above may be too good, because the attack may fail for the wrong reason.

 check                                       result      verdict
 ───────────────────────────────────────────────────────────────
 an unbounded radius breaks the plain model  cosine 0.1  passed
 gradients do not vanish                     norm 0      FAILED
"""


def test_a_terminal_of_80_columns_shows_what_matters(rows, differences, sanity):
    results = {"command": "eval-features", "images": 32, "rows": rows}
    text = printed({**results, "differences": differences, "sanity": sanity}, 80)
    assert "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n" == AT_80


def test_what_speaks_against_an_attack_is_said_below_its_table(rows):
    other = [row | {"attack": "other"} for row in rows]
    results = {"command": "eval-features", "images": 32, "rows": rows + other, "cautions": {"other": "Beware of it."}}
    before, after = printed(results, 100).split("attack other")
    assert "Beware of it." in after and "Beware" not in before


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_every_width_is_kept_and_keeps_the_headline(rows, width):
    text = printed({"command": "eval-features", "images": 32, "rows": rows}, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("0.692 ± 0.031") == 1


def test_columns_give_way_by_their_weight(rows):
    wide, narrow = headings(fitting(rows, FEATURES, width=200)), headings(fitting(rows, FEATURES))
    order = [column.heading for column in sorted(FEATURES, key=lambda column: column.keep or 99, reverse=True)]
    gone = set(wide) - set(narrow)
    assert gone and gone == set([heading for heading in order if heading in wide][-len(gone) :])


def test_only_the_columns_that_are_shown_are_explained(rows):
    seen = [row | {"new": 0.5} for row in rows]
    new = Column("new", "new\nthing", keep=0, meaning="what nobody knows")
    wide, narrow = (fitting(seen, [*FEATURES, new], width=width) for width in (200, 60))
    assert "New thing: what nobody knows." in notes(seen, [*FEATURES, new], (), wide)
    found = notes(seen, [*FEATURES, new], (), narrow)
    assert "New thing: what nobody knows." not in found
    assert [line[:15] for line in found if line.startswith("Cosine")] == ["Cosine to plain"]


def test_one_table_an_attack(rows):
    pixels = [row | {"attack": "standard", "units": "pixel"} for row in rows]
    text = printed({"command": "eval-features", "images": 32, "rows": rows + pixels}, 120)
    assert text.count("attack standard: Linf radius 8/255 in pixels, 30 steps") == 1
    assert text.count("attack paper:") == 1


def test_several_token_files_get_their_columns(rows):
    def other(row):
        return row | {"n": 50, "defense": row["defense"] and "results/run/rtokens-50.safetensors"}

    more = [other(row) for row in rows if row["victim"] != "plain"]
    assert headings(fitting(rows + more, FEATURES))[:4] == ["threat", "victim", "defense", "token\ncount"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"x": 0.6915, "ci95": {"x": [0.6605, 0.7225]}}, "0.692 ± 0.031"),
        ({"x": 0.95, "ci95": {"x": [0.9, 0.97]}}, "0.950 [0.900, 0.970]"),
        ({"x": 0.95, "ci95": {"x": None}}, "0.950"),
        ({"x": 0.95, "ci95": None}, "0.950"),
        ({"x": 0.95}, "0.950"),
        ({"x": None, "ci95": {"x": None}}, "\N{EN DASH}"),
        ({}, "\N{EN DASH}"),
        ({"x": "[bold]name"}, "[bold]name"),
        ({"x": 10}, "10"),
    ],
)
def test_cells(row, text):
    assert cell(row, Column("x", "x", interval=True)) == text


def test_classification_fits_80_columns(class_rows):
    text = printed({"command": "eval-class", "images": 100, "rows": class_rows}, 80)
    assert max(map(len, text.splitlines())) <= 80
    for heading in ("head", "adversarial", "clean", "flipped", "right if"):
        assert heading in text
    rows = [line.split() for line in text.splitlines() if " robust  robust " in line]
    assert [row[3:6] for row in rows] == [
        ["0.320", "[0.270,", "0.390]"],
        ["0.280", "[0.230,", "0.350]"],
        ["0.010", "[0.000,", "0.080]"],
    ]
    assert [row[-1] for row in rows] == ["0.160", "\N{EN DASH}", "0.005"]  # informed: no single surrogate to fool


def test_what_guessing_gives_is_said_below_the_table(rows):
    found = [row | {"retrieval": 0.5, "retrieval_chance": 0.25} for row in rows]
    (line,) = [line for line in notes(found, FEATURES) if line.startswith("Retrieval: ")]
    assert line.endswith("; by chance 0.250.")
    shown = [column.key for column in varying(found, FEATURES)]
    assert "retrieval" in shown and "retrieval_chance" not in shown
    assert not any(line.startswith("Retrieval") for line in notes(rows, FEATURES))


def test_a_control_without_its_own_head_is_said(class_rows):
    text = printed({"command": "eval-class", "images": 100, "rows": class_rows}, 80)
    assert "The control has no head of its own" in text
    fair = [*class_rows, {**class_rows[1], "head_features": "robust"}]
    assert "no head of its own" not in printed({"command": "eval-class", "images": 100, "rows": fair}, 80)
