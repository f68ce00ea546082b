"""Reading results.json: files of today and of version 0.1 come back, damaged ones are refused in words."""

from __future__ import annotations

import json

import pytest

from rtok.errors import UserError
from rtok.results.files import read_results
from rtok.results.rows import Identity

ROW = {
    **Identity(attack="paper", threat="transfer", victim="robust", defense="a.safetensors", n=3).columns(),
    "draws": None,
    "cosine_to_plain": 0.5,
    "fidelity": 1,
    "mse": None,
    "ci95": {"cosine_to_plain": [0.4, 0.6], "fidelity": None},
    "class_iou": {"sky": [0.1, None]},
}
BASELINE = {
    "baseline_victim": "plain",
    "baseline_threat": "transfer",
    "baseline_defense": None,
    "baseline_kind": None,
    "baseline_head_features": None,
}
SANITY = {"images": 2, "checks": [{"check": "a", "seen": "b", "passed": True, "defense": "a.safetensors"}]}

DEFENSE = {"kind": "tokens", "sha256": "ab", "parameters": 1152, "trained": {"train.steps": 50}}


@pytest.fixture
def write(tmp_path):
    """Write results.json with some parts replaced; without the parts that are None."""

    def to_file(**parts):
        results = {"command": "eval-features", "images": 5, "rows": [ROW], **parts}
        path = tmp_path / "results.json"
        path.write_text(json.dumps({key: value for key, value in results.items() if value is not None}))
        return path

    return to_file


def test_what_tables_need_comes_back(write):
    difference = {**BASELINE, "sign_flip_p": {"cosine_to_plain": 0.25, "fidelity": None}}
    method = {"defenses": ["a", "b"], "seeds": 2, "std": {"cosine_to_plain": 0.01}}
    parts = {"differences": [{**ROW, **difference}], "sanity": SANITY}
    found = read_results(write(methods=[{**ROW, **method, "differences": parts["differences"]}], **parts))
    assert (found["command"], found["images"]) == ("eval-features", 5)
    kept = {key: value for key, value in ROW.items() if key not in ("draws", "class_iou")}
    assert found["rows"] == [kept] and found["differences"] == [{**kept, **difference}]
    assert found["methods"] == [{**kept, **method, "differences": found["differences"]}]
    assert found["sanity"]["checks"] == [
        {**SANITY["checks"][0], **dict.fromkeys(("attack", "victim", "head_features"))}
    ]
    without = read_results(write(sanity=None))
    assert without["differences"] == without["methods"] == []
    assert read_results(write())["defenses"] == {}
    assert read_results(write(defenses={"a.safetensors": DEFENSE}))["defenses"] == {"a.safetensors": DEFENSE}


def test_version_01_called_the_defense_tokens(write):
    def old(row):
        names = {"defense": "tokens", "baseline_defense": "baseline_tokens"}
        return {names.get(key, key): value for key, value in row.items() if "kind" not in key}

    plain = {**ROW, "victim": "plain", "defense": None, "n": None}
    random = {**plain, "victim": "random", "n": 3}
    checks = {"images": 2, "checks": [old(check) for check in SANITY["checks"]]}
    difference = old({**ROW, **BASELINE, "baseline_victim": "robust", "baseline_defense": "b.safetensors"})
    found = read_results(
        write(rows=[old(row) for row in (ROW, plain, random)], differences=[difference], sanity=checks)
    )
    assert [(row["defense"], row["kind"]) for row in found["rows"]] == [
        ("a.safetensors", "tokens"),
        (None, None),
        (None, "tokens"),
    ]
    assert found["differences"][0]["baseline_defense"] == "b.safetensors"
    assert found["sanity"]["checks"][0]["defense"] == "a.safetensors"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"command": "eval-sound"}, "its command is 'eval-sound', not eval-features, eval-class, eval-seg"),
        ({"rows": None}, "its rows is missing"),
        ({"rows": {}}, "its rows"),
        ({"rows": [ROW, 1]}, "row 2: is not a row"),
        ({"rows": [ROW, {**ROW, "fidelity": "<b>"}]}, "row 2: fidelity is not a number"),
        ({"rows": [{**ROW, "fidelity": True}]}, "row 1: fidelity is not a number"),
        ({"rows": [{**ROW, "fidelity": float("nan")}]}, "row 1: fidelity is not a number"),
        ({"rows": [{**ROW, "fidelity": 10**400}]}, "row 1: fidelity is not a number"),
        ({"rows": [{**ROW, "eps": -1e301}]}, "row 1: eps is not a number"),
        ({"rows": [{**ROW, "norm": ["linf"]}]}, "row 1: norm"),
        ({"rows": [{**ROW, "threat": ""}]}, "row 1: lacks its threat or victim"),
        ({"rows": [{key: ROW[key] for key in ROW if key != "victim"}]}, "row 1: lacks its threat or victim"),
        ({"rows": [{**ROW, "ci95": {"fidelity": [1]}}]}, "row 1: ci95 fidelity"),
        ({"rows": [{**ROW, "ci95": {"fidelity": [1, None]}}]}, "row 1: ci95 fidelity 1 is not a number"),
        ({"rows": [{**ROW, "ci95": 3}]}, "row 1: ci95"),
        ({"differences": [ROW]}, "difference 1: lacks its threat or victim"),
        ({"sanity": {"images": 1, "checks": [1]}}, "the sanity section is malformed"),
        ({"sanity": {"images": "1", "checks": []}}, "the sanity section is malformed"),
        ({"sanity": {"images": 1, "checks": [{**SANITY["checks"][0], "passed": "no"}]}}, "the sanity section"),
        ({"defenses": {"a.safetensors": {**DEFENSE, "parameters": "3"}}}, "the defenses section is malformed"),
        ({"defenses": [DEFENSE]}, "the defenses section is malformed"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(write, parts, said):
    with pytest.raises(UserError) as error:
        read_results(write(**parts))
    assert f"results.json' is damaged ({said}" in str(error.value)
    assert "\n" not in str(error.value)
