"""Defenses in repositories of the hub, of which a server on this machine plays the part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rtok.config.defenses import StackConfig
from rtok.config.load import load_config
from rtok.conversion.source import gather
from rtok.defenses import Stack, defense_files, load_defense, resolve_defenses
from rtok.defenses.tokens import RobustnessTokens
from rtok.errors import UserError
from rtok.inspection import inspect
from tests.hub import Hub

Start = Callable[[dict[str, bytes]], Hub]


@pytest.fixture
def file(tmp_path: Path) -> bytes:
    """A token file."""
    RobustnessTokens.draw(3, 64, backbone="dinov2_vits14").save(tmp_path / "made.safetensors")
    return (tmp_path / "made.safetensors").read_bytes()


def test_a_repository_stands_for_its_defenses(hub: Start, file: bytes) -> None:
    server = hub(
        {"rtokens-10.safetensors": file, "rtokens-5.safetensors": file, "other.safetensors": b"", "README.md": b""}
    )
    places = [Path(f"hf:someone/vit:rtokens-{count}.safetensors") for count in (5, 10)]
    assert defense_files(Path("hf:someone/vit")) == resolve_defenses([Path("hf:someone/vit")]) == places
    assert not [path for path in server.asked if "other" in path]
    with pytest.raises(
        UserError, match="hf:someone/vit holds 2 defenses; choose one of them: 'hf:someone/vit:rtokens-5"
    ):
        load_defense("hf:someone/vit")
    stack = load_defense(StackConfig(stack=places))
    assert isinstance(stack, Stack) and stack.count == 6


def test_every_command_that_reads_a_defense_takes_a_place(hub: Start, file: bytes) -> None:
    hub({"rtokens.safetensors": file})
    assert load_defense("hf:someone/vit@main").count == load_defense("hf-hub:someone/vit").count == 3
    assert inspect("hf:someone/vit")[0].facts["tokens"] == "3 of width 64"
    with pytest.raises(UserError, match="The pretrained weights of 'dinov2_vits14' could not be downloaded"):
        gather(Path("hf:someone/vit"))


def test_what_is_not_there_is_said_in_one_line(hub: Start, file: bytes) -> None:
    hub({"README.md": b"", "sub/rtokens.safetensors": file})
    for place, message in {
        "hf:someone/none": "hf:someone/none: the hub has no such repository, or none that you may read",
        "hf:someone/vit@v9": "hf:someone/vit@v9: the repository has no revision 'v9'.",
        "hf:someone/vit": r"hf:someone/vit holds no defense \(.*it was pushed without --with-tokens or --with-weights",
        "hf:someone/vit:rtokens.safetensors": "hf:someone/vit:rtokens.safetensors",
        "hf:someone": "hf:someone is not a place on the hub: write hf:USER/REPO, or hf:USER/REPO:FILE.",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            load_defense(place)
        assert "\n" not in str(caught.value)
    assert load_defense("hf:someone/vit:sub/rtokens.safetensors").count == 3


def test_offline_is_one_line_and_what_was_cached_is_read(
    hub: Start, file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtok.defenses.hub import _snapshot

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"could not be downloaded \(.*run `hf download someone/vit --local-dir DIR`"
    ) as caught:
        load_defense("hf:someone/vit")
    assert "\n" not in str(caught.value) and str(caught.value).endswith("where there is one, and give DIR instead.")
    hub({"rtokens.safetensors": file})
    load_defense("hf:someone/vit")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _snapshot.cache_clear()
    assert load_defense("hf:someone/vit").count == 3


def test_a_changed_file_is_refused(hub: Start, file: bytes) -> None:
    hub({"rtokens.safetensors": file})
    (place,) = defense_files(Path("hf:someone/vit"))
    from rtok.defenses.hub import local_file

    local_file(place).resolve().write_bytes(file[:-1] + b"x")
    with pytest.raises(UserError, match="does not have the SHA-256"):
        load_defense(place)


def test_a_config_keeps_the_place_as_it_was_written(tmp_path: Path, pictures: Path) -> None:
    base = ["model.name=dinov2_vits14", "data.name=folder", f"data.root={pictures}"]
    for written in ("hf:a/b", "hf:a/b@v1:c.safetensors", "[hf:a/b, {stack: [hf:a/b, 'hf:c/d:e.safetensors']}]"):
        config = load_config("eval-features", None, [*base, f"defense={written}"], tmp_path, files_must_exist=True)
        assert {str(path) for path in config.defense_paths} >= {written.split(",")[0].strip("[")}
        assert config == load_config("eval-features", None, [*base, f"defense={written}"], tmp_path)
    for wrong in ("hf:a", "{stack: [hf:a/b/c, x]}"):
        with pytest.raises(UserError, match="is not a place on the hub: write hf:USER/REPO"):
            load_config("eval-features", None, [*base, f"defense={wrong}"], tmp_path)
