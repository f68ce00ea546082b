"""What a row is about: its columns, and in words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rtok.results.rows import KEYS, Identity, Naming, attack_title, by_attack

ROBUST = Identity(
    attack="paper",
    threat="transfer",
    victim="robust",
    defense="run/rtokens-10.safetensors",
    kind="tokens",
    n=10,
    head_features="plain",
    norm="linf",
    eps=8 / 255,
    units="normalized",
    steps=30,
    restarts=1,
)


@pytest.fixture
def rows():
    """Two threats of one attack."""
    return [{**ROBUST.columns(), "threat": threat, "cosine": 0.5} for threat in ("transfer", "adaptive")]


def test_an_identity_goes_through_a_flat_row(rows):
    assert Identity.of({**ROBUST.columns(), "cosine": 0.5, "ci95": {}}) == ROBUST
    assert tuple(ROBUST.columns()) == KEYS
    assert Identity.of({"victim": "plain"}) == Identity(victim="plain")


@pytest.mark.parametrize("wrong", [{"norm": ["linf"]}, {"n": 1.5}, {"n": True}, {"eps": "8"}, {"threat": None}])
def test_an_identity_of_wrong_types_is_refused(wrong):
    with pytest.raises(ValidationError):
        Identity.of({**ROBUST.columns(), **wrong})


@pytest.mark.parametrize(
    ("change", "same_attack", "same_setting"),
    [
        ({"victim": "plain", "defense": None, "seed": 3}, True, True),
        ({"threat": "adaptive"}, True, False),
        ({"queries": 10}, True, False),
        ({"start": "cold"}, True, False),
        ({"eps": 4 / 255}, False, False),
        ({"attack": "standard"}, False, False),
    ],
)
def test_what_tells_attacks_and_settings_apart(change, same_attack, same_setting):
    other = Identity.of({**ROBUST.columns(), **change})
    assert (other.attack_key == ROBUST.attack_key) is same_attack
    assert (other.setting_key == ROBUST.setting_key) is same_setting


def test_a_threat_is_told_with_its_budget():
    assert ROBUST.threat_label == "transfer"
    assert Identity(threat="query", queries=1000, start="cold").threat_label == "query (1000 queries, cold)"
    assert Identity(threat="query", queries=1000).threat_label == "query (1000 queries)"


def test_a_victim_is_told_as_far_as_victims_differ():
    plain = Identity(victim="plain", head_features="plain")
    random = Identity(victim="random", n=10, kind="tokens", head_features="plain")
    other = Identity.of({**ROBUST.columns(), "defense": "run/rtokens-50.safetensors", "head_features": "robust"})

    def labels(*shown, **options):
        naming = Naming.of([one.columns() for one in shown], **options)
        return [one.victim_label(naming) for one in shown]

    assert labels(plain, random, ROBUST) == ["plain", "random", "robust"]
    assert labels(plain, random, ROBUST, whole=True) == ["plain", "random (10 tokens)", "robust (10, plain head)"]
    assert labels(plain, random, ROBUST, other) == [
        "plain",
        "random (10 tokens)",
        "robust (10, plain head)",
        "robust (50, robust head)",
    ]


def test_names_tell_the_kind_where_there_are_several():
    def labels(*kinds_and_files):
        control = Identity(victim="random", n=10, kind="tokens")
        shown = [Identity(victim="robust", kind=kind, defense=file) for kind, file in kinds_and_files]
        naming = Naming.of([one.columns() for one in [control, *shown]])
        return [one.victim_label(naming) for one in [control, *shown]]

    tokens, lora = ("tokens", "demo/train/rtokens.safetensors"), ("lora", "demo/train-lora/lora.safetensors")
    more = ("tokens", "demo/more/rtokens.safetensors")
    assert labels(tokens, lora) == ["random (tokens 10)", "robust (tokens)", "robust (lora)"]
    assert labels(tokens, lora, more)[1:] == ["robust (tokens train)", "robust (lora)", "robust (tokens more)"]
    several = [
        (kind, f"{name}/{kind}.safetensors") for kind, name in (("tokens", "mine"), ("lora", "lora-8"), ("lora", "r2"))
    ]
    assert labels(*several)[1:] == ["robust (tokens mine)", "robust (lora-8)", "robust (lora r2)"]
    assert labels(tokens, more) == ["random (10 tokens)", "robust (train)", "robust (more)"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"norm": "linf", "eps": 8 / 255, "units": "pixel"}, "Linf radius 8/255 in pixels"),
        ({"norm": "linf", "eps": 0.5 / 255, "units": "pixel"}, "Linf radius 0.5/255 in pixels"),
        ({"norm": "l2", "eps": 0.5, "units": "pixel"}, "L2 radius 0.5 in pixels"),
        (
            {"norm": "linf", "eps": 8 / 255, "units": "normalized"},
            "Linf radius 8/255 in normalized space, about 1.8/255 in pixels with ImageNet's statistics",
        ),
        (
            {"norm": "linf", "eps": 8 / 255, "units": "normalized", "eps_pixel": 4 / 255},
            "Linf radius 8/255 in normalized space, about 4/255 in pixels",
        ),
    ],
)
def test_a_radius_is_said_in_pixels_too(row, text):
    assert Identity.of(row).radius == text


def test_the_title_names_attack_radius_and_all_step_counts(rows):
    rows[-1] |= {"steps": 100, "restarts": 5}
    assert attack_title(rows) == (
        "attack paper: Linf radius 8/255 in normalized space, about 1.8/255 in pixels with ImageNet's "
        "statistics, 30 or 100 steps, 1 or 5 restarts"
    )
    autoattack = {"attack": "autoattack", "norm": "linf", "eps": 4 / 255, "units": "pixel", "steps": None}
    assert attack_title([autoattack]) == "attack autoattack: Linf radius 4/255 in pixels"
    assert attack_title([{"attack": None}]) == "attack none"


def test_rows_are_grouped_by_attack_in_order(rows):
    other = [row | {"eps": 4 / 255} for row in rows]
    mixed = [row for pair in zip(rows, other, strict=True) for row in pair]
    assert [group for _, group in by_attack(mixed)] == [rows, other]
