"""Gradients for attacks with bfloat16 products: two to three times as fast on processors that have such instructions.

Only the matrix products of the blocks are rounded. Pixels, the patch embedding, the sequence between blocks and every
norm stay in float32: an attack moves a pixel by less than bfloat16 can tell, and DINOv2 hides small changes behind a
few massive activations. (With the whole model in bfloat16, 15 steps of PGD at the paper's radius left a DINOv2 ViT-S/14
a cosine of 0.487 instead of 0.395, n = 16, one seed. With the products alone 0.385 instead of 0.380, over nine seeds,
between which it varies by 0.05.)
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtok.models.altered import with_modules
from rtok.models.frozen import answers_yes

# Up to so many tokens, attention by three batched products is faster on a CPU than the fused kernel (at 257 by a
# quarter of a PGD step); what it keeps for the backward pass grows with the square.
LONGEST_UNFUSED = 600

_exact: ContextVar[bool] = ContextVar("exact", default=False)


def pays(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices by instructions of its own, and faster than float32.

    On Intel's processors only AMX is: with avx512_bf16 alone, a product of a ViT-S took 29 ms instead of the 17 of
    float32 on a Xeon (one thread, oneDNN kept from AMX by `ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16`). On AMD's, avx512_bf16
    is twice as fast as float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if answers_yes(torch.cpu, "_is_amx_tile_supported"):
        return True
    return answers_yes(torch.cpu, "_is_avx512_bf16_supported") and not is_intels()


def is_intels(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether Intel made the processor."""
    try:
        maker = cpuinfo.read_text()
    except OSError:  # not Linux
        maker = platform.processor()
    return "GenuineIntel" in maker


@contextmanager
def exact_gradients() -> Iterator[None]:
    """Take gradients in full precision here, whatever the run's precision: for checks that the gradient is right."""
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def gradients_are_exact() -> bool:
    """Whether gradients are taken in full precision here, whatever the run's precision."""
    return _exact.get()


def asks_for_gradient(images: Tensor) -> bool:
    """Whether a pass is a step of an attack: it takes the gradient with respect to the images."""
    return images.requires_grad and torch.is_grad_enabled() and not gradients_are_exact()


def with_half_products(vit: Any, device: torch.device) -> Any:
    """Return a ViT of timm with the products of its blocks in bfloat16; it shares all else with the given one."""
    from rtok.models.half_layers import halved  # which imports timm: whoever has a model has done so

    tokens = vit.patch_embed.num_patches + vit.num_prefix_tokens
    unfused = device.type == "cpu" and tokens <= LONGEST_UNFUSED
    return with_modules(vit, {"blocks": halved(vit.blocks, unfused=unfused)})
