"""What training against an attacker who knows the tokens buys: the demo's training under each `train.threat`, measured.

    python scripts/demo_adaptive.py --docs docs/train.md

Trains the demo's tokens three times, with the same steps, images and PGD steps, measures all of them in one evaluation
on photos that no training saw, and writes the table between the markers of a Markdown page. What is finished is not
done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rtok.files import write_atomic
from rtok.reporting.tables import cell
from rtok.results.columns import COLUMNS

TRAINED = ("transfer", "adaptive", "mixed")
MEASURED = ("transfer", "adaptive")
RESULTS = Path("results/demo-adaptive")
BEGIN, END = "<!-- scripts/demo_adaptive.py writes from here -->", "<!-- to here -->"
_COLUMNS = {column.key: column for column in COLUMNS["eval-features"]}

Row = Mapping[str, Any]


def main() -> int:
    """Train, measure, print the table, and put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, help="the Markdown page that has the markers")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    arguments = parser.parse_args()
    if arguments.docs:
        insert("", arguments.docs.read_text())  # before the work: are the markers there?
    for threat in TRAINED:
        run("train", RESULTS / threat, f"train.threat={threat}", *arguments.set)
    runs = ", ".join(str(RESULTS / threat) for threat in TRAINED)
    wanted = (f"tokens=[{runs}]", f"threats=[{', '.join(MEASURED)}]")
    run("eval-features", RESULTS / "eval-features", *wanted, *arguments.set)
    text = table(RESULTS)
    print(text)
    if arguments.docs:
        write_atomic(arguments.docs, insert(text, arguments.docs.read_text()))
    return 0


def run(command: str, out: Path, *overrides: str) -> None:
    """Run a command of rtok with the demo's config, or go on with what is there."""
    config = f"configs/demo/{command}.yaml"
    changes = [part for override in overrides for part in ("--set", override)]
    subprocess.run(
        [sys.executable, "-m", "rtok", command, "--config", config, "--out", str(out), "--resume", *changes], check=True
    )


def table(results: Path) -> str:
    """The runs' results as a Markdown table, a line a training."""
    found = json.loads((results / "eval-features" / "results.json").read_text())
    rows: list[Row] = found["rows"]
    head = ["trained against", "s a step", "fidelity", *(f"cosine to plain, {threat}" for threat in MEASURED)]
    lines = [head, [":---", *["---:"] * (len(head) - 1)]]
    for victim in ("plain", "random"):
        row = only(rows, victim=victim, threat="transfer")
        name = {"plain": "(no tokens)", "random": "(untrained tokens)"}[victim]
        lines.append([name, "", cell(row, _COLUMNS["fidelity"]), cell(row, _COLUMNS["cosine_to_plain"]), ""])
    for trained in TRAINED:
        by_threat = {threat: robust(rows, trained, threat) for threat in MEASURED}
        metrics = (results / trained / "metrics.jsonl").read_text().splitlines()
        seconds = statistics.median(json.loads(line)["seconds"] for line in metrics)
        line = [trained, f"{seconds:.2f}", cell(by_threat["transfer"], _COLUMNS["fidelity"])]
        line += [cell(row, _COLUMNS["cosine_to_plain"]) for row in by_threat.values()]
        lines.append(line)
    for trained in TRAINED[1:]:
        against = [robust(found["differences"], trained, threat, baseline_victim="robust") for threat in MEASURED]
        changes = [cell(row, _COLUMNS["cosine_to_plain"]) for row in against]
        lines.append([f"{trained} minus transfer, paired", "", "", *changes])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def robust(rows: Iterable[Row], trained: str, threat: str, **more: str) -> Row:
    """The row of the tokens of one training under one threat."""
    of_training = (row for row in rows if row["defense"] and Path(row["defense"]).parent.name == trained)
    return only(of_training, victim="robust", threat=threat, **more)


def only(rows: Iterable[Row], **wanted: str) -> Row:
    """The one row that has these values."""
    (row,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return row


def insert(text: str, page: str) -> str:
    """The page with `text` between the markers, in the place of what was there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page lacks the lines '{BEGIN}' and '{END}'")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
