"""The verdict on the attacks, in a sentence and as a table."""

from __future__ import annotations

from rtok.reporting.sanity import check_lines, verdict


def test_the_verdict_counts(sanity):
    assert verdict(sanity).startswith("Sanity checks of the attacks: SUSPICIOUS, 1 of 2 checks failed (4 images).")
    passed = {**sanity, "checks": sanity["checks"][:1]}
    assert verdict(passed) == "Sanity checks of the attacks: all passed (1 check, 4 images)."


def test_defenses_and_heads_are_named_where_there_are_several(sanity):
    checks = [
        {**sanity["checks"][1], "defense": defense, "head_features": head}
        for defense, head in (("run/rtokens-10.safetensors", "plain"), ("run/rtokens-50.safetensors", "robust"))
    ]
    assert check_lines({**sanity, "checks": [sanity["checks"][0], *checks]}) == [
        ("an unbounded radius breaks the plain model", "cosine 0.1", True),
        ("gradients do not vanish (10, plain head)", "norm 0", False),
        ("gradients do not vanish (50, robust head)", "norm 0", False),
    ]


def test_victims_and_several_attacks_are_named(sanity):
    (check, *_) = sanity["checks"]
    about = [("plain", "paper"), ("robust", "paper"), ("robust", "standard")]
    checks = [{**check, "victim": victim, "attack": attack} for victim, attack in about]
    name = check["check"]
    told = [name for name, *_ in check_lines({**sanity, "checks": checks})]
    assert told == [
        f"{name} (plain, attack paper)",
        f"{name} (robust, attack paper)",
        f"{name} (robust, attack standard)",
    ]
    assert [name for name, *_ in check_lines({**sanity, "checks": checks[:1]})] == [f"{name} (plain)"]
