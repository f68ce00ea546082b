"""The torch.export format: a graph that torch runs, compiles and serves without rtok or timm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rtok.conversion.graph import Graph, joined
from rtok.conversion.model import DTYPES, RobustModel
from rtok.conversion.source import Source
from rtok.errors import UserError

_SUFFIX = ".pt2"
ABOUT = "rtok.json"  # inside the file: what it is


class TorchExport:
    """One `.pt2` file that maps images in [0, 1] to the class token and patches, or to an embedding."""

    name = "torch-export"
    reader = "torch.export"
    holds_entries = True
    merges = True
    computes_in = ("fp16", "bf16")

    def outputs(self, out: Path) -> list[Path]:
        """Return the file."""
        if out.suffix != _SUFFIX:
            raise UserError(f"'{out}': the name of a torch.export file ends in {_SUFFIX}.")
        return [out]

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size of the graph's input: by default the one that the defense was trained at."""
        return wanted or source.trained_size

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Return the source as it is: the graph is traced from the backbone itself."""
        return source

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the graph, which computes in the file's type."""
        graph = Graph.of(model, DTYPES[model.dtype])
        program = torch.export.export(graph, graph.example, dynamic_shapes=graph.dynamic_shapes)
        about = json.dumps(model.metadata(self.name, image_size=model.backbone.image_size))
        torch.export.save(program, path, extra_files={ABOUT: about})

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Load the graph and return what computes its features."""
        run = torch.export.load(path).module()

        def features(images: Tensor) -> Tensor:
            with torch.no_grad():
                return joined(run(images))

        return features

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the file."""
        return f'torch.export.load("{out}").module()(images)  # in [0, 1]'
