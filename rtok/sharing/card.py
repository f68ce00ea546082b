"""The model card of a published run: made from its public folder, so that it says no more than what is in there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rtok.config import strict_yaml
from rtok.config.registry import THREATS
from rtok.defenses import Defense
from rtok.errors import listed
from rtok.models.locations import SHORT
from rtok.reporting.report.blocks import Block, Figure, Listing, Paragraph
from rtok.reporting.report.content import CAPTIONS
from rtok.reporting.report.evaluations import evaluations, matrix
from rtok.reporting.report.markdown import escape, to_markdown
from rtok.reporting.report.runs import Run, model
from rtok.reporting.sanity import verdict
from rtok.reporting.tables import cell
from rtok.results.columns import main_column
from rtok.results.rows import Identity, Naming, Row
from rtok.results.words import capital, counted
from rtok.sharing.defenses import TOKENS, Shared
from rtok.sharing.header import base_model, header
from rtok.version import install

_WIDTH = 96  # characters of a table, about seven columns
_TRAINED = ("model", "data", "defense", "attack", "train", "seed")  # what of a training's config is shown
HAS_IT, COPIES_IT = "adaptive", "extracted"  # the threats that say what is left of a defense that is not private


def card(run: Run, repository: str, defenses: Sequence[Shared], hashes: Mapping[str, str]) -> str:
    """Return the card.

    Args:
        run: the public folder, read as a run.
        hashes: the SHA-256 of the files in it that are defenses.
    """
    title = f"# {repository.partition('/')[2]}"
    about = [_what(run, defenses), *_held(defenses, hashes)]
    parts = [f"{header(run, repository, defenses)}\n{title}", _blocks(map(Paragraph, about))]
    parts += ["## What it does not protect from", "\n".join(f"- {escape(line)}" for line in _limits(run, defenses))]
    if run.results is not None:
        parts += ["## Results", _blocks(_results(run), run)]
    parts += ["## How to load it", _loading(run, repository, defenses)]
    trained = [block for one in defenses for member in one.members for block in _training(one.name, member)]
    if run.results is None:
        trained += _figures(run)
    parts += ["## Training", _blocks(trained, run)] if trained else []
    parts += ["## Settings and versions", _blocks(_settings(run))]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _blocks(blocks: Any, run: Run | None = None) -> str:
    links = {} if run is None else {path: path.name for path in run.figures}
    return to_markdown(list(blocks), links).strip("\n")


def _what(run: Run, defenses: Sequence[Shared]) -> str:
    """Say what was measured, or trained, on what."""
    what = listed([_noun(one.defense, one.name) for one in defenses]) if defenses else "the plain model"
    start = f"{capital(what)}, for {model(run)}"
    if run.results is None:
        return f"{start}: trained, and not measured. This card has no numbers of an evaluation."
    images = counted(run.results["images"], "image")
    data = f"{run.setting('data', 'repo') or run.setting('data', 'name')}, split {run.setting('data', 'split')}"
    return f"{start}: measured by rtok {run.command} on {images} of {data}{_protocol(run)}."


def _noun(defense: Defense | None, name: str) -> str:
    if defense is None:
        return f"the defense {name}"
    return defense.noun if defense.count is None else f"{defense.count} {defense.noun}"


def _protocol(run: Run) -> str:
    """Say which protocol a run followed, and how far."""
    name = run.setting("protocol")
    if not name:
        return ""
    changed: dict[str, Any] = {}
    for entry in run.path.glob(f"{name}-*.json"):
        changed |= json.loads(entry.read_text())["deviations"]
    return f", following {name}" + (f" except for its {listed(changed)}" if changed else "")


def _held(defenses: Sequence[Shared], hashes: Mapping[str, str]) -> Iterator[str]:
    """Say which files are here, and which stayed with their owner."""
    for one in defenses:
        if one.given:
            yield f"{one.name} is in this repository (SHA-256 {hashes[one.name]})."
        else:
            why = " It is private: it protects as long as attackers do not have it." if TOKENS in one.needs else ""
            yield f"{one.name} is not in this repository, its results are.{why}"


def _limits(run: Run, defenses: Sequence[Shared]) -> Iterator[str]:
    """Say what speaks against relying on it, from the numbers where there are some."""
    private = [one for one in defenses if one.defense is not None and one.defense.private]
    given, rows = [one.name for one in private if one.given], _main_rows(run)
    threats = {row["threat"] for row in rows}
    if given:
        yield f"Attackers have it: {listed(given)} can be downloaded here. Only numbers under {HAS_IT} still hold."
    if not rows:
        yield "Nothing is known of what it protects from: no attack on it was measured."
        return
    yield from _lowest(run, rows)
    if HAS_IT not in threats and defenses:
        yield (
            f"It was not attacked by somebody who has it (the threat {HAS_IT}). What holds only while it is secret is "
            "not robust: measure that before you rely on it."
        )
    if private and not given and COPIES_IT not in threats:
        yield (
            "Private is not enough: whoever may ask the deployed model can fit a copy of it to the answers (the "
            f"threat {COPIES_IT}), which was not tried here."
        )
    untried = [f"{entry.name} ({entry.about})" for entry in THREATS.entries() if entry.name not in threats]
    if untried:
        yield f"Threats that were not tried: {', '.join(untried)}."
    yield (
        "These are numbers under some attacks on some images, not a guarantee: a stronger attack gives lower ones. "
        "What is not in the tables was not measured: other norms, larger radii, visible patches, other kinds of images."
    )
    found = (run.results or {}).get("sanity")
    if found and not all(check["passed"] for check in found["checks"]):
        yield verdict(found)


def _main_rows(run: Run) -> list[Row]:
    if run.results is None:
        return []
    key = main_column(run.command).key
    return [row for row in run.results["rows"] if row.get(key) is not None]


def _lowest(run: Run, rows: Sequence[Row]) -> Iterator[str]:
    """Say the lowest main number of each defense, and that of the plain model."""
    column, naming = main_column(run.command), Naming.of(rows)
    victims: dict[str, list[Row]] = {}
    for row in rows:
        if row["victim"] != "random":
            victims.setdefault(Identity.of(row).victim_label(naming), []).append(row)
    for label, members in victims.items():
        worst = min(members, key=lambda row: float(row[column.key]))
        who = Identity.of(worst)
        attack = f"attack {who.attack or 'none'}: {who.radius}"
        yield f"{capital(label)}: {column.title} falls to {cell(worst, column)}, under {who.threat_label} ({attack})."


def _results(run: Run) -> Iterator[Block]:
    column = main_column(run.command)
    yield Paragraph(
        f"The main number is {column.title}. Victims: plain is the backbone alone, random the control with an "
        "untrained defense, robust has the defense. A threat says what the attacker has; "
        f"{HAS_IT}: the defense itself."
    )
    yield from matrix([run], column)
    yield from evaluations([run], width=_WIDTH)
    yield from _figures(run)


def _figures(run: Run) -> Iterator[Block]:
    for path in run.figures:
        yield Figure(path, CAPTIONS.get(path.stem, path.stem))


def _loading(run: Run, repository: str, defenses: Sequence[Shared]) -> str:
    """Commands and code that load what is here."""
    shown = shlex.quote(f"model.image_size={json.dumps(run.setting('model', 'image_size'))}")
    given, name = [one for one in defenses if one.given], run.setting("model", "name")
    size, weights = run.setting("model", "image_size"), run.setting("model", "weights")
    own = base_model(run) is None
    if not given:
        return (
            "The defense is not here. The results are a run that `rtok report` reads, beside your own:\n\n"
            f"```bash\nhf download {repository} --local-dir theirs\nrtok report theirs\n```"
        )
    places = [f"{SHORT}{repository}" + (f":{one.name}" if len(given) > 1 else "") for one in given]
    flag, said = "", ""
    if weights != "pretrained":
        named = "FILE" if own else weights
        flag, said = f" --weights {named}", f', weights="{named}"'
    if (normalization := run.setting("model", "normalization")) not in (None, "auto"):
        flag, said = (f"{flag} --set model.normalization={normalization}", f'{said}, normalization="{normalization}"')
    lines = [
        f"```bash\n{install('')}".replace("[]", ""),
        *(f"rtok eval-features --model {name}{flag} --set {shown} --data FOLDER --defense {place}" for place in places),
        "```\n\n```python\nimport rtok\n",
        f'backbone = rtok.load_backbone("{name}", image_size={tuple(size) if isinstance(size, list) else size}{said})',
        *(f'model = rtok.load_defense("{place}").model(backbone)' for place in places),
        "features = model(images)  # images: (B, 3, H, W) in [0, 1]",
        "```",
    ]
    if own:
        prints = dict.fromkeys(one.defense.fingerprint for one in given if one.defense and one.defense.fingerprint)
        told = f" of the fingerprint {listed(prints)}" if prints else ""
        lines += ["", f"FILE: weights of {name}{told}. Others are refused."]
    return "\n".join(lines)


def _training(name: str, defense: Defense) -> Iterator[Block]:
    """Say what a defense was trained on, and with which settings; nothing where its file does not say."""
    config = defense.config
    if not config:
        return
    data, train = config.get("data") or {}, config.get("train") or {}
    seen = f", {counted(len(defense.seen), 'image')}" if defense.seen else ""
    where = f"{data.get('repo') or data.get('name')}, split {data.get('split')}{seen}"
    steps = "" if train.get("steps") is None else f", {counted(train['steps'], 'step')} of {train['batch_size']} images"
    numbers = sum(values.numel() for values in defense.parameters().values())
    made = f" by rtok {defense.version}" if defense.version else ""
    yield Paragraph(f"{name} ({defense.kind}, {numbers:,} parameters): trained{made} on {where}{steps}.")
    shown = {key: config[key] for key in _TRAINED if key in config}
    yield Listing(f"Settings of the training of {name}", strict_yaml.dump(shown))


def _settings(run: Run) -> Iterator[Block]:
    versions = run.record.get("versions")
    if isinstance(versions, Mapping):
        yield Paragraph(", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    yield Paragraph("No license is stated: that of the backbone and of the images apply, and its owner may add one.")
    yield Listing(f"Settings of rtok {run.command}", run.text)
