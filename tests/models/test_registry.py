from __future__ import annotations

import subprocess
import sys

import pytest

from rtok.errors import UserError
from rtok.models.registry import all_specs, find


def test_the_names_of_the_contract() -> None:
    names = {spec.name for spec in all_specs()}
    assert {f"dinov2_vit{size}14{reg}" for size in "sblg" for reg in ("", "_reg")} <= names
    assert {f"deit3_{size}_patch16_224" for size in ("small", "base", "large")} <= names
    assert {"deit3_huge_patch14_224", *(f"openclip_vit{size}" for size in ("b32", "b16", "l14", "h14"))} <= names
    assert {f"dinov3_vit{size}16" for size in "sbl"} <= names


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no backbone 'dinov2_vits15'\. Did you mean 'dinov2_vits14'"):
        find("dinov2_vits15")


def test_finding_a_name_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from rtok.models.registry import all_specs, find; find('dinov3_vits16'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
