"""Rows as `eval-features` and `eval-class` write them."""

from __future__ import annotations

import pytest

TOKENS = "results/run/rtokens-10.safetensors"


def feature_row(threat, victim, to_plain, **more):
    """One row of `results.json`; `more` replaces or adds keys."""
    return {
        "victim": victim,
        "threat": threat,
        "attack": "paper",
        "surrogate": "dinov2_vits14" + {"informed": " + drawn tokens", "adaptive": " + tokens"}.get(threat, ""),
        "defense": TOKENS if victim == "robust" else None,
        "kind": None if victim == "plain" else "tokens",
        "norm": "linf",
        "eps": 8 / 255,
        "units": "normalized",
        "steps": 30,
        "restarts": 1,
        "n": None if victim == "plain" else 10,
        "seed": 0,
        "fidelity": 1.0 if victim == "plain" else 0.912,
        "cosine": to_plain + 0.05,
        "cosine_to_plain": to_plain,
        "cosine_cls": to_plain - 0.05,
        "fidelity_token": 0.9,
        "cosine_token": to_plain,
        "cosine_to_plain_token": to_plain - 0.1,
        "mse": 1.25,
        "image_linf_255": 2.0,
        "ci95": {"cosine_to_plain": [to_plain - 0.031, to_plain + 0.031]},
    } | more


@pytest.fixture
def rows():
    """One attack, one token file, three threats."""
    return [
        feature_row("transfer", "plain", 0.192),
        feature_row("transfer", "random", 0.611),
        feature_row("transfer", "robust", 0.692),
        feature_row("informed", "robust", 0.652),
        feature_row("adaptive", "robust", 0.281),
    ]


def class_row(threat, victim, head, accuracy, fooled=0.98):
    """One row of eval-class; informed attacks have no single surrogate to fool."""
    known = threat != "informed"
    return feature_row(threat, victim, 0.0) | {
        "head_features": head,
        "adversarial_accuracy": accuracy,
        "clean_accuracy": 0.968,
        "flipped": 0.9 - accuracy,
        "surrogate_success": fooled if known else None,
        "accuracy_on_success": accuracy / 2 if known else None,
        "ci95": {"adversarial_accuracy": [max(accuracy - 0.05, 0.0), accuracy + 0.07]},
    }


@pytest.fixture
def class_rows():
    """One attack, robust victims through both heads."""
    return [
        class_row("transfer", "plain", "plain", 0.0),
        class_row("transfer", "random", "plain", 0.17),
        class_row("transfer", "robust", "plain", 0.21),
        class_row("transfer", "robust", "robust", 0.32),
        class_row("informed", "robust", "robust", 0.28),
        class_row("adaptive", "robust", "robust", 0.01),
    ]


def difference_row(threat, baseline, value, **more):
    """One row of `differences`; only `transfer` has victims without tokens."""
    return {
        **feature_row(threat, "robust", value),
        "queries": None,
        "start": None,
        "head_features": None,
        "baseline_victim": baseline,
        "baseline_threat": "transfer",
        "baseline_defense": None,
        "baseline_kind": None,
        "baseline_head_features": None,
        "ci95": {"cosine_to_plain": [value - 0.02, value + 0.02]},
    } | more


@pytest.fixture
def differences():
    """What belongs to `rows`."""
    return [
        difference_row("transfer", "random", 0.081),
        difference_row("transfer", "plain", 0.5, ci95={"cosine_to_plain": [0.4, 0.51]}),
        difference_row("adaptive", "plain", 0.089, ci95=None),
    ]


@pytest.fixture
def sanity():
    """A check that passed and one that failed."""
    return {
        "verdict": "suspicious",
        "images": 4,
        "checks": [
            {"check": "an unbounded radius breaks the plain model", "passed": True, "seen": "cosine 0.1"},
            {"check": "gradients do not vanish", "passed": False, "seen": "norm 0", "defense": TOKENS},
        ],
    }


@pytest.fixture
def curve_rows():
    """Two radii, the larger one first; `adaptive` has no plain victim."""
    victims = [("transfer", "plain"), ("transfer", "robust"), ("adaptive", "robust")]
    return [
        feature_row(threat, victim, 0.9 - 0.1 * radius, eps=radius / 255, units="pixel")
        for radius in (2, 1)
        for threat, victim in victims
    ]
