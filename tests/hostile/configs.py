"""Well-formed configs with every kind of wrong value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.hostile.case import Case, World

LONG = "x" * 5000


def changed(command: str = "train", /, *more: str, **changes: Any) -> Callable[[World], list[str]]:
    return lambda world: world.run(command, world.config(**changes), *more)


def train(name: str, /, *words: str, **changes: Any) -> Case:
    return Case(name, changed(**changes), words=words)


def option(name: str, /, *words: str, **_: Any) -> Case:
    """`--set NAME`."""
    return Case(f"--set {name[:40]}", changed("train", "--set", name), words=words)


def out_of_utf8(world: World) -> list[str]:
    return world.run("train", world.config(), "--out", str(world.folder) + "/\udcff")


def out_is_a_file(world: World) -> list[str]:
    return world.run("train", world.config(out=str(world.write("file", "precious"))))


def out_below_a_file(world: World) -> list[str]:
    return world.run("train", world.config(out=str(world.write("file", "precious") / "run")))


def out_holds_the_users_files(world: World) -> list[str]:
    world.write("mine/config.yaml", "precious")
    world.write("mine/picture.png", "precious")
    return world.run("train", world.config(out=str(world.folder / "mine")), "--overwrite")


def root_is_a_file(world: World) -> list[str]:
    return world.run("train", world.config(data__root=str(world.write("file", "x"))))


def root_is_empty(world: World) -> list[str]:
    (world.folder / "empty").mkdir()
    return world.run("train", world.config(data__root=str(world.folder / "empty")))


def link_loop(world: World) -> list[str]:
    (world.folder / "pictures").mkdir()
    (world.folder / "pictures" / "again").symlink_to(world.folder / "pictures")
    return world.run("train", world.config(data__root=str(world.folder / "pictures")))


CASES = [
    train("unknown section", "trian", "train", trian={}),
    train("unknown key", "train.stepz", "steps", train__stepz=3),
    train("steps 0", "train.steps", train__steps=0),
    train("steps negative", "train.steps", train__steps=-1),
    train("steps a fraction", "train.steps", train__steps=1.5),
    train("steps text", "train.steps", "many", train__steps="many"),
    train("steps true", "train.steps", train__steps=True),
    train("steps null", "set one of steps and epochs", train__steps=None),
    train("steps a list", "train.steps", train__steps=[1]),
    train("steps a mapping", "train.steps", train__steps={"a": 1}),
    train("steps infinite", "train.steps", train__steps="1e400"),
    train("lr NaN", "train.lr", train__lr=".nan"),
    train("lr zero", "train.lr", train__lr=0),
    train("lr over zero", "train.lr", train__lr="1/0"),
    train("optimizer unknown", "train.optimizer", "adam", train__optimizer="adamm"),
    train("section a list", "train", train=[1, 2]),
    train("section text", "train", train="fast"),
    train("tokens 0", "tokens.count", tokens={"count": 0}),
    train("tokens a billion", "tokens.count", tokens={"count": 10**12}),
    train("tokens twice the same", "tokens.count", tokens={"count": [3, 3]}),
    train("tokens none", "tokens.count", tokens={"count": []}),
    train("a token file to train", "tokens", tokens="somewhere.safetensors"),
    train("seed negative", "seed", seed=-1),
    train("batch of a trillion", "train.batch_size", train__batch_size=10**12),
    train("image size not of patches", "model.image_size", model__image_size=30),
    train("image size of one side", "model.image_size", model__image_size=[32]),
    train("image size of three sides", "model.image_size", model__image_size=[32, 32, 32]),
    train("image size of a continent", "model.image_size", model__image_size=16 * 10**7),
    train("model unknown", "dinov2_vits15", "dinov2_vits14", model__name="dinov2_vits15"),
    train("model a number", "model.name", model__name=14),
    train("model of timm that is none", "model.name", model__name="timm:resnet50"),
    train("model of timm with a path", "model.name", model__name="timm:../../etc/passwd"),
    train("model from the hub", "model.name", model__name="timm:hf_hub:evil/model"),
    train("weights missing", "model.weights", "does not exist", model__weights="nowhere.pth"),
    train("weights empty", "model.weights", model__weights=""),
    train("weights with a nul", "model.weights", model__weights="a\0b"),
    train("weights of nobody's", "model.weights", model__weights="~nobody-at-all/x"),
    train("weights with a long name", "model.weights", model__weights=LONG),
    train("out with a long name", "out", out=LONG),
    train("out empty", "out", out=""),
    train("out a number", "out", out=5),
    train("out a device", "out", out="/dev/null"),
    train("data unknown", "data.name", "folder", data__name="fodler"),
    train("data missing", "data", data=None),
    train("root missing", "data.root", "nowhere", data__root="nowhere"),
    train("limit 0", "data.limit", data__limit=0),
    train("a million workers", "data.workers", data__workers=10**6),
    train("eps negative", "attack.eps", attack__eps=-1),
    train("eps a fraction of zero", "attack.eps", attack__eps="8/0"),
    train("norm unknown", "attack.norm", attack__norm="l3"),
    train("attack steps 0", "attack.steps", attack__steps=0),
    train("preset unknown", "attack.preset", "standard", attack__preset="standart"),
    train("attack list empty", "attack", attack=[]),
    train("attack a list of text", "attack", attack=["paper"]),
    Case("threats none", changed("eval-features", threats=[]), words=("threats",)),
    Case("threats twice", changed("eval-features", threats=["transfer", "transfer"]), words=("threats",)),
    Case("threats unknown", changed("eval-features", threats=["psychic"]), words=("threats", "transfer")),
    Case("a billion draws", changed("eval-features", control_draws=10**9), words=("control_draws",)),
    Case("no tokens to measure", changed("eval-features", tokens=None), words=("tokens",)),
    Case("no set to measure", changed("eval-features", attack={"from": "nowhere"}), words=("attack.from",)),
    Case("no head", changed("eval-class", tokens="."), words=("head",)),
    Case("no masks", changed("eval-seg", tokens=".", head={"type": "fit"}), words=("data.name",)),
    Case("out not of UTF-8", out_of_utf8, words=("out",)),
    Case("out a file", out_is_a_file, words=("is a file",)),
    Case("out below a file", out_below_a_file, words=("file",)),
    Case("out holds the user's files", out_holds_the_users_files, words=("holds no run",)),
    Case("out that cannot be made", changed(out="/proc/rtok/run"), words=("cannot write to",)),
    Case("root a file", root_is_a_file, words=("is a file",)),
    Case("root empty", root_is_empty, words=("no images",)),
    Case("root a loop of links", link_loop, words=("no images",)),
    option("=", "key.path=value"),
    option("steps", "key.path=value"),
    option("train..steps=1", "key.path=value"),
    option("train.steps.x=1", "train.steps"),
    option("__class__=1", "__class__"),
    option("train=5", "train"),
    option("attack.0.steps=5", "attack"),
    option("train.steps=[", "train.steps"),
    option("train.steps=*a", "aliases"),
    option("train.steps=!!python/name:os.system", "tags"),
    option("out=" + '"\\ud800"', "out"),
    option("a." * 300 + "b=1", "a"),
]
