"""What a press of tab proposes, as a shell asks for it."""

from __future__ import annotations

import pytest

from rtok.cli.app import build


def proposed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    words = line.split(" ")
    monkeypatch.setenv("_RTOK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit):
        build()(prog_name="rtok")
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rtok doc", ["doctor"]),
        ("rtok train --config deit3_h", ["deit3_huge_patch14_224"]),
        ("rtok eval-features --config protocol", ["protocol-v1"]),
        ("rtok configs copy eval-class/deit3_s", ["eval-class/deit3_small_patch16_224"]),
        ("rtok train --set train.lr_", ["train.lr_schedule="]),
        ("rtok train --set precis", ["precision="]),
        ("rtok train --set model.name=dinov3_vitl", ["model.name=dinov3_vitl16"]),
        ("rtok train --set seed=", []),
        ("rtok train --set nothing.here", []),
        ("rtok train --model dinov2_vitg14_", ["dinov2_vitg14_reg"]),
        ("rtok convert a b --model openclip_vith", ["openclip_vith14"]),
    ],
)
def test_names_are_completed(
    line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert proposed(line, monkeypatch, capsys) == expected
