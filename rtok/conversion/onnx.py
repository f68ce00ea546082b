"""The ONNX format: from images in [0, 1] to features, for one image size and any batch size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtok.conversion.graph import Graph, joined
from rtok.conversion.model import DTYPES, RobustModel
from rtok.conversion.source import Source
from rtok.errors import UserError
from rtok.version import install

_SUFFIX = ".onnx"
# A protocol buffer holds at most 2 GiB, of which the graph itself takes a few MiB.
_LARGEST_FILE = 2**31 - 2**26


class Onnx:
    """One file that maps `images` to `cls` and `patches`, or to `embedding`.

    An ONNX file holds at most 2 GiB. The weights of larger models are stored in a second file beside it.
    """

    name = "onnx"
    reader = "onnxruntime"
    holds_entries = True
    computes_in = ("fp16",)  # onnxruntime has no bf16 on CPUs, so there the graph could not be compared
    merges = True

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that a conversion may write."""
        if out.suffix != _SUFFIX:
            raise UserError(f"'{out}': the name of an ONNX file ends in {_SUFFIX}.")
        return [out, _weights_file(out)]

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size of the graph's input: by default the one that the defense was trained at."""
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"--to onnx needs onnx, onnxscript and onnxruntime, but '{error.name}' is not installed: "
                f"{install('convert')}."
            ) from error
        return wanted or source.trained_size

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Return the source as it is: the graph is traced from the backbone itself."""
        return source

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the graph; in fp16 its transformer computes in half precision, in bf16 it only stores weights so."""
        import onnx

        half = model.dtype in self.computes_in
        graph = trace(Graph.of(model, torch.float16 if half else torch.float32))
        if not half:
            _store_weights(graph.graph, model.dtype)
        metadata = model.metadata(self.name, image_size=model.backbone.image_size)
        onnx.helper.set_model_props(graph, metadata)
        # `ByteSize` cannot be used: it fails for graphs that are too large
        large = sum(len(weight.raw_data) for weight in graph.graph.initializer) > _LARGEST_FILE
        onnx.save_model(graph, path, save_as_external_data=large, location=_weights_file(path).name)

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Open the file in onnxruntime and return what computes its features."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def features(images: Tensor) -> Tensor:
            return joined([torch.from_numpy(array) for array in session.run(None, {"images": images.numpy()})])

        return features

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the file."""
        return f'onnxruntime.InferenceSession("{out}").run(None, {{"images": images}})  # in [0, 1]'


def trace(graph: Graph) -> Any:
    """Return the ONNX model of a graph."""
    program = torch.onnx.export(
        graph,
        graph.example,
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["embedding"] if graph.backbone.kind == "embedding" else ["cls", "patches"],
        dynamic_shapes=graph.dynamic_shapes,
    )
    assert program is not None
    return program.model_proto


def _store_weights(graph: Any, dtype: str) -> None:
    """Store each weight in the type, followed by a cast, if that is exact; arithmetic stays float32.

    Float32 numbers computed from weights (a resampled position grid, constants of the graph) are left unchanged.
    """
    import onnx

    if dtype == "fp32":
        return
    casts = []
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT:
            continue
        values = torch.from_numpy(onnx.numpy_helper.to_array(weight).copy())
        half = values.to(DTYPES[dtype])
        if torch.equal(half.float(), values):
            name, raw = weight.name, half.view(torch.int16).numpy().tobytes()
            weight.CopyFrom(
                onnx.helper.make_tensor(f"{name}.{dtype}", onnx.TensorProto.BFLOAT16, half.shape, raw, raw=True)
            )
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _weights_file(path: Path) -> Path:
    return path.with_name(path.name + ".data")
