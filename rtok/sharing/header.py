"""The header of a model card, which the hub reads: what the model is based on, tags, and the main numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rtok.config import strict_yaml
from rtok.errors import UserError
from rtok.models.loading import hub_repository
from rtok.models.locations import OnHub, is_on_hub
from rtok.models.registry import find
from rtok.reporting.report.runs import Run
from rtok.results.columns import main_column
from rtok.results.rows import Identity, Naming, Row
from rtok.sharing.defenses import Shared

# The hub's names of what the commands measure.
_TASKS = {"eval-class": "image-classification", "eval-seg": "image-segmentation"}
_FEATURES = "image-feature-extraction"


def header(run: Run, repository: str, defenses: Sequence[Shared]) -> str:
    """Return the header between its two lines. It has no license: rtok knows of none."""
    given = [one.defense for one in defenses if one.given and one.defense is not None]
    base = base_model(run)
    whole = any(defense.replaces_backbone for defense in given)
    relation = {"base_model_relation": "finetune" if whole else "adapter"} if base and given else {}
    data, protocol = run.setting("data", "repo"), run.setting("protocol")
    rows = [] if run.results is None else run.results["rows"]
    kinds = dict.fromkeys(filter(None, [*(row["kind"] for row in rows), *(defense.kind for defense in given)]))
    content = {
        "library_name": "rtok",
        "pipeline_tag": _TASKS.get(run.command, _FEATURES),
        **({"base_model": base} if base else {}),
        **relation,
        "tags": ["rtok", "adversarial-robustness", "vision-transformer", *kinds, *([protocol] if protocol else [])],
        **({"datasets": [data]} if data else {}),
        **_measured(run, repository),
    }
    return f"---\n{strict_yaml.dump(content)}---\n"


def base_model(run: Run) -> str | None:
    """Return the repository of the backbone's weights; None where a run does not say that they are from the hub."""
    weights = str(run.setting("model", "weights"))
    if is_on_hub(weights):
        return OnHub.parse(weights).repository
    if weights != "pretrained":
        return None
    try:
        spec = find(str(run.setting("model", "name")))
    except UserError:  # a plugin's
        return None
    return hub_repository(spec) if spec.build is None else None


def _measured(run: Run, repository: str) -> dict[str, Any]:
    """Say the main number of each victim that matters under each attack and threat, as the hub shows results."""
    if run.results is None:
        return {}
    column = main_column(run.command)
    rows = [row for row in run.results["rows"] if row.get(column.key) is not None]
    name = str(run.setting("data", "name"))
    about = {
        "task": {"type": _TASKS.get(run.command, _FEATURES)},
        "dataset": {"type": run.setting("data", "repo") or name, "name": name, "split": run.setting("data", "split")},
        "metrics": [
            {"type": column.key, "name": f"{column.title}, {told}", "value": round(row[column.key], 4)}
            for row, told in _named(rows)
        ],
    }
    return {"metrics": [column.key], "model-index": [{"name": repository.partition("/")[2], "results": [about]}]}


def _named(rows: Iterable[Row]) -> Iterator[tuple[Row, str]]:
    """Yield the rows of the defenses (or those of the plain model where there is none) and what they are about."""
    rows = list(rows)
    naming = Naming.of(rows)
    robust = [row for row in rows if row["victim"] == "robust"]
    for row in robust or rows:
        who = Identity.of(row)
        yield row, f"{who.victim_label(naming)} under {who.threat_label}, attack {who.attack or 'none'}"
