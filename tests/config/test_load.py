import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtok.config import Config, TokensConfig, load_config, strict_yaml
from rtok.errors import UserError

MINIMAL = "model: {name: dinov2_vits14}\ndata: {name: photos}\n"
Write = Callable[[str], Path]


def test_file_then_set_then_out(write: Write) -> None:
    path = write(MINIMAL + "train: {steps: 3, lr: 1e-2}\nout: a\n")
    config = load_config("train", path, ["train.steps=4", "out=b"], out="c")
    assert (config.train.steps, config.train.lr, config.out) == (4, 1e-2, Path("c"))


@pytest.mark.parametrize(
    ("text", "overrides", "preset", "steps"),
    [
        ("", [], "paper", 30),
        ("", ["attack.steps=5"], "paper", 5),
        ("attack:\n", ["attack.steps=5"], None, 5),
        ("attack: {eps: 4/255}", ["attack.steps=5"], None, 5),
        ("", ["attack.preset=l2"], "l2", 30),
    ],
)
def test_the_attack_that_was_not_written_is_the_papers(
    write: Write, text: str, overrides: list[str], preset: str | None, steps: int
) -> None:
    attack = load_config("train", write(MINIMAL + text), overrides).attacks[0]
    assert (attack.preset, attack.steps) == (preset, steps)


@pytest.mark.parametrize(
    ("text", "overrides", "written", "counts"),
    [
        ("", [], {"count": 10}, [10]),
        ("tokens: {count: 3}", [], {"count": 3}, [3]),
        ("defense: {kind: tokens, count: 3}", [], {"count": 3}, [3]),
        ("defense: {count: 3}", ["tokens.count=5"], {"count": 5}, [5]),
        ("tokens: {count: 3}", ["defense.count=[5, 6]"], {"count": [5, 6]}, [5, 6]),
        ("", ["tokens.count=5"], {"count": 5}, [5]),
        ("tokens: null", ["tokens.count=5"], {"count": 5}, [5]),
    ],
)
def test_tokens_is_short_for_the_defense(
    write: Write, text: str, overrides: list[str], written: dict, counts: list[int]
) -> None:
    config = load_config("train", write(MINIMAL + text), overrides)
    assert config.defense == TokensConfig.model_validate({"kind": "tokens", **written})
    assert isinstance(config.defense, TokensConfig) and config.defense.counts == counts
    resolved = config.to_dict()
    assert resolved["defense"]["kind"] == "tokens" and "tokens" not in resolved
    assert load_config("train", write(config.to_yaml())) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defense: [{stak: [a, b]}, c]", "defense.0.stak: unknown key. Did you mean 'stack'? Valid here: stack\n"),
        ("defense: [c, {stak: [a, b]}]", "defense.1.stak: unknown key. Did you mean 'stack'? Valid here: stack\n"),
        ("defense: {kind: lora, rnk: 2}", "defense.rnk: unknown key. Did you mean 'rank'? Valid here: kind, seeds, "),
        ("attack: [{preset: paper, stps: 3}]", "attack.0.stps: unknown key. Did you mean 'steps'? Valid here: preset,"),
    ],
)
def test_an_unknown_key_is_told_the_keys_of_its_own_section(write: Write, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("eval-features", write(MINIMAL + text))
    assert message in f"{caught.value}\n"


@pytest.mark.parametrize("text", ["tokens: [a, b]\nsurrogate: {tokens: c}", "defense: [a, b]"])
def test_files_of_a_defense(write: Write, text: str) -> None:
    """The first is how rtok 0.1 wrote its resolved configs."""
    overrides = ["surrogate.tokens=c", "tokens.1=d"]
    config = load_config("eval-features", write(MINIMAL + text), overrides)
    assert (config.defense_paths, config.surrogate.defense) == ([Path("a"), Path("d")], Path("c"))
    assert load_config("eval-features", write(MINIMAL + text), ["tokens=x"]).defense_paths == [Path("x")]


@pytest.mark.parametrize(
    ("command", "text", "message"),
    [
        ("train", "tokens: {count: 0}", "tokens.count: 0 was given; valid: at least 1"),
        ("train", "defense: {count: 0}", "defense.count: 0 was given; valid: at least 1"),
        ("train", "tokens: {cout: 3}", "tokens.cout: unknown key. Did you mean 'count'?"),
        ("train", "tokens: results", "tokens: train makes a defense"),
        ("train", "defense: results", "defense: train makes a defense"),
        (
            "train",
            "defense: {kind: token}",
            'defense.kind: "token" was given; valid: tokens, deep-tokens, lora or weights',
        ),
        ("train", "defense: {}\ntokens: {}", "tokens: is another name of defense, which is written too"),
        (
            "eval-features",
            "defense: a\nsurrogate: {tokens: a, defense: b}",
            "surrogate.tokens: is another name of defense, which is written too",
        ),
    ],
)
def test_mistakes_name_the_key_that_was_written(write: Write, command: str, text: str, message: str) -> None:
    path = write(MINIMAL + text)
    with pytest.raises(UserError) as caught:
        load_config(command, path)
    first, second = str(caught.value).split("\n")
    assert first == f"{path}: 1 mistake" and second.strip().startswith(message)


@pytest.mark.parametrize(
    ("command", "out"),
    [("train", "dinov2_vits14"), ("attack", "dinov2_vits14-attack"), ("eval-features", "dinov2_vits14-eval-features")],
)
def test_no_two_commands_share_a_default_folder(write: Write, command: str, out: str) -> None:
    tokens = {"train": "{count: 1}", "attack": "null", "eval-features": "t.safetensors"}[command]
    assert load_config(command, write(f"{MINIMAL}tokens: {tokens}")).out == Path("results", out)


def test_variables(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTOK_STEPS", "7")
    monkeypatch.setenv("RTOK_DIR", "/data/x")
    data = "data: {name: folder, root: ${RTOK_DIR}}\ntrain: {steps: ${RTOK_STEPS}}\n"
    config = load_config("train", write(f"model: {{name: dinov2_vits14}}\n{data}"), ["out=${RTOK_DIR}/out"])
    assert (config.data.root, config.train.steps, config.out) == (Path("/data/x"), 7, Path("/data/x/out"))


def test_every_mistake_is_reported_at_once(write: Write) -> None:
    path = write(
        """\
model: {name: dinov2_vits15}
data: {name: fodler, root: ${RTOK_NOT_SET}}
attack: [{eps: -1, stepz: 3}, {from: x, steps: 3}, 7]
train: {lr: -1e-3, steps: 0, compile: 3, batch_size: 2.5}
compile: 3
trian: {}
tokens: results/tokens
surrogate: {model: nope}
seed: 1
seed: 2
"""
    )
    with pytest.raises(UserError) as caught:
        load_config("train", path, ["a.b", "model.name.x=1"])
    first, *lines = str(caught.value).split("\n")
    assert first == f"{path}: 18 mistakes"
    expected = [
        "line 10: 'seed' was already given in line 9",
        "--set a.b: write it as key.path=value",
        "--set model.name.x=1: 'model.name' is \"dinov2_vits15\", not a mapping",
        "data.root: ${RTOK_NOT_SET} is not set; set it in the environment or in a .env file",
        "model.name: There is no backbone 'dinov2_vits15'. Did you mean 'dinov2_vits14'?",
        "surrogate.model: There is no backbone 'nope'.",
        'data.name: "fodler" was given; valid: imagenet, folder, hf, webdataset, photos, digits, '
        "ade20k, folder-seg or given. "
        "Did you mean 'folder'?",
        "attack.0.eps: -1 was given; valid: more than 0",
        "attack.0.stepz: unknown key. Did you mean 'step'? Valid here: preset, method, norm,",
        "attack.1: 'from' stands alone, without steps",
        "attack.2: 7 was given; valid: a mapping",
        "train.steps: 0 was given; valid: at least 1",
        "train.batch_size: 2.5 was given; valid: a whole number",
        "train.lr: -0.001 was given; valid: more than 0",
        "train.compile: unknown key. It belongs to the top level. Valid here: steps, ",
        "compile: 3 was given; valid: false, default, reduce-overhead, max-autotune or cuda-graphs",
        "trian: unknown key. Did you mean 'train'? Valid here: model, defense,",
        "tokens: train makes a defense",
    ]
    assert len(lines) == len(expected)
    for start in expected:
        assert any(line.startswith(f"  {start}") for line in lines), start


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n", r'holds \["a"\]: a config is a mapping'),
        (b"hello", 'holds "hello"'),
        (b"\xff\xfea\x00", "is not UTF-8 text .* at byte 0"),
        (b"a: [", "line 1, column 5"),
        (b"a: 1\x1b[31m", "line 1: the character U\\+001B"),
    ],
)
def test_files_that_are_no_config(folder: Path, content: bytes, message: str) -> None:
    path = folder / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_config("train", path)


def test_a_byte_order_mark_is_harmless(folder: Path) -> None:
    path = folder / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_config("train", path).model.name == "dinov2_vits14"


def test_keys_cannot_write_to_the_terminal(write: Write) -> None:
    with pytest.raises(UserError, match=re.escape(r"\x1b[31m: unknown key")):
        load_config("train", write(MINIMAL + '"\\e[31m": 1'))


def test_named_files_must_exist_when_asked(write: Write) -> None:
    path = write("model: {name: dinov2_vits14, weights: w.pth}\ndata: {name: folder, root: d}\ntokens: [t]\n")
    load_config("eval-features", path)
    with pytest.raises(UserError) as caught:
        load_config("eval-features", path, files_must_exist=True)
    for name in ("model.weights: w.pth", "data.root: d", "tokens: t"):
        assert f"{name} does not exist" in str(caught.value)


PATHS = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text and not text.startswith("~"))
CONFIGS = st.builds(
    lambda model, train, attack, tokens, out: Config.model_validate(
        {"model": model, "data": {"name": "photos"}, "train": train, "attack": attack, "tokens": tokens, "out": out}
    ),
    st.fixed_dictionaries(
        {"name": st.just("dinov2_vitb14_reg"), "image_size": st.integers(1, 40).map(lambda n: [14 * n, 28])}
    ),
    st.fixed_dictionaries({"lr": st.floats(0, 1e9, exclude_min=True), "steps": st.integers(1, 10**9)}),
    st.one_of(
        st.fixed_dictionaries(
            {
                "preset": st.sampled_from([None, "paper", "standard", "standard-4", "l2"]),
                "eps": st.floats(0, 1, exclude_min=True),
                "step": st.none() | st.floats(0, 1, exclude_min=True),
            }
        ).map(lambda attack: {**attack, "target": "plain"}),
        st.fixed_dictionaries({"preset": st.sampled_from(["paper", "l2"])}),
    ),
    st.fixed_dictionaries({"count": st.integers(1, 99) | st.lists(st.integers(1, 99), min_size=1, unique=True)}),
    PATHS,
)


@given(CONFIGS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_a_written_config_loads_back_equal(write: Write, config: Config) -> None:
    assert load_config("train", write(config.to_yaml())) == config


@given(
    st.dictionaries(
        st.sampled_from([*Config.model_fields, "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["name", "from", "preset", "count", "steps", "eps", "model"]), inner)
            ),
            max_leaves=5,
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_any_mapping_is_a_config_or_a_user_error(write: Write, raw: dict) -> None:
    path = write(strict_yaml.dump(raw))
    for command in ("train", "attack", "eval-features"):
        try:
            load_config(command, path, files_must_exist=True)
        except UserError as error:
            assert "mistake" in str(error) or "holds" in str(error) or "empty" in str(error) or "YAML" in str(error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian", "x.yaml"), "There is no command 'trian'. Did you mean 'train'? Valid: train, attack,"),
        (("train", {"model": {}}), "takes a YAML file or a ready config's name, not a dict"),
        (("train", "x.yaml", "seed=3"), "give a list of texts, such as ['seed=3']"),
    ],
)
def test_arguments_of_another_kind(arguments: tuple, message: str, write: Callable[[str], Path]) -> None:
    write("model: {name: dinov2_vits14}\ndata: {name: photos}\n")
    with pytest.raises(UserError) as caught:
        load_config(*arguments)
    assert message in str(caught.value)


def test_a_mistake_in_an_override_is_blamed_on_it(write: Callable[[str], Path]) -> None:
    path = write("model: {name: dinov2_vits14}\ndata: {name: photos}\nseed: -1\n")
    with pytest.raises(UserError) as caught:
        load_config("train", path, ["train.steps=0"])
    lines = str(caught.value).splitlines()[1:]
    assert sorted(line.strip().partition(":")[0] for line in lines) == ["--set train.steps", "seed"]


def test_a_model_of_timm_is_suggested_under_its_name_here(write: Callable[[str], Path]) -> None:
    path = write("model: {name: vit_tiny_patch16_224}\ndata: {name: photos}\n")
    with pytest.raises(UserError, match="Did you mean 'timm:vit_tiny_patch16_224'"):
        load_config("train", path)
    with pytest.raises(UserError) as caught:
        load_config("train", "dinov2_vits15")
    assert "ready ones: dinov2_vits14, " in str(caught.value) and str(caught.value).count(", ") == 5
