"""Read checkpoint files from untrusted sources, without ever running code in them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from rtok.errors import UserError, some

# The keys of the weights inside a training checkpoint: DeiT and many others, Lightning, DINOv2's trainer.
_WRAPPERS = ("model", "state_dict", "teacher")
# The prefixes that data-parallel and self-distillation wrappers give to every key.
_PREFIXES = ("module.", "backbone.")


class Checkpoint(dict[str, Any]):
    """The content of a file, by name; `metadata` is how the file describes itself.

    Safetensors files have a metadata section. A pickled state dict has the `_metadata` of `nn.Module.state_dict()`,
    which leaves its keys those of the model.
    """

    def __init__(self, content: Mapping[Any, Any], metadata: Mapping[str, str]) -> None:
        super().__init__({str(name): value for name, value in content.items()})
        self.metadata = dict(metadata)


def read_checkpoint(path: Path, *, shapes_only: bool = False) -> Checkpoint:
    """Read a `.pth`, `.pt`, `.ckpt` or `.safetensors` file onto the CPU; `shapes_only`: onto the meta device.

    Raises:
        UserError: the file is missing, damaged or not a dictionary, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"There is no file '{path}'. Give the path of a .pth, .pt or .safetensors file.")
    try:
        content = (_read_safetensors if path.suffix == ".safetensors" else _read_torch)(path, shapes_only)
    except Exception as error:  # flipped bytes alone make the readers raise eight different types
        raise UserError(
            f"'{path}' cannot be read: it is damaged or cut short, or it holds Python objects, "
            "which rtok never runs. Download it again, or save its state dict alone."
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"'{path}' holds a {type(content).__name__}, not a state dict (names and tensors).")
    return content if isinstance(content, Checkpoint) else Checkpoint(content, _module_metadata(content))


def state_dict(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under their own names, as a new dictionary.

    One wrapper is removed (`model`, `state_dict` or `teacher`), then the prefixes `module.` and `backbone.` if every
    key has them. Nothing else is guessed.

    Raises:
        UserError: the rest is not a dictionary of tensors; the message names the file.
    """
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    others = [f"'{name}'" for name, value in content.items() if not is_plain(value)]
    if others or not content:
        found = f"it holds {some(others)} beside tensors" if others else "it is empty"
        raise UserError(
            f"'{path}' is not a state dict: {found}. Save the tensors alone, or under one of {', '.join(_WRAPPERS)}."
        )
    tensors = {name: value.detach() for name, value in content.items()}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def is_plain(value: object) -> bool:
    """Whether it is a plain dense tensor: not sparse, not quantized."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized


def find_tensor(content: Mapping[str, Any], key: str) -> Tensor | None:
    """Return the one plain tensor of that name, at the top of a checkpoint or under `state_dict`, or None."""
    found = [value for name, value in _entries(content) if name == key]
    return found[0] if len(found) == 1 and is_plain(found[0]) else None


def whole_model(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the backbone's weights in a model with tokens (`model.*`); an empty dictionary for other content."""
    return {
        name.removeprefix("model."): value
        for name, value in _entries(content)
        if name.startswith("model.") and isinstance(value, Tensor)
    }


def beside_model(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the plain tensors that are not a backbone's in a model with a defense: all but `whole_model`."""
    return {name: value for name, value in _entries(content) if is_plain(value) and not name.startswith("model.")}


def is_vision_model(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint seems to hold the weights of a model of images: one convolves three channels."""
    found = [content, *(content[wrapper] for wrapper in _WRAPPERS if isinstance(content.get(wrapper), Mapping))]
    values = (value for part in found for value in part.values())
    return any(is_plain(value) and value.ndim == 4 and value.shape[1] == 3 for value in values)


def to_safetensors(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file, deterministic in the tensors and the metadata.

    The library itself writes metadata in an order that changes from one process to the next.
    """
    data = save(tensors, metadata=dict(metadata))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


def _entries(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The content by name, out of the wrappers that training code puts around a model with a defense."""
    inner = content.get("state_dict")
    entries = inner if isinstance(inner, Mapping) else content
    return [(str(name).removeprefix("module."), value) for name, value in entries.items()]


def _read_safetensors(path: Path, shapes_only: bool) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if shapes_only:
            shapes = {name: file.get_slice(name).get_shape() for name in names}
            tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        else:
            tensors = {name: file.get_tensor(name) for name in names}
        return Checkpoint(tensors, file.metadata() or {})


def _module_metadata(content: Mapping[Any, Any]) -> dict[str, str]:
    """Return the texts in the `_metadata` of a state dict, which may be inside a wrapper."""
    found: dict[str, str] = {}
    for state in (content, *(content.get(wrapper) for wrapper in _WRAPPERS)):
        modules = getattr(state, "_metadata", None)
        for entry in modules.values() if isinstance(modules, Mapping) else ():
            if isinstance(entry, Mapping):
                found.update({key: value for key, value in entry.items() if isinstance(value, str)})
    return found


def _read_torch(path: Path, shapes_only: bool) -> Any:
    archived = zipfile.is_zipfile(path)
    if archived:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("torch never compresses: this may be a decompression bomb")
    where = "meta" if shapes_only else "cpu"
    return torch.load(path, map_location=where, mmap=shapes_only and archived, weights_only=True)
