"""PEFT's format: a folder with a LoRA alone, for `PeftModel.from_pretrained` on transformers' model of the backbone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rtok.conversion.model import RobustModel
from rtok.conversion.source import Source
from rtok.conversion.transformers import Transformers, class_name
from rtok.defenses.lora import LoRA
from rtok.errors import UserError
from rtok.version import install

_PREFIX = "base_model.model."  # PEFT's, before the name of each layer


class Peft:
    """A folder with `adapter_config.json` and `adapter_model.safetensors`."""

    name = "peft"
    reader = "peft"
    holds_entries = True
    merges = False
    computes_in = ()
    base = Transformers()

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that a conversion writes, in a folder."""
        self.base.outputs(out)
        return [out / "adapter_model.safetensors", out / "adapter_config.json"]

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size at which features are compared: the file has none."""
        if not isinstance(source.defense, LoRA):
            raise UserError(f"--to peft cannot hold {source.defense.noun}: an adapter of PEFT is a LoRA.")
        if wanted is not None:
            raise UserError("--image-size has no effect with --to peft: an adapter fits the model at every size.")
        native = self.base.image_size(source, None)
        try:
            import peft  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"--to peft needs the package peft, to read the adapter back: {install('convert')}."
            ) from error
        height, width = source.trained_size
        return (height, width) if height == width else native

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Rename the backbone's weights as in transformers, for the model that the adapter is tried on."""
        return self.base.arrange(source, image_size)

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the folder."""
        defense = model.source.defense
        assert isinstance(defense, LoRA)
        tensors, layers = dict[str, Tensor](), self._load_base(model)
        for name, down, up in _adapter(model, defense, layers):
            tensors[f"{_PREFIX}{name}.lora_A.weight"] = model.stored(down).clone()  # shared by query, key and value
            tensors[f"{_PREFIX}{name}.lora_B.weight"] = model.stored(up).clone()
        names = [key.removeprefix(_PREFIX).removesuffix(".lora_A.weight") for key in tensors if ".lora_A." in key]
        config = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": None,
            "inference_mode": True,
            "r": defense.rank,
            "lora_alpha": int(defense.alpha) if defense.alpha.is_integer() else defense.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": names,
        }
        path.mkdir()
        (path / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt", **model.metadata(self.name)})

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Load the folder into transformers' model; return what computes the features without registers."""
        import peft

        adapted: Any = peft.PeftModel.from_pretrained(self._load_base(model), path)
        return self.base.features_of(adapted.eval(), model)

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the folder."""
        base = f"transformers.{class_name(model)}.from_pretrained(...)"
        return f'peft.PeftModel.from_pretrained({base}, "{out}")  # on the weights it was trained on'

    def _load_base(self, model: RobustModel) -> Any:
        """Build transformers' model of the backbone, as its own format stores it."""
        with tempfile.TemporaryDirectory() as folder:
            self.base.write(model, Path(folder) / "base")
            return self.base.load(Path(folder) / "base", model)


def _adapter(model: RobustModel, defense: LoRA, theirs: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name of each changed layer in transformers' model, with its A and B.

    Its names changed from one version to the next, and it splits layers that timm fuses, so a layer is found by its
    weight: some rows of one of timm's, which the same rows of B change.
    """
    linears = {name: layer for name, layer in theirs.named_modules() if isinstance(layer, nn.Linear)}
    for block, layers in defense.entry().factors.items():
        for path, (down, up) in layers.items():
            weight, covered = model.source.weights.tensors[f"blocks.{block}.{path}.weight"], 0
            for name, layer in linears.items():
                first = _place(layer.weight, weight)
                if first is not None:
                    covered += layer.out_features
                    yield name, down, up[first : first + layer.out_features]
            if covered != len(weight):
                raise RuntimeError(f"transformers' model has no layers that block {block}'s {path} of timm is made of")


def _place(part: Tensor, whole: Tensor) -> int | None:
    """The row of a weight (out, in) from which on another one is in it, or None."""
    if part.shape[1] != whole.shape[1]:
        return None
    starts = range(0, len(whole) - len(part) + 1, len(part))
    return next((first for first in starts if torch.equal(part, whole[first : first + len(part)])), None)
