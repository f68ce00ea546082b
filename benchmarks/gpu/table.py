"""The rows as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.gpu.plan import NAIVE, PAPER, STEP

HEADINGS = ("precision", "mode", "training step, ms", "x naive", "% of the rate", "peak, GiB", "undefended")


def markdown(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """A table for each model and batch size, and what kept cells from being measured."""
    device, versions, settings = about["device"] or {}, about["versions"], about["settings"]
    parts = [
        f"{device.get('name', 'no device')}, torch {versions.get('torch')}, {about['date']}; {settings['image_size']} "
        f"px, {settings['steps']} PGD steps in a training step, the median of up to {settings['repeats']} turns. "
        "`x naive`: how many times as long the naive path takes (fp32, eager) on the same device. The rate is that of "
        "the model's largest product, measured in the same arithmetic. `undefended`: the cosine that an attack leaves, "
        "which is the same in all modes."
    ]
    for model, batch in dict.fromkeys((row["model"], row["batch"]) for row in rows):
        chosen = [row for row in rows if (row["model"], row["batch"]) == (model, batch)]
        naive = next((_median(row) for row in chosen if row["part"] == NAIVE), None)
        lines = [" | ".join(HEADINGS), " | ".join([":---"] * 2 + ["---:"] * 5)]
        lines += [" | ".join(_cells(row, naive)) for row in chosen if row["part"] in (NAIVE, STEP)]
        parts += [f"## {model}, batch {batch}", "\n".join(f"| {line} |" for line in lines)]
        for row in (row for row in chosen if row["part"] == PAPER):
            steps, taken = row.get("training_steps"), _median(row)
            told = _why(row) if taken is None else f"{taken:.2f} s after warm-up"
            parts.append(f"{steps or 50} training steps, {row['precision']}, {row['mode']}: {told}.")
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any], naive: float | None) -> list[str]:
    median, mode = _median(row), row["mode"] if row["part"] == STEP else NAIVE
    if median is None:
        return [row["precision"], mode, _why(row), *[""] * 4]
    share, peak = row.get("share_of_limit"), row["peak_bytes"]
    return [
        row["precision"],
        mode,
        f"{1000 * median:.1f}",
        "" if naive is None else f"{naive / median:.2f}",
        "" if share is None else f"{100 * share:.0f}",
        "" if peak is None else f"{peak / 2**30:.1f}",
        "" if row.get("undefended") is None else f"{row['undefended']:.3f}",
    ]


def _median(row: dict[str, Any]) -> float | None:
    return statistics.median(row["seconds"]) if row.get("seconds") else None


def _why(row: dict[str, Any]) -> str:
    return str(row.get("skipped") or row.get("error")).replace("|", "/")
