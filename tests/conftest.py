"""Shared by all tests: one thread, no network, small backbones and a few pictures."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # small tensors are a hundred times slower with two OpenMP threads
os.environ["ACCELERATE_USE_CPU"] = "true"

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.hub import Hub
from tests.tiny import Tiny, tiny_maker

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Set how many threads torch has, until the test ends."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers, and the plugin files that it loads, are forgotten after it."""
    from rtok.config.registry import ATTACKS, DATASETS, DEFENSES, THREATS
    from rtok.models import registry as backbones

    registries = (ATTACKS, DATASETS, DEFENSES, THREATS)
    before, modules = [list(registry) for registry in registries], set(sys.modules)
    monkeypatch.setattr(backbones, "_BY_NAME", dict(backbones._BY_NAME))
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry).difference(names):
            registry.remove(name)
    for name in set(sys.modules).difference(modules):
        if name.startswith("rtok_plugin_"):
            del sys.modules[name]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, bytes]], Hub]]:
    """Start a hub with these files in the repository someone/vit, and an empty cache."""
    hubs: list[Hub] = []

    def start(files: dict[str, bytes]) -> Hub:
        hubs.append(Hub(files))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hubs[-1].address)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hubs[-1].address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            hubs[-1].address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # another protocol
        _snapshot.cache_clear()
        return hubs[-1]

    from rtok.defenses.hub import _snapshot

    _snapshot.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield start
    for one in hubs:
        one.server.shutdown()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a DINOv2 ViT-S/14, random but with blocks that do something, in timm naming."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    vit = timm.create_model("vit_small_patch14_dinov2", img_size=518, num_classes=0)
    state = vit.state_dict()
    for name, tensor in state.items():
        if name.endswith("gamma"):  # layer scale starts at 1e-5, which would leave the blocks without effect
            tensor.fill_(0.5)
        elif name in ("cls_token", "pos_embed"):
            tensor.normal_(std=0.5)
        elif tensor.ndim > 1:
            tensor.mul_(3)
    path = tmp_path_factory.mktemp("weights") / "vits14.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seven small pictures, smooth enough for an attack to matter."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for i in range(7):
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((40, 32 + i), Image.Resampling.BICUBIC).save(folder / f"picture{i}.png")
    return folder


@pytest.fixture
def settings(weights: Path, pictures: Path, tmp_path: Path) -> dict[str, Any]:
    """A config that runs in a second: 28 px (2 x 2 patches), three PGD steps, no checks of the attack."""
    return {
        "model": {"name": "dinov2_vits14", "weights": str(weights), "image_size": 28},
        "data": {"name": "folder", "root": str(pictures), "workers": 0},
        "attack": {"preset": "paper", "steps": 3},
        "sanity": {"images": 0},
        "out": str(tmp_path / "run"),
    }


@pytest.fixture
def run_rtok() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own, as users do; `processes`: as many, through torchrun."""

    def run(*arguments: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
        launcher = [sys.executable, "-m"]
        if processes > 1:
            launcher += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
        command = [*launcher, "rtok", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Tiny]:
    """Make two-block members of any family."""
    return tiny_maker(tmp_path)
