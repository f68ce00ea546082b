"""Every command on every page: its flags exist, and so do the ready configs, keys and values that it names.

For this nothing is run, so that commands that need a GPU, the hub or ImageNet are checked like the others. Those that
need none of it are run: what computes for long with `--dry-run`, which opens the images and the defenses and plans all
attacks, and the others on runs and files that stand in for the reader's.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.cli.dry_run import dry_run
from rtok.cli.runs import COMMANDS
from rtok.cli.shortcuts import Shortcuts
from rtok.config import load_config, strict_yaml
from rtok.config.ready import all_ready
from rtok.config.schema import Config
from rtok.defenses.tokens import RobustnessTokens
from rtok.errors import UserError
from rtok.models.locations import OnHub, is_on_hub
from tests.docs.pages import PAGES, ROOT, blocks, commands, prose

UsageError = typer.BadParameter.__mro__[1]  # click's own, or that of the click inside of typer
APP: Any = typer.main.get_command(build())
OPTIONAL = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
EXTRAS = set(re.findall(r"^(\w+) = \[", OPTIONAL, re.MULTILINE))
TARGETS = set(re.findall(r"^([\w-]+):.*?##", (ROOT / "Makefile").read_text(), re.MULTILINE))
# What a reader's own config holds, as far as a command asks for it.
MODEL = {"name": "dinov2_vits14"}
PHOTOS = {"name": "folder", "root": "photos"}
ADE20K = {"name": "ade20k", "root": "ade"}
SEGMENTER = {"type": "mmseg", "path": "head.pth"}
MINE: dict[str, dict[str, Any]] = {
    "train": {"model": MODEL, "data": PHOTOS},
    "attack": {"model": MODEL, "data": PHOTOS},
    "eval-features": {"model": MODEL, "data": PHOTOS, "defense": "results/mine"},
    "eval-class": {
        "model": MODEL,
        "data": {"name": "digits", "split": "test"},
        "head": {"type": "fit"},
        "defense": "results/mine",
    },
    "eval-seg": {"model": {**MODEL, "image_size": 518}, "data": ADE20K, "head": SEGMENTER, "defense": "results/mine"},
}
# What the configs of a page are for, where it is not the command that the page is named after, or `eval-features`.
FOR = {"defenses": "train", "photos": "train"}
# Their commands run in tests of their own, with the plugins that their config needs.
PLUGINS = "extend.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGENET_DIR", "imagenet")
    monkeypatch.setenv("ADE20K_DIR", "ade")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    for words in commands(page):
        check(words, page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_need_nothing_special_pass_their_dry_run(page: Path, pictures: Path) -> None:
    Path("photos").mkdir()
    for number in range(60):
        shutil.copy(pictures / "picture0.png", f"photos/{number}.png")
    for words in commands(page):
        found = rtok(words[words.index("rtok") + 1 :], page) if "rtok" in words and words[0] != "pip" else None
        if found is None or needs(found[1]):
            continue
        name, config = found
        for number, path in enumerate(config.defense_paths):
            path.mkdir(parents=True, exist_ok=True)
            RobustnessTokens.draw(10, 384, seed=number, backbone="dinov2_vits14").save(path / "rtokens.safetensors")
        plan = dry_run(config.model_copy(update={"out": Path("new")}), name)
        assert "# images: " in plan and not Path("new").exists()


def needs(config: Config) -> str:
    """What a command needs that there is not on every machine; "" for nothing."""
    if config.model.name != "dinov2_vits14":
        return "a GPU, for a larger model"
    if config.data.name not in ("folder", "digits"):
        return "ImageNet, ADE20K, or the hub"
    if any(is_on_hub(path) for path in config.defense_paths):
        return "the hub"
    files = [*config.defense_paths, config.head and config.head.path, config.model.weights]
    if any(attack.stored for attack in config.attacks) or any(
        Path(str(file)).suffix in (".pt", ".pth") for file in files
    ):
        return "a file of the reader's own"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_other_commands_that_need_nothing_special_run(page: Path) -> None:
    for words in commands(page):
        arguments = words[words.index("rtok") + 1 :] if words[0] == "rtok" else []
        if not arguments or arguments[0] in COMMANDS or needs_more(arguments):
            continue
        arguments = [word.replace("*", "one") for word in arguments]
        for word in takewhile(lambda word: not word.startswith("--"), arguments[1:]):
            stand_in(Path(word))
        if arguments[0] == "push":
            shutil.rmtree("results/push-USER-REPO", ignore_errors=True)
            arguments += ["--dry-run"] * ("--dry-run" not in arguments)
        done = CliRunner().invoke(build(), [*arguments, *["--overwrite"] * (arguments[0] == "report")])
        assert done.exit_code == 0, (words, done.output)


def needs_more(arguments: list[str]) -> str:
    """What a command that runs no config needs that there is not on every machine; "" for nothing."""
    name, *words = arguments
    if any(is_on_hub(word) for word in words) and name != "push":
        return "the hub"
    if name == "prepare-imagenet":
        return "ImageNet"
    if name == "convert":
        return "the backbone's weights, from the hub or a file of the reader's own"
    if (
        name == "resume"
        or {"--leaderboard", "--with-weights"} & {*words}
        or any(word.endswith((".onnx", ".ckpt")) for word in words)
    ):
        return "a run or a file of the reader's own"
    return ""


def stand_in(path: Path) -> None:
    """Put a run, or a file of tokens, where a page has one of the reader's."""
    tokens = RobustnessTokens.draw(10, 384, backbone="dinov2_vits14")
    if path.suffix in (".safetensors", ".pth"):
        path.parent.mkdir(parents=True, exist_ok=True)
        tokens.save(path) if path.suffix == ".safetensors" else torch.save({"rtokens": tokens.values}, path)
    elif path.parts[0] in ("results", "theirs") and not path.exists():
        shutil.copytree(ROOT / "tests" / "v0_1" / "eval", path)


def test_what_a_command_needs_is_known() -> None:
    def of(*changes: str) -> str:
        return needs(load_config("eval-features", None, ["model.name=dinov2_vits14", *changes]))

    photos = ["data.name=folder", "data.root=photos"]
    assert of(*photos, "defense=results/mine") == ""
    assert "GPU" in of(*photos, "defense=results/mine", "model.name=dinov2_vitg14")
    assert "ImageNet" in of("data.name=imagenet", "data.root=x", "defense=results/mine")
    assert of(*photos, "defense=hf:a/b") == "the hub" and "reader's" in of(*photos, "defense=fare.pt")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_and_commands_in_the_text_exist(page: Path) -> None:
    for command in re.findall(r"`rtok ([^`]+)`", prose(page)):
        words = command.split()
        if words[0].islower() and not words[0].startswith("-"):
            assert words[0] in APP.commands, command
            known = {flag for parameter in _all(APP.commands[words[0]]) for flag in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known | {"--help"}, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_that_the_text_sets_exist(page: Path) -> None:
    for text in re.findall(r"`(--set [^`]+)`", prose(page)):
        changes = [word for word in shlex.split(text) if word != "--set"]
        if not any(re.search(r"=.*\b[A-Z]{3,}\b|^\w+\.path=", change) for change in changes):  # a reader's own value
            bases = [*MINE.items(), ("eval-features", {**MINE["eval-features"], "attack": [{"preset": "standard"}]})]
            assert any(_loads(command, base, changes) for command, base in bases), text


def _loads(command: str, base: dict[str, Any], changes: list[str]) -> bool:
    Path("mine.yaml").write_text(strict_yaml.dump(base))
    try:
        load_config(command, "mine.yaml", changes)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != PLUGINS], ids=lambda page: page.name)
def test_configs_on_the_page_are_valid(page: Path) -> None:
    command = FOR.get(page.stem, page.stem if page.stem in COMMANDS else "eval-features")
    for block in blocks(page, "yaml"):
        for text in _alternatives(block):
            written = strict_yaml.parse(text, page.name)[0]
            measured = isinstance(written.get("defense"), list)  # files; what trains is a mapping
            reads = "eval-features" if measured and command == "train" else command
            Path("page.yaml").write_text(strict_yaml.dump({**MINE[reads], **written}))
            load_config(reads, "page.yaml")


def check(words: list[str], page: Path) -> None:
    program, *rest = words
    if "rtok" in words and program in ("rtok", "accelerate", "srun", "torchrun", "python"):
        rtok(words[words.index("rtok") + 1 :], page)
    elif program == "make":
        assert {word for word in rest if "=" not in word} <= TARGETS, words
    elif program == "pip":
        assert rest[0] == "install" and "rtok" not in rest, words
        for extras in re.findall(r"\[([\w,]+)\]", " ".join(rest)):
            assert set(extras.split(",")) <= EXTRAS, words
    elif program == "hf":  # the hub's own
        assert rest[0] == "download" or rest == ["auth", "login"], words
    elif program == "python" and rest[0] == "tools/train.py":  # mmsegmentation's own
        assert rest[1].startswith("configs/") and (ROOT / rest[1]).is_file(), words
    elif program == "python" or program.startswith("scripts/"):
        script = program if program.startswith("scripts/") else rest[0]
        if script == "-m":
            script = f"{rest[1].replace('.', '/')}.py"
        assert (ROOT / script).is_file(), words
    else:
        assert program in ("export", "cut") or re.match(r"\w+=", program), words


def rtok(arguments: list[str], page: Path) -> tuple[str, Config] | None:
    """Check a command's words; return what it runs, if it runs a config."""
    name, *rest = arguments
    if name in ("--version", "--help"):
        return None
    command = APP.commands[name]
    if hasattr(command, "commands") and rest:
        command, *rest = command.commands[rest[0]], *rest[1:]
    with command.context_class(command) as context:
        given, _, _ = command.make_parser(context).parse_args(list(rest))
    if name == "push":
        OnHub.parse(given["to"])
    if name not in COMMANDS or page.name == PLUGINS:
        assert not given.get("name") or given["name"] in set(all_ready()) | _short(all_ready()), arguments
        return None
    config = given.get("config")
    if config is not None and config.endswith(".yaml") and not (ROOT / config).is_file():
        Path(config).write_text(strict_yaml.dump(MINE[name]))
    elif config is not None and (ROOT / config).is_file():
        config = ROOT / config
    shortcuts = Shortcuts(given.get("model"), given.get("weights"), given.get("data"), given.get("defense") or ())
    changes = [*shortcuts.overrides(name), *(given.get("overrides") or ())]
    return name, load_config(name, config, changes, given.get("out"))


def _all(command: Any) -> Iterator[Any]:
    yield from command.params
    for inner in getattr(command, "commands", {}).values():
        yield from inner.params


def _short(names: Any) -> set[str]:
    return {name.rpartition("/")[2] for name in names}


def _alternatives(block: str) -> list[str]:
    """A block as it is, or its keys one by one where it shows several ways to write one."""
    keys = re.findall(r"^(\w+):", block, re.MULTILINE)
    if len(keys) == len(set(keys)):
        return [block]
    return [part for part in re.split(r"^(?=\w+:)", block, flags=re.MULTILINE) if part.strip()]


@pytest.mark.parametrize(
    "wrong",
    [
        "rtok train --confg dinov2_vits14",
        "rtok train --config dinov2_vits15",
        "rtok train --config my.yaml --set train.step=3",
        "rtok train --config my.yaml --data",
        "rtok eval-features --config my.yaml --set 'threats=[adaptiv]'",
        "rtok trian --config my.yaml",
        "rtok configs copy dinov2_vits15",
        "rtok report a --leaderbord",
        "make demos",
        "pip install '.[segm]'",
        " ".join(("pip", "install", "rtok")),  # in one piece, another test would find it here
        "scripts/demo_ful.sh",
        "python -m benchmarks.scales",
        "sudo rm x",
    ],
)
def test_a_wrong_flag_key_or_config_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, KeyError, UserError, UsageError)):
        check(shlex.split(wrong), ROOT / "README.md")
