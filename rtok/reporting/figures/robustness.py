"""The robustness curve: how much of each victim is left at each radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtok.reporting.figures.canvas import GREY, INK, VICTIM_COLOURS, new_figure, save, tidy
from rtok.reporting.labels import in_words, token_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
# A radius of zero, where the victim sees the clean image.
CLEAN = {
    "cosine_to_plain": "fidelity",
    "adversarial_accuracy": "clean_accuracy",
    "adversarial_image_miou": "clean_image_miou",
}
STYLES = ("-", "--", ":", "-.")  # several lines of one kind of victim


def robustness_curve(rows: Sequence[Row], path: Path, key: str) -> None:
    """Draw `key` against the Linf radius in pixels: a panel a threat, a line a victim, with its 95 % band.

    The plain model under `transfer`, which for the public model is the white-box attack, is drawn grey in the panels of
    threats that have no plain victim.

    Args:
        rows: the `curve` of `results.json`. Rows whose `key` is null are left out.
    """
    known = [row for row in rows if row.get(key) is not None]
    threats = list(dict.fromkeys(row["threat"] for row in known))
    if not threats:
        return
    plain = [row for row in known if row["victim"] == "plain"]
    figure = new_figure(max(5.0, 3.3 * len(threats) + 0.8), 3.8)
    panels = figure.subplots(1, len(threats), sharey=True, squeeze=False)[0]
    names = token_names(known)
    for axes, threat in zip(panels, threats, strict=True):
        lines: dict[str, list[Row]] = {}
        for row in known:
            if row["threat"] == threat:
                lines.setdefault(_label(row, names), []).append(row)
        drawn: dict[str, int] = {}
        for label, line in lines.items():
            victim = line[0]["victim"]
            style = STYLES[drawn.setdefault(victim, 0) % len(STYLES)]
            drawn[victim] += 1
            _line(axes, line, key, VICTIM_COLOURS.get(victim, GREY), style, label)
        if plain and "plain" not in drawn:
            _line(axes, plain, key, GREY, "-", "plain, transfer", band=False)
        axes.set_title(threat, fontsize=10, color=INK, loc="left")
        tidy(axes, xlabel="Linf radius, of 255")
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel(in_words(key), color=INK)
    save(figure, path)


def _line(
    axes: Axes, rows: Sequence[Row], key: str, colour: str, style: str, label: str, band: bool = True
) -> None:
    """Draw one victim's values from the clean image on."""
    ordered = sorted(rows, key=lambda row: float(row["eps"]))
    points = [(row["eps"] * 255, row[key], (row.get("ci95") or {}).get(key)) for row in ordered]
    clean = CLEAN.get(key, "")
    if ordered[0].get(clean) is not None:
        points.insert(0, (0.0, ordered[0][clean], (ordered[0].get("ci95") or {}).get(clean)))
    radii = [radius for radius, _, _ in points]
    axes.plot(radii, [value for _, value, _ in points], style, color=colour, marker="o", ms=3.5, label=label)
    bounds = [interval or (value, value) for _, value, interval in points]
    if band:
        low, high = zip(*bounds, strict=True)
        axes.fill_between(radii, low, high, color=colour, alpha=0.13, linewidth=0)


def _label(row: Row, names: Mapping[str, str]) -> str:
    parts = [row["victim"]]
    if row["victim"] == "random" and len(names) > 1:
        parts.append(f"{row['n']} tokens")
    if row["victim"] == "robust":
        parts += [names[str(row["tokens"])]] if len(names) > 1 else []
        parts += [f"{row['head_features']} head"] if row.get("head_features") else []
    if row.get("queries") is not None:
        parts.append(f"{row['queries']} queries, {row['start']}")
    return ", ".join(map(str, parts))
