"""transformers' format: a folder for `from_pretrained` of `Dinov2WithRegistersModel` or `DINOv3ViTModel`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rtok.conversion import official
from rtok.conversion.dinov2 import is_swiglu
from rtok.conversion.dinov3 import is_gated
from rtok.conversion.model import DTYPES, RobustModel
from rtok.conversion.source import Source
from rtok.errors import UserError
from rtok.models.naming import dinov2, dinov3
from rtok.models.naming.rules import Naming
from rtok.models.weights import translate_back
from rtok.release import KEY, description
from rtok.version import install

_CLASSES = {"dinov2": "Dinov2WithRegistersModel", "dinov3": "DINOv3ViTModel"}
_WITHOUT_REGISTERS = "Dinov2Model"
_FILES = (".onnx", ".pt", ".pth", ".safetensors")
_BICUBIC = 3  # of PIL and torchvision
_REGISTERS = "embeddings.register_tokens"
_MASK_TOKEN = "embeddings.mask_token"


class Transformers:
    """A folder with `config.json`, `preprocessor_config.json` and `model.safetensors`."""

    name = "transformers"
    reader = "transformers"
    holds_entries = False
    computes_in = ()
    merges = True

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that a conversion writes, in a folder."""
        if out.suffix in _FILES:
            raise UserError(f"'{out}': this format is a folder: leave {out.suffix} out, or choose another with --to.")
        return [out / "model.safetensors", out / "config.json", out / "preprocessor_config.json"]

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size that the file's position grid is made for."""
        if source.spec.family not in _CLASSES:
            raise UserError(
                f"transformers has no model with registers for '{source.spec.name}' ({source.spec.family}), "
                f"only for {' and '.join(_CLASSES)}. Use --to timm or --to onnx."
            )
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"--to transformers needs the package transformers, to read the files back: {install('convert')}."
            ) from error
        return source.square_size(wanted)

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Resample the positions for the size and rename the weights as in transformers."""
        tensors = dict(source.backbone(image_size).vit.state_dict())
        naming = _naming(source)
        mask = official.mask_token(source)
        state = translate_back(tensors, naming)
        state[_MASK_TOKEN] = mask[None] if source.spec.family == "dinov3" else mask
        weights = replace(source.weights, tensors=tensors, source=state, naming=naming)
        return replace(source, spec=replace(source.spec, native_size=image_size[0]), weights=weights)

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the folder, with the metadata in both files."""
        path.mkdir()
        metadata = model.metadata(self.name, image_size=model.backbone.image_size)
        config = {**_config(model), KEY: description(metadata)}
        (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (path / "preprocessor_config.json").write_text(json.dumps(_preprocessor(model), indent=2) + "\n")
        # transformers requires the format "pt"
        save_file(model.with_tokens(_REGISTERS), path / "model.safetensors", metadata={"format": "pt", **metadata})

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Load the folder strictly; return what computes the features without registers."""
        return self.features_of(self.load(path, model), model)

    def load(self, path: Path, model: RobustModel) -> Any:
        """Load the folder strictly."""
        import transformers

        cls = getattr(transformers, class_name(model))
        transformers.utils.logging.disable_progress_bar()
        vit, report = cls.from_pretrained(path, dtype=torch.float32, output_loading_info=True, local_files_only=True)
        problems = {what: list(keys) for what, keys in report.items() if keys}
        if problems:
            raise RuntimeError(f"transformers cannot load the folder strictly: {problems}")
        return vit.eval()

    def features_of(self, vit: Any, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Return what computes the features of transformers' model without registers."""

        def features(images: Tensor) -> Tensor:
            with torch.no_grad():
                sequence = vit(pixel_values=model.normalize(images)).last_hidden_state
            return torch.cat([sequence[:, :1], sequence[:, 1 + model.registers :]], dim=1)

        return features

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the folder."""
        load = f'transformers.{class_name(model)}.from_pretrained("{out}")'
        return f"{load}  # pixel_values from AutoImageProcessor; patches from position {model.first_patch} on"


def class_name(model: RobustModel) -> str:
    """Return the name of transformers' class, which for DINOv2 differs with and without registers."""
    family = model.source.spec.family
    return _WITHOUT_REGISTERS if family == "dinov2" and model.registers == 0 else _CLASSES[family]


def _naming(source: Source) -> Naming:
    tensors = source.weights.tensors
    if source.spec.family == "dinov3":
        return dinov3.transformers(swiglu=is_gated(tensors))
    return dinov2.transformers(registers=source.spec.registers > 0, swiglu=is_swiglu(tensors))


def _preprocessor(model: RobustModel) -> dict[str, Any]:
    """Return the `preprocessor_config.json`: resize the short side, crop the center, normalize."""
    side = model.backbone.image_size[0]
    return {
        "image_processor_type": "BitImageProcessor",  # that of DINOv2's models
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": model.backbone.mean.flatten().tolist(),
        "image_std": model.backbone.std.flatten().tolist(),
    }


def _config(model: RobustModel) -> dict[str, Any]:
    """Return the model's `config.json`."""
    spec, vit, tensors = model.source.spec, model.backbone.vit, model.source.weights.tensors
    plain = class_name(model) == _WITHOUT_REGISTERS
    common = {
        "architectures": [class_name(model)],
        "dtype": str(DTYPES[model.dtype]).removeprefix("torch."),
        "hidden_size": spec.dim,
        "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": vit.blocks[0].attn.num_heads,
        **({} if plain else {"num_register_tokens": model.registers}),
        "image_size": model.backbone.image_size[0],
        "patch_size": spec.patch_size,
        "layer_norm_eps": vit.norm.eps,
    }
    if spec.family == "dinov2":
        return {
            "model_type": "dinov2" if plain else "dinov2_with_registers",
            **common,
            "mlp_ratio": 4,  # for every DINOv2 model; with SwiGLU, transformers multiplies it by 2/3
            "use_swiglu_ffn": is_swiglu(tensors),
        }
    gated, bias = is_gated(tensors), "blocks.0.attn.q_bias" in tensors
    return {
        "model_type": "dinov3_vit",
        **common,
        "intermediate_size": tensors["blocks.0.mlp.fc2.weight"].shape[1],
        "hidden_act": "silu" if gated else "gelu",
        "use_gated_mlp": gated,
        "query_bias": bias,
        "key_bias": False,
        "value_bias": bias,
        "rope_theta": vit.rope.temperature,
    }
