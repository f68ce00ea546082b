"""Linear heads in files: DINOv2's published ones, the classifiers of its linear evaluation, and rtok's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rtok.checkpoints import read_checkpoint, state_dict, to_safetensors
from rtok.errors import UserError, nearest, some
from rtok.files import write_atomic
from rtok.heads.linear import LinearHead, layout_of

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone

BEST = "best"
# DINOv2's linear evaluation: `classifiers_dict.NAME.linear.weight` in model_final.pth, and beside it one line of JSON
# per evaluation, of which the last one counts: {"best_classifier": {"name": NAME, "accuracy": 0.81}}.
_PREFIX, _SUFFIX = "classifiers_dict.", ".linear"
RESULTS = "results_eval_linear.json"


def read_heads(path: Path, backbone: Backbone) -> dict[str, LinearHead]:
    """Read every head of a file, by name; the name is empty if the file holds a single one.

    Raises:
        UserError: unreadable, not a linear head, or a head without bias or for features of another width.
    """
    tensors = state_dict(read_checkpoint(path), path)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        owner, _, kind = key.rpartition(".")
        if kind not in ("weight", "bias"):
            raise _no_head(path, key)
        pairs.setdefault(owner, {})[kind] = tensor
    return {_name(owner, path): _head(pair, owner, backbone, path) for owner, pair in pairs.items()}


def choose_head(heads: Mapping[str, LinearHead], name: str | None, path: Path) -> LinearHead | None:
    """Return the head that `head.classifier` names; None if finding the `best` one takes images.

    Raises:
        UserError: there is no such head, or there are several and none was named.
    """
    if len(heads) == 1 and name in (None, BEST, *heads):
        return next(iter(heads.values()))
    if name == BEST:
        name = _best_on_file(path.with_name(RESULTS))
        if name is None:
            return None
    if name is None:
        raise UserError(
            f"{path} holds {len(heads)} classifiers: choose one with head.classifier, such as "
            f"{next(iter(heads))}, or the best of them with `best`."
        )
    if name not in heads:
        held = "one head without a name: leave the key out" if "" in heads else some(heads)
        raise UserError(f"head.classifier: {path} has no classifier '{name}'.{nearest(name, heads)} It holds {held}.")
    return heads[name]


def save_head(path: Path, head: LinearHead, about: Mapping[str, str]) -> None:
    """Write a head as safetensors (`weight` and `bias`), with `about`, what it was fitted on, as metadata."""
    tensors = {"weight": head.weight, "bias": head.bias}
    plain = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    write_atomic(path, to_safetensors(plain, {"format": "rtok-head-1", **about}))


def _head(pair: Mapping[str, Tensor], owner: str, backbone: Backbone, path: Path) -> LinearHead:
    where = f"{path} ({owner})" if owner else str(path)
    if len(pair) < 2:
        missing = "bias" if "weight" in pair else "weight"
        raise UserError(
            f"{where} is a head without a {missing}: give a linear head with weight (K, width) and bias (K,)."
        )
    if not all(tensor.is_floating_point() for tensor in pair.values()):
        raise UserError(f"{where} holds {pair['weight'].dtype} and {pair['bias'].dtype}: give floating-point numbers.")
    weight, bias = pair["weight"].float(), pair["bias"].float()
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        shapes = f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)}"
        raise UserError(f"{where} has {shapes}: a linear head has weight (K, width) and bias (K,).")
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise UserError(f"{where} holds NaN or infinity: its training diverged. Give another head.")
    return LinearHead(weight, bias, layout_of(weight.shape[1], backbone, where))


def _name(owner: str, path: Path) -> str:
    if owner in ("", "linear"):
        return ""
    if not (owner.startswith(_PREFIX) and owner.endswith(_SUFFIX)):
        raise _no_head(path, f"{owner}.weight")
    return owner[len(_PREFIX) : -len(_SUFFIX)]


def _no_head(path: Path, key: str) -> UserError:
    return UserError(
        f"{path} is not a linear head: it holds '{key}'. Give a file with weight and bias alone (DINOv2's "
        "published heads), a model_final.pth of its linear evaluation, or a head that rtok fitted."
    )


def _best_on_file(results: Path) -> str | None:
    """Return the name of the best classifier in the last recorded evaluation, or None."""
    try:
        lines = results.read_text().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(line)["best_classifier"]["name"])
    return None
