"""The config loader on what nobody would write: it returns a config or says what is wrong, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rtok.config import Config, load_config, strict_yaml
from rtok.config.validation import key_names
from rtok.errors import UserError

COMMANDS = st.sampled_from(["train", "attack", "eval-features", "eval-class", "eval-seg"])
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
GOOD = {"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["same", "pretrained", "paper", "8/255", "1e-3", "${HOME}", "~", "timm:", "\x1b", "\ud800"])
)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=6), v, max_size=3))


def sections() -> st.SearchStrategy[dict[str, Any]]:
    """Configs whose keys exist and whose values are anything."""
    names = sorted(key_names(Config))
    inner = sorted(
        {"name", "weights", "count", "seeds", "steps", "lr", "eps", "preset", "from", "root", "split", "path"}
    )
    return st.dictionaries(st.sampled_from(names), values | st.dictionaries(st.sampled_from(inner), values), max_size=4)


def outcome(command: str, file: Path, overrides: list[str] | None = None) -> Config | str:
    try:
        return load_config(command, file, overrides or [])
    except UserError as error:
        assert str(error)
        return str(error)


@QUICK
@given(command=COMMANDS, changes=sections())
def test_any_values(command: str, changes: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**GOOD, **changes}), encoding="utf-8", errors="surrogatepass")
    found = outcome(command, file)
    if isinstance(found, Config):
        file.write_text(found.to_yaml(), encoding="utf-8")
        again = outcome(command, file)
        assert isinstance(again, Config) and again == found


@QUICK
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(content=b"a: &a [*a]")
@example(content=b"? : ?")
def test_any_bytes(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    assert outcome("train", file)


@QUICK
@given(overrides=st.lists(st.text(max_size=20) | st.tuples(st.text(max_size=9), st.text(max_size=9)).map("=".join)))
@example(overrides=["model=[1]", "model.0=2"])
@example(overrides=["attack.0=1"])
def test_any_overrides(overrides: list[str], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    assert outcome("train", file, overrides)


@QUICK
@given(value=st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3)))
def test_what_is_dumped_reads_back(value: Any) -> None:
    try:
        text = strict_yaml.dump(value)
        text.encode()
    except (UnicodeEncodeError, yaml.YAMLError):
        return  # half characters, which the config refuses
    if any(c in text for c in "\ue000\ue001\ue002") or repr(value).find("nan") >= 0 or repr(value).find("inf") >= 0:
        return  # stand-ins of the parser, and numbers that YAML 1.2 writes as text
    try:
        found, problems = strict_yaml.parse(text, "dumped")
    except UserError as error:
        assert "not allowed" in str(error) or "deep" in str(error) or "text" in str(error)
        return
    assert not problems and found == pytest.approx(value) if isinstance(value, float) else found == value
