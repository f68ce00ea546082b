from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.models.registry import all_specs


def test_the_table_names_every_backbone() -> None:
    done = CliRunner().invoke(build(), ["models"], env={"COLUMNS": "120"})
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    for spec in all_specs():
        [row] = [row for row in rows if row[:1] == [spec.name]]
        assert row[1:6] == [spec.family, *map(str, (spec.patch_size, spec.dim, spec.registers, spec.native_size))]


def test_a_pipe_gets_one_line_per_backbone_with_tabs() -> None:
    lines = CliRunner().invoke(build(), ["models"], env={"COLUMNS": "40"}).stdout.splitlines()
    assert lines[0].split("\t")[:2] == ["model.name", "family"]
    assert [line.split("\t")[0] for line in lines[1:]] == [spec.name for spec in all_specs()]


def test_a_terminal_of_80_columns_shows_every_word_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("rtok.cli.models.sys", terminal)
    shown = CliRunner().invoke(build(), ["models"], env={"COLUMNS": "80"}).stdout
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    words = shown.split()
    assert {"model.name", "registers", "params", *(spec.name for spec in all_specs())} <= set(words)
    assert len([line for line in shown.splitlines() if line.strip()]) == len(all_specs()) + 1


def test_a_search_lists_models_of_timm() -> None:
    lines = CliRunner().invoke(build(), ["models", "--search", "deit3_small_patch16_384"]).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        "model.name",
        "timm:deit3_small_patch16_384.fb_in1k",
        "timm:deit3_small_patch16_384.fb_in22k_ft_in1k",
    ]
    assert lines[1].split("\t")[5] == "384"


def test_a_search_without_a_plain_vit_says_so() -> None:
    done = CliRunner().invoke(build(), ["models", "--search", "resnet18"])
    assert done.exit_code == 2 and "--search resnet18: timm has 11 models of this name, and no plain ViT" in done.stderr
