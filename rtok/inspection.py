"""What is in a checkpoint: its kind, backbone, tokens, tensors, and how it was made."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from rtok.errors import UserError
from rtok.models.locations import is_on_hub
from rtok.release import TOKENS_FORMAT, TOKENS_KEY, description, made_with, parse_made_for
from rtok.version import install

# torch and timm take seconds to import, so each is imported by what needs it.
if TYPE_CHECKING:
    from torch import Tensor

    from rtok.checkpoints import Checkpoint

_NONE = "none that `rtok models` lists"


@dataclass(frozen=True)
class Inspection:
    """What is in a file.

    Attributes:
        kind: what the file is, in a few words.
        facts: everything else that is known about it, by label.
        tensors: name, shape and type, one line each; the blocks of a transformer share a line.
        config: the config that the tokens were trained with, if the file has it.
    """

    path: Path
    kind: str
    facts: dict[str, str] = field(default_factory=dict)
    tensors: list[tuple[str, str, str]] = field(default_factory=list)
    config: Mapping[str, Any] = field(default_factory=dict)


def inspect(path: str | Path) -> list[Inspection]:
    """Return what is in a file, in each defense of a run folder or of the hub, or in a transformers folder's weights.

    Raises:
        UserError: the file does not exist, is damaged, or holds no tensors.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return [_onnx(path)]
    if path.suffix == ".pt2":
        return [_exported(path)]
    if (path / "model.safetensors").is_file():
        path = path / "model.safetensors"
    files = [path]
    if path.is_dir() or is_on_hub(path):
        from rtok.defenses import defense_files
        from rtok.defenses.hub import local_file

        files = [local_file(file) for file in defense_files(path)]
    return [_token_file(file) or _checkpoint(file) for file in files]


def _token_file(path: Path) -> Inspection | None:
    """Describe a token file of ours from its header alone, and nothing else."""
    if not path.is_file():  # a pipe would be waited for, forever
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            about, names = file.metadata() or {}, list(file.keys())
            if about.get("format") != TOKENS_FORMAT or names != [TOKENS_KEY]:
                return None
            values = file.get_slice(TOKENS_KEY)
            shape, kind = tuple(values.get_shape()), values.get_dtype()
    except (OSError, SafetensorError):
        return None  # another file, or a damaged one
    if kind != "F32" or len(shape) != 3 or shape[0] != 1:
        return None
    made = parse_made_for(about, path)
    facts = _token_facts(made, *shape[1:], backbone="not named in the file")
    return Inspection(path, "robustness tokens", facts, [(TOKENS_KEY, str(shape), "float32")], made["config"])


def _checkpoint(path: Path) -> Inspection:
    from rtok.checkpoints import read_checkpoint, state_dict, whole_model
    from rtok.config.defenses import DEFENSES, STACK
    from rtok.defenses import RobustnessTokens

    content = read_checkpoint(path)
    inside = whole_model(content)
    about = description(content.metadata)
    if about is not None and about["target"] != "robustify":
        rows = _rows(state_dict(content, path))
        try:
            return _robust(path, about, rows)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"'{path}' has damaged metadata under 'rtok'. Convert the model again.") from error
    kind = made_with(content.metadata).get("kind", RobustnessTokens.kind)
    if kind != RobustnessTokens.kind and (kind in DEFENSES or kind == STACK):
        return _defense(path, content, inside)
    try:
        tokens = RobustnessTokens.parse(content, path)
    except UserError:
        return _other(path, content)
    kind, backbone = "robustness tokens", "not named in the file"
    if inside:
        kind = "whole model with robustness tokens" + (" (rtok.robustify)" if about else "")
        backbone = tokens.backbone or _backbones(inside, path)
    facts = _token_facts(vars(tokens), tokens.count, tokens.dim, backbone=backbone)
    rows = _rows({TOKENS_KEY: tokens.values, **{f"model.{name}": t for name, t in inside.items()}})
    return Inspection(path, kind, facts, rows, tokens.config)


def _defense(path: Path, content: Checkpoint, inside: Mapping[str, Tensor]) -> Inspection:
    """Describe a defense of another kind than tokens, alone or inside a model of `rtok.robustify`."""
    from rtok.defenses.files import parse_defense

    defense = parse_defense(content, path)
    parameters = defense.parameters()
    form = {key: value for key, value in defense.settings().items() if key != "kind"}
    facts = {
        "backbone": defense.backbone or (_backbones(inside, path) if inside else "not named in the file"),
        **({"weights": defense.fingerprint} if defense.fingerprint else {}),
        **{key: " ".join(map(str, v)) if isinstance(v, tuple) else f"{v}" for key, v in form.items()},
        "parameters": f"{sum(values.numel() for values in parameters.values()):,}",
        **_trained_at(defense.image_size),
        **({"made by": f"rtok {defense.version}"} if defense.version else {}),
    }
    kind = f"whole model with {defense.noun} (rtok.robustify)" if inside else f"{defense.noun} ({defense.kind})"
    rows = _rows({**parameters, **{f"model.{name}": tensor for name, tensor in inside.items()}})
    return Inspection(path, kind, facts, rows, defense.config)


def _robust(path: Path, about: Mapping[str, Any], rows: list[tuple[str, str, str]]) -> Inspection:
    """A file that `rtok convert` wrote."""
    tokens, size = about["tokens"], about.get("image_size")
    facts = {
        "backbone": about["backbone"],
        "weights": about["fingerprint"],
        **_inside(tokens, about["registers"]),
        **({"made for": f"{size[0]} x {size[1]} px"} if size else {}),
        **_trained_at(json.loads(tokens["image_size"])),
        "stored as": about["dtype"],
        "mean, std": f"{_numbers(about['mean'])}, {_numbers(about['std'])}",
        "made by": f"rtok {about['rtok_version']}",
    }
    if "timm" in about:
        name, kwargs = about["timm"]
        facts["timm"] = f"{name}({', '.join(f'{key}={value!r}' for key, value in kwargs.items())})"
    return Inspection(path, f"robust model ({about['target']} format)", facts, rows, json.loads(tokens["config"]))


def _inside(defense: Mapping[str, str], registers: int) -> dict[str, str]:
    """Say what defense a converted model has: tokens come after the model's own registers."""
    if defense["format"] != TOKENS_FORMAT:
        return {"defense": defense["kind"]}
    return {"tokens": f"{defense['n']} of width {defense['dim']}, after {registers} registers of the model"}


def _token_facts(made: Mapping[str, Any], count: int, dim: int, *, backbone: str) -> dict[str, str]:
    """Say what tokens are made for; `backbone` is what to say where the file does not name it."""
    return {
        "backbone": made["backbone"] or backbone,
        **({"weights": made["fingerprint"]} if made["fingerprint"] else {}),
        "tokens": f"{count} of width {dim}",
        **_trained_at(made["image_size"]),
        **({"made by": f"rtok {made['version']}"} if made["version"] else {}),
    }


def _other(path: Path, content: Checkpoint) -> Inspection:
    """A file without tokens."""
    from torch import Tensor

    from rtok.checkpoints import state_dict

    inner = content.get("state_dict")
    tensors = {
        str(name): tensor
        for name, tensor in (inner if isinstance(inner, Mapping) else content).items()
        if isinstance(tensor, Tensor)
    }
    weight = tensors.get("weight", tensors.get("linear.weight"))
    convolution = tensors.get("decode_head.conv_seg.weight")
    if convolution is not None:
        facts = {"head": f"{convolution.shape[0]} classes, features of width {convolution.shape[1]}"}
        return Inspection(path, "segmentation head", facts, _rows(tensors))
    if weight is not None and weight.ndim == 2 and len(tensors) == 2:
        facts = {"head": f"{weight.shape[0]} classes, inputs of width {weight.shape[1]}"}
        own = {name: text for name, text in content.metadata.items() if name != "format"}
        return Inspection(path, "linear head", {**facts, **own}, _rows(tensors))
    if any(name.startswith("classifiers_dict.") for name in tensors):
        facts = {"heads": str(len(tensors) // 2)}
        return Inspection(path, "linear heads of DINOv2's evaluation", facts, _rows(tensors))
    state = state_dict(content, path)
    return Inspection(path, "backbone weights", {"backbone": _backbones(state, path)}, _rows(state))


def _onnx(path: Path) -> Inspection:
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"Reading '{path}' needs the package onnx: {install('convert')}.") from error
    if not path.is_file():
        raise UserError(f"There is no file '{path}'.")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors differ between its implementations
        raise UserError(f"'{path}' cannot be read: it is damaged or not an ONNX file.") from error
    rows = [
        (value.name, _shape(value.type.tensor_type), role)
        for role, values in (("input", model.graph.input), ("output", model.graph.output))
        for value in values
    ]
    about = description({entry.key: entry.value for entry in model.metadata_props})
    if about is None:
        return Inspection(path, "ONNX model without robustness tokens", {}, rows)
    return _robust(path, about, rows)


def _exported(path: Path) -> Inspection:
    """Describe a torch.export file of ours from what it says of itself: its graph is not loaded."""
    if not path.is_file():
        raise UserError(f"There is no file '{path}'.")
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("extra/rtok.json")]
            about = description(json.loads(archive.read(name)))
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError) as error:
        raise UserError(f"'{path}' is damaged, or not a torch.export file that rtok wrote.") from error
    if about is None:
        raise UserError(f"'{path}' is damaged, or not a torch.export file that rtok wrote.")
    return _robust(path, about, [])


def _backbones(state: Mapping[str, Tensor], path: Path) -> str:
    from rtok.models.identify import identify

    found = identify(state, path)
    return " or ".join(f"{spec.name} ({weights.naming.name} naming)" for spec, weights in found) or _NONE


def _rows(tensors: Mapping[str, Tensor]) -> list[tuple[str, str, str]]:
    """Return one line for all tensors that differ only in the number of their block."""
    counts = Counter(
        (re.sub(r"\.\d+\.", ".*.", name), str(tuple(t.shape)), str(t.dtype).removeprefix("torch."))
        for name, t in tensors.items()
    )
    return [(f"{name}  x {count}" if count > 1 else name, shape, kind) for (name, shape, kind), count in counts.items()]


def _shape(kind: Any) -> str:
    return "(" + ", ".join(d.dim_param or str(d.dim_value) for d in kind.shape.dim) + ")"


def _trained_at(size: tuple[int, int] | None) -> dict[str, str]:
    return {"trained at": f"{size[0]} x {size[1]} px"} if size else {}


def _numbers(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
