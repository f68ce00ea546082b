"""The presets of the `attack` section, as data."""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal[
    "paper",
    "standard",
    "standard-4",
    "l2",
    "apgd",
    "apgd-ensemble",
    "autoattack",
    "momentum",
    "diverse",
    "intermediate",
    "ensemble",
    "sea",
    "square",
]

# MI-FGSM as published, but for the radius (Dong et al., 2018, section 4.1): 10 steps of a tenth of the radius from the
# image itself, which without `step` is what momentum has.
_MOMENTUM = {"momentum": 1.0, "steps": 10, "init": "none"}
# The same with the published chance of input diversity (Xie et al., 2019); here images shrink, where theirs grow.
_DIVERSE = {**_MOMENTUM, "diversity": 0.5}
# What each preset changes in its method's defaults; those of `pgd` are what the field means by Linf PGD.
PRESETS: dict[str, dict[str, Any]] = {
    # The original code's attack, in normalized space: its radius is about 1.8/255 in pixels.
    "paper": {
        "units": "normalized",
        "step": 1e-2,
        "init": "gaussian",
        "mse_weight": 1.0,
        "max_mse": 1e-4,
        "quantize": "floor",
        "axis": "token",
    },
    "standard": {},
    # RobustBench's radius for ImageNet.
    "standard-4": {"eps": 4 / 255},
    # The radius of the `robustness` library's L2 ImageNet models (Engstrom et al., 2019).
    "l2": {"norm": "l2", "eps": 3.0},
    "apgd": {"method": "apgd"},
    # White-box, on features and on labels: each objective that can be the easiest one to raise, with as many restarts
    # as AutoAttack's `plus` version gives APGD, and from where the attack on the plain model ends.
    "apgd-ensemble": {
        "method": "apgd",
        "restarts": 5,
        "variants": [{}, {"init": "transfer"}, {"loss": "dlr"}, {"features": "cls"}, {"layer": 0.5}],
    },
    "autoattack": {"method": "autoattack"},
    # What transfers better than plain PGD; models share more of the middle of the network than of its end.
    "momentum": _MOMENTUM,
    "diverse": _DIVERSE,
    "intermediate": {"layer": 0.5},
    "ensemble": {"variants": [{}, {"init": "transfer"}, {"loss": "margin"}, _MOMENTUM, _DIVERSE, {"layer": 0.5}]},
    # The ensemble for masks of Croce, Singh & Hein, 2024.
    "sea": {
        "method": "apgd",
        "steps": 300,
        "shrink": True,
        "variants": [{"loss": "masked-cross-entropy"}, {"loss": "balanced-cross-entropy"}, {"loss": "jensen-shannon"}],
    },
    "square": {"method": "square"},
}
