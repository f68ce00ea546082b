"""The ablation of the token count: what each number of tokens buys, and what it costs on clean images."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rtok.reporting.figures.canvas import GREEN, GREY, INK, VICTIM_COLOURS, new_figure, save, tidy
from rtok.reporting.labels import by_attack, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
# The same measure on clean images.
CLEAN = {
    "cosine_to_plain": "fidelity",
    "adversarial_accuracy": "clean_accuracy",
    "adversarial_miou": "clean_miou",
}
STYLES = {"transfer": "-", "informed": "--", "guessed": "-.", "adaptive": ":"}
_DODGE = 0.06  # between the places of two lines, in counts, so that their intervals do not hide each other


def count_curve(rows: Sequence[Row], path: Path, key: str = "cosine_to_plain") -> bool:
    """Draw `key` against the number of tokens: a panel an attack, a line a victim and threat, with 95 % intervals.

    Several token files of one count (seeds) are dots around their mean. The line of the clean images is that of the
    robust model, without any attack.

    Args:
        rows: rows of `results.json`. Those that `query` attacks made, and those whose `key` is null, are left out.
        path: the PNG to write.

    Returns:
        Whether it was drawn: only where robust victims have several counts.
    """
    known = [row for row in rows if row.get(key) is not None and row.get("queries") is None]
    counts = sorted({row["n"] for row in known if row["victim"] == "robust"})
    if len(counts) < 2:
        return False
    panels = by_attack(known)
    figure = new_figure(6.8, 4.2 * len(panels))
    for axes, (title, group) in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True
    ):
        _panel(axes, group, counts, key)
        axes.set_title("\n".join(wrap(title, 80)), fontsize=10, color=INK, loc="left")
    save(figure, path)
    return True


def _panel(axes: Axes, rows: Sequence[Row], counts: Sequence[int], key: str) -> None:
    lines: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["n"] in counts:
            head = row.get("head_features") if row["victim"] == "robust" else None
            lines.setdefault((row["victim"], row["threat"], head or ""), []).append(row)
    several_heads = len({head for victim, _, head in lines if victim == "robust"}) > 1
    for number, ((victim, threat, head), members) in enumerate(lines.items()):
        label = f"{victim}, {threat}" + (f", {head} head" if several_heads and head else "")
        shift = _DODGE * (number - (len(lines) - 1) / 2)
        style = STYLES.get(threat, "-")
        _line(axes, members, counts, key, VICTIM_COLOURS.get(victim, GREY), style, label, shift)
    robust = [row for row in rows if row["victim"] == "robust"]
    clean = [row for row in robust if row["threat"] == robust[0]["threat"] and row.get(CLEAN.get(key, ""))]
    if clean:
        _line(axes, clean, counts, CLEAN[key], GREEN, "-", "robust, clean images", 0.0, interval=False)
    for row in [row for row in rows if row["victim"] == "plain"][:1]:
        label = f"plain, {row['threat']}"
        axes.axhline(row[key], color=VICTIM_COLOURS["plain"], linewidth=1.5, label=label)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    tidy(axes, xlabel="number of tokens", ylabel=in_words(key))
    axes.margins(x=0.08)
    axes.legend(frameon=False, fontsize=8, handlelength=3.6, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _line(
    axes: Axes,
    rows: Sequence[Row],
    counts: Sequence[int],
    key: str,
    colour: str,
    style: str,
    label: str,
    shift: float,
    *,
    interval: bool = True,
) -> None:
    by_count = {count: [row for row in rows if row["n"] == count] for count in counts}
    places = [place for place, count in enumerate(counts) if by_count[count]]
    members = [by_count[counts[place]] for place in places]
    means = [statistics.fmean(row[key] for row in group) for group in members]
    shifted = [place + shift for place in places]
    axes.plot(shifted, means, style, color=colour, linewidth=1.8, marker="o", markersize=4, label=label)
    for place, group in zip(shifted, members, strict=True):
        bounds = (group[0].get("ci95") or {}).get(key) if interval and len(group) == 1 else None
        if bounds:
            axes.vlines(place, *bounds, color=colour, linewidth=1.0, alpha=0.55)
        if len(group) > 1:
            values = [row[key] for row in group]
            axes.plot([place] * len(group), values, "o", color=colour, markersize=3, alpha=0.45)
