"""What is known of the machine that a run ran on, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

from rtok.sharing.public import Renaming, without_places


def test_places_are_left_out_and_everything_else_is_kept() -> None:
    settings = {
        "model": {"name": "timm:hf-hub:a/b", "weights": "/home/anna/w/vit.pth", "image_size": [28, 42]},
        "data": {"name": "folder", "root": "photos", "repo": "user/set", "extra": None},
        "attack": [{"eps": "8/255", "from": "/tmp/x"}, {"eps": 0.5}],
        "defense": {"stack": ["results/a/b.safetensors", "hf:a/b:c.safetensors", "C:\\anna\\d.safetensors"]},
        "out": "run",
    }
    kept, hidden = without_places(settings)
    assert kept == {
        "model": {"name": "timm:hf-hub:a/b", "weights": "vit.pth", "image_size": [28, 42]},
        "data": {"name": "folder", "repo": "user/set", "extra": None},
        "attack": [{"eps": "8/255"}, {"eps": 0.5}],
        "defense": {"stack": ["b.safetensors", "hf:a/b:c.safetensors", "d.safetensors"]},
    }
    assert set(hidden) == {
        *("/home/anna/w/vit.pth", "photos", "/tmp/x", "results/a/b.safetensors", "C:\\anna\\d.safetensors", "run")
    }


def test_texts_name_files_as_the_repository_does(tmp_path: Path) -> None:
    files = {"results/a/rtokens.safetensors": "rtokens-run1.safetensors", "b/x": "rtokens-run2.safetensors"}
    renamed = Renaming.of(tmp_path / "run", files, ["/data/head.pth", "1/2", "results/a"])
    assert renamed(
        {
            "defense results/a/rtokens.safetensors": ["results/a/rtokens.safetensors + b/x"],
            "surrogate": f"dinov2_vits14 + {Path.cwd()}/b/x",
            "head": f"/data/head.pth in {tmp_path}/run/heads",
            "home": f"{Path.home()}/y",
            "text": "Linf radius 1/255, 11/2, xb/x",
            "number": 1.5,
        }
    ) == {
        "defense rtokens-run1.safetensors": ["rtokens-run1.safetensors + rtokens-run2.safetensors"],
        "surrogate": "dinov2_vits14 + rtokens-run2.safetensors",
        "head": "head.pth in run/heads",
        "home": "~/y",
        "text": "Linf radius 1/255, 11/2, xb/x",
        "number": 1.5,
    }
