"""Rows as `eval-features` writes them."""

from __future__ import annotations

import pytest

TOKENS = "results/run/rtokens-10.safetensors"


def feature_row(threat, victim, to_plain, **more):
    """One row of `results.json`; `more` replaces or adds keys."""
    return {
        "victim": victim,
        "threat": threat,
        "attack": "paper",
        "surrogate": "dinov2_vits14"
        + {"informed": " + drawn tokens", "adaptive": " + tokens"}.get(threat, ""),
        "tokens": TOKENS if victim == "robust" else None,
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
