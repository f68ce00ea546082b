from pathlib import Path

import pytest
from pydantic import ValidationError

from rtok.config import HeadConfig

BOTH = {"plain": "p", "robust": ["a", "b"]}


@pytest.mark.parametrize(
    ("written", "victims", "plain", "robust"),
    [
        ({"path": "p"}, ("plain",), Path("p"), []),
        ({"path": {"plain": "p", "robust": "r"}}, ("plain", "robust"), Path("p"), [Path("r")]),
        ({"path": BOTH}, ("plain", "robust"), Path("p"), [Path("a"), Path("b")]),
        ({"path": BOTH, "features": "robust"}, ("robust",), Path("p"), [Path("a"), Path("b")]),
        ({"path": BOTH, "features": "plain"}, ("plain",), Path("p"), [Path("a"), Path("b")]),
        ({"type": "mmseg", "path": "p"}, ("plain",), Path("p"), []),
        ({"type": "fit"}, ("plain", "robust"), None, []),
        ({"type": "fit", "features": "robust"}, ("robust",), None, []),
        ({"type": "backbone"}, ("plain",), None, []),
    ],
)
def test_which_heads_there_are(written: dict, victims: tuple, plain: Path | None, robust: list) -> None:
    head = HeadConfig.model_validate(written)
    assert (head.robust_victims, head.plain_file, head.robust_files) == (victims, plain, robust)
    assert HeadConfig.model_validate(head.model_dump(mode="json")) == head


def test_files_hold_no_head_of_the_control() -> None:
    files = HeadConfig.model_validate({"path": BOTH})
    assert files.control_victims == ("plain",)
    assert files.model_copy(update={"features": "robust"}).control_victims == ()
    assert HeadConfig(type="fit").control_victims == ("plain", "robust")
    assert HeadConfig(type="fit", features="robust").control_victims == ("robust",)


def test_a_head_says_only_what_its_type_uses() -> None:
    assert HeadConfig(type="backbone").model_dump() == {"type": "backbone", "features": "both"}
    fit = HeadConfig(type="fit", limit=9).model_dump()
    assert fit == {
        "type": "fit",
        "features": "both",
        "split": "train",
        "limit": 9,
        "l2": [1e-4, 1e-3, 1e-2, 0.1, 1.0],
        "steps": 40_000,
        "batch_size": 16,
    }


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "path is missing"),
        ({"type": "fit", "path": "p"}, "type fit does not use path"),
        ({"type": "backbone", "l2": [1]}, "type backbone does not use l2"),
        ({"path": "p", "features": "robust"}, "there is no head fitted on robust features"),
        ({"type": "backbone", "features": "robust"}, "there is no head fitted on robust features"),
        ({"path": {"robust": "r"}}, "plain"),
        ({"path": {"plain": "p", "robust": ["r", "r"]}}, "without repetition"),
        ({"type": "mmseg"}, "path is missing: type mmseg"),
        ({"type": "mmseg", "path": "p", "features": "robust"}, "there is no head fitted on robust features"),
        ({"type": "probe"}, "'linear', 'mmseg', 'fit' or 'backbone'"),
        ({"type": "fit", "l2": [0]}, "greater than 0"),
    ],
)
def test_what_is_refused(written: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HeadConfig.model_validate(written)
