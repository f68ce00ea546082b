"""The package asks registries: it names no attack, threat, defense or data set but where this list says why."""

from __future__ import annotations

import ast
from pathlib import Path

import rtok
from rtok.config.registry import ATTACKS, DATASETS, DEFENSES, THREATS, Entry

PACKAGE = Path(rtok.__file__).parent
# where each name may stand beside its registration, its settings and its own module
ALLOWED: dict[str, dict[str, str]] = {
    "presets are data": {"config/attack_presets.py": "apgd autoattack square transfer"},
    "an attack without `method` is PGD, `by_queries` is what `query` runs": {"config/attack.py": "pgd square from"},
    "defaults of keys": {"config/schema.py": "PGDConfig transfer informed adaptive"},
    "re-exports": {"__init__.py": "PGD", "attacks/__init__.py": "APGD PGD", "config/__init__.py": "TokensConfig"},
    "a word for a place on disk": {"data/listing.py": "folder"},
    "a path alone stands for a folder of images": {"api/request.py": "folder"},
    "what a random search counts, in the progress": {"attacks/square.py": "query"},
    "parts of AutoAttack are these": {"attacks/autoattack.py": "square APGD Square"},
    "the attack on the public model, which others start from and are compared with": {
        "api/evaluation.py": "transfer",
        "attacks/restarts.py": "transfer",
        "config/attack_methods.py": "transfer",
        "config/rules.py": "transfer",
        "evaluation/adversarial.py": "transfer",
        "evaluation/examples.py": "transfer",
        "evaluation/plan.py": "transfer",
        "evaluation/run.py": "transfer",
        "cli/dry_run.py": "transfer",
        "results/differences.py": "transfer",
        "reporting/report/charts.py": "transfer",
    },
    "the checks attack the plain model, and the robust ones white-box": {
        "evaluation/sanity/run.py": "transfer adaptive"
    },
    "values of another key, `train.threat`": {
        "config/training.py": "transfer adaptive",
        "training/attacker.py": "transfer adaptive",
        "training/loop.py": "transfer",
    },
    "a card says what is left of a defense that an attacker has, or copies": {"sharing/card.py": "adaptive extracted"},
    "threats with a section of the config of their own": {
        "config/named_files.py": "guessed",
        "config/rules.py": "guessed query informed extracted",
        "cli/dry_run.py": "guessed extracted",
        "runs/inputs.py": "guessed",
        "evaluation/extracted.py": "extracted",
        "evaluation/guessed.py": "guessed",
        "evaluation/run.py": "guessed extracted",
        "runs/folder.py": "guessed extracted",
    },
    "sets from disk are checked against the run's model and images, and written": {
        "evaluation/adversarial.py": "AdversarialSet",
        "evaluation/plan.py": "AdversarialSet",
        "cli/dry_run.py": "AdversarialSet",
    },
    "needs as many classes as its parts do": {"evaluation/tasks/classification.py": "AutoAttack AutoAttackConfig"},
    "`tokens:` is short for `defense:`, and was the key of version 0.1": {
        "attacks/stored.py": "tokens",
        "config/load.py": "tokens",
        "config/overrides.py": "tokens",
        "config/schema.py": "tokens",
        "config/sections.py": "tokens",
        "defenses/base.py": "tokens",
        "defenses/files.py": "tokens",
        "reporting/report/content.py": "tokens",
        "results/files.py": "tokens",
    },
    "exported checkpoints hold tokens and nothing else": {
        "__init__.py": "RobustnessTokens",
        "conversion/source.py": "RobustnessTokens",
        "defenses/__init__.py": "RobustnessTokens",
        "inspection.py": "tokens RobustnessTokens",
        "release.py": "tokens",
    },
    "a model that gives tokens rather than an embedding": {
        "models/families/timm_any.py": "tokens",
        "models/spec.py": "tokens",
    },
    "positions that a defense adds": {
        "evaluation/activations.py": "tokens",
        "reporting/figures/activations.py": "tokens",
    },
    "an adapter of PEFT is a LoRA": {"conversion/peft.py": "LoRA"},
    "a model's own weights": {
        "conversion/source.py": "weights",
        "evaluation/protocol.py": "weights",
        "inspection.py": "weights",
        "models/loading.py": "weights",
        "reporting/report/leaderboard.py": "weights",
        "sharing/card.py": "weights",
        "sharing/header.py": "weights",
    },
    "extras of the package": {"cli/doctor.py": "hf"},
    "`normalization: imagenet`": {"config/sections.py": "imagenet", "models/loading.py": "imagenet"},
    "fills in a config that is only checked for mistakes": {"config/validation.py": "photos"},
    "a unit of progress": {"preparation/archives.py": "folder"},
    "the key `attack.from`, which names a folder": {"sharing/public.py": "from"},
    "what `--data FOLDER` is short for": {"cli/shortcuts.py": "folder"},
}


def own_files(entry: Entry) -> set[Path]:
    """The modules of an entry's algorithm and of its settings."""
    modules = [str(entry.home).partition(":")[0], entry.section.__module__ if entry.section else ""]
    return {PACKAGE.parent / f"{module.replace('.', '/')}.py" for module in modules}


def words(path: Path) -> set[str]:
    """Every whole text, and every class by its name, in a file's code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.Name) and node.id[0].isupper():
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.update({node.name} if node.name[0].isupper() else ())
    return found


def test_nothing_is_named_where_a_registry_can_be_asked() -> None:
    owners: dict[str, set[Path]] = {}
    for registry, home in (
        (ATTACKS, "config/attack_methods.py"),
        (THREATS, "config/threats.py"),
        (DEFENSES, "config/defenses.py"),
        (DATASETS, "config/datasets.py"),
    ):
        for entry in registry.entries():
            names = {entry.name, entry.section.__name__ if entry.section else ""}
            if registry in (ATTACKS, DEFENSES):
                names.add(str(entry.home).partition(":")[2])
            for name in names - {""}:
                owners[name] = {PACKAGE / home} | own_files(entry)
    found = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        for name in words(path) & set(owners)
        if path not in owners[name]
    }
    allowed = {(file, name) for files in ALLOWED.values() for file, names in files.items() for name in names.split()}
    assert found - allowed == set(), "ask the registry, or say here why the name must stand there"
    assert allowed - found == set(), "is not needed any more"
