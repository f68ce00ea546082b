"""Checkpoints that are damaged, explode, run code, or hold numbers that are none."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from tests.hostile.case import Case, World

Content = Callable[[World], bytes]


class Call:
    """A pickle that calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.how = (function, arguments)

    def __reduce__(self) -> Any:
        return self.how


def canary(world: World) -> Call:
    """Pickles to a call that would leave a file."""
    return Call(open, str(world.folder / "canary"), "w")


def weights(suffix: str, content: Content) -> Callable[[World], list[str]]:
    """Train on weights of this content."""
    return lambda world: world.run(
        "train", world.config(model__weights=str(world.write(f"hostile{suffix}", content(world))))
    )


def tokens(suffix: str, content: Content) -> Callable[[World], list[str]]:
    """Measure tokens of this content."""
    return lambda world: world.run(
        "eval-features", world.config(tokens=str(world.write(f"hostile{suffix}", content(world))))
    )


def inspected(suffix: str, content: Content) -> Callable[[World], list[str]]:
    return lambda world: ["inspect", str(world.write(f"hostile{suffix}", content(world)))]


def converted(suffix: str, content: Content) -> Callable[[World], list[str]]:
    def make(world: World) -> list[str]:
        return ["convert", str(world.write(f"hostile{suffix}", content(world))), f"{world.out}.pth", "--to", "timm"]

    return make


def head(content: Content) -> Callable[[World], list[str]]:
    """Measure through a head of this content."""

    def make(world: World) -> list[str]:
        file = world.write("head.pth", content(world))
        config = world.config(tokens=good_tokens(world), head={"type": "linear", "path": str(file)})
        return world.run("eval-class", config)

    return make


def good_tokens(world: World) -> str:
    return str(world.write("tokens.safetensors", save({"rtokens": torch.ones(1, 2, 64)})))


def raw(content: bytes) -> Content:
    return lambda world: content


def pickled(value: Callable[[World], Any], **options: Any) -> Content:
    def make(world: World) -> bytes:
        buffer = io.BytesIO()
        torch.save(value(world), buffer, **options)
        return buffer.getvalue()

    return make


def tokens_of(tensor: Tensor, **metadata: str) -> Content:
    return raw(save({"rtokens": tensor}, metadata=metadata or None))


def plain_weights(world: World) -> dict[str, Tensor]:
    return load_file(world.good["model"]["weights"])


def weights_with(change: Callable[[Tensor], Tensor]) -> Callable[[World], dict[str, Tensor]]:
    """The good weights with one tensor changed."""

    def make(world: World) -> dict[str, Tensor]:
        state = plain_weights(world)
        return {**state, "cls_token": change(state["cls_token"])}

    return make


def header(text: str | bytes, length: int | None = None, data: bytes = b"") -> Content:
    """A safetensors file with this header."""
    content = text.encode() if isinstance(text, str) else text
    return raw(struct.pack("<Q", len(content) if length is None else length) + content + data)


def cut(content: Content, share: float) -> Content:
    def make(world: World) -> bytes:
        whole = content(world)
        return whole[: int(len(whole) * share)]

    return make


def deflated(entries: dict[str, bytes]) -> Content:
    """A zip of compressed entries, as torch never writes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return raw(buffer.getvalue())


def adversarial_set(files: dict[str, str]) -> Callable[[World], list[str]]:
    """Measure on a set of these files."""

    def make(world: World) -> list[str]:
        for name, content in files.items():
            world.write(f"set/{name}", content)
        config = world.config(tokens=good_tokens(world), attack={"from": str(world.folder / "set")})
        return world.run("eval-features", config)

    return make


def linked(world: World) -> list[str]:
    (world.folder / "loop.pth").symlink_to(world.folder / "loop.pth")
    return ["inspect", str(world.folder / "loop.pth")]


def piped(world: World) -> list[str]:
    os.mkfifo(world.folder / "pipe.pth")
    return ["inspect", str(world.folder / "pipe.pth")]


def resumed(files: dict[str, str | bytes]) -> Callable[[World], list[str]]:
    """Go on with a run of which these files were changed."""

    def make(world: World) -> list[str]:
        from rtok.config.schema import Config

        config = world.config(out=str(world.folder / "begun"), tokens={"count": 2})
        world.write("begun/config.yaml", Config.model_validate(config).to_yaml())
        (world.folder / "begun" / "state").mkdir()
        for name, content in files.items():
            world.write(f"begun/{name}", content)
        return world.run("train", config, "--resume")

    return make


def one(name: str) -> str:
    return json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})


ATTACK = {"finished": True, "objective": "features", "image_size": [32, 32], "config": {}}
ROWS = "image,group,file,clean_sha256,linf_255,mse\n"


def bad(name: str, make: Callable[[World], list[str]], *words: str) -> Case:
    return Case(name, make, words=words or ("hostile",))


CASES = [
    bad("safetensors empty", weights(".safetensors", raw(b""))),
    bad("safetensors of seven bytes", weights(".safetensors", raw(b"1234567"))),
    bad("safetensors cut", weights(".safetensors", cut(lambda w: Path(w.good["model"]["weights"]).read_bytes(), 0.5))),
    bad("safetensors header of exabytes", inspected(".safetensors", header("{}", 2**62))),
    bad("safetensors header no JSON", inspected(".safetensors", header("{{{{"))),
    bad("safetensors header a list", inspected(".safetensors", header("[1]"))),
    bad("safetensors header nested", inspected(".safetensors", header("[" * 100_000))),
    bad("safetensors offsets beyond the end", inspected(".safetensors", header(one("a")))),
    bad("safetensors without tensors", inspected(".safetensors", header("{}"))),
    bad("safetensors that is a pickle", inspected(".safetensors", pickled(canary))),
    bad("pickle that is safetensors", inspected(".pth", tokens_of(torch.ones(1, 2, 64)))),
    bad("pickle empty", inspected(".pth", raw(b""))),
    bad("pickle cut", weights(".pth", cut(pickled(plain_weights), 0.7))),
    bad("pickle cut at its end", weights(".pth", cut(pickled(plain_weights), 0.999))),
    bad("old pickle cut", weights(".pth", cut(pickled(plain_weights, _use_new_zipfile_serialization=False), 0.7))),
    bad("a web page", inspected(".pth", raw(b"<!DOCTYPE html><html>404</html>"))),
    bad("a pointer of git lfs", inspected(".pth", raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"))),
    bad("pickle that opens a file", weights(".pth", pickled(lambda w: {"cls_token": canary(w)}))),
    bad("pickle that opens a file, tokens", tokens(".pt", pickled(lambda w: {"rtokens": canary(w)}))),
    bad("pickle that opens a file, head", head(pickled(lambda w: {"weight": canary(w)})), "head.pth"),
    bad("pickle that opens a file, convert", converted(".pt", pickled(lambda w: {"rtokens": canary(w)}))),
    bad("pickle that opens a file, alone", inspected(".pth", lambda w: pickle.dumps(canary(w)))),
    bad("pickle that opens a file, old", inspected(".pth", pickled(canary, _use_new_zipfile_serialization=False))),
    bad("pickle in text", inspected(".pth", lambda w: pickle.dumps(canary(w), protocol=0))),
    bad(
        "pickle that starts a shell", inspected(".pth", pickled(lambda w: Call(os.system, f"touch {w.folder}/canary")))
    ),
    bad("pickle that evaluates", inspected(".pth", pickled(lambda w: Call(eval, "open('canary', 'w')")))),
    bad("pickle of a module", inspected(".pth", pickled(lambda w: torch.nn.Linear(2, 2)))),
    bad("pickle of a list", inspected(".pth", pickled(lambda w: [torch.ones(2)]))),
    bad("pickle of a number", inspected(".pth", pickled(lambda w: 5))),
    bad("pickle of nothing", inspected(".pth", pickled(lambda w: {}))),
    bad("pickle of texts", inspected(".pth", pickled(lambda w: {"a": "b"}))),
    bad("zip bomb", inspected(".pth", deflated({"archive/data.pkl": bytes(300 << 20), "archive/version": b"3"}))),
    bad(
        "zip bomb beside weights", inspected(".pth", deflated({f"archive/data/{i}": bytes(50 << 20) for i in range(9)}))
    ),
    bad("zip of nothing", inspected(".pth", deflated({}))),
    bad("zip without a pickle", inspected(".pth", deflated({"archive/version": b"3"}))),
    bad("weights of another model", weights(".pth", pickled(lambda w: {"cls_token": torch.ones(1, 1, 64)}))),
    bad("weights of integers", weights(".pth", pickled(weights_with(lambda t: t.long())))),
    bad("weights of complex numbers", weights(".pth", pickled(weights_with(lambda t: t.to(torch.complex64))))),
    bad("weights of truth values", weights(".pth", pickled(weights_with(lambda t: t > 0)))),
    bad("weights sparse", weights(".pth", pickled(weights_with(lambda t: t.to_sparse())))),
    bad(
        "weights quantized",
        weights(".pth", pickled(weights_with(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)))),
    ),
    bad("weights of another shape", weights(".pth", pickled(weights_with(lambda t: t[..., :5])))),
    bad("weights NaN", weights(".pth", pickled(weights_with(lambda t: t * float("nan")))), "NaN"),
    bad("weights infinite", weights(".pth", pickled(weights_with(lambda t: t / 0))), "NaN"),
    bad("tokens NaN", tokens(".safetensors", tokens_of(torch.full((1, 2, 64), float("nan")))), "NaN"),
    bad("tokens infinite", tokens(".safetensors", tokens_of(torch.full((1, 2, 64), float("inf")))), "NaN"),
    bad("tokens of integers", tokens(".safetensors", tokens_of(torch.ones(1, 2, 64, dtype=torch.int64)))),
    bad("tokens of complex numbers", tokens(".pt", pickled(lambda w: {"rtokens": torch.ones(1, 2, 64) * 1j}))),
    bad("tokens sparse", tokens(".pt", pickled(lambda w: {"rtokens": torch.ones(1, 2, 64).to_sparse()}))),
    bad("tokens of two dimensions", tokens(".safetensors", tokens_of(torch.ones(2, 64)))),
    bad("tokens none", tokens(".safetensors", tokens_of(torch.ones(1, 0, 64)))),
    bad("tokens of another width", tokens(".safetensors", tokens_of(torch.ones(1, 2, 32))), "32"),
    bad("tokens of another name", tokens(".safetensors", raw(save({"token": torch.ones(1, 2, 64)})))),
    bad("tokens of a later format", tokens(".safetensors", tokens_of(torch.ones(1, 2, 64), format="rtok-tokens-9"))),
    bad("tokens with a broken config", tokens(".safetensors", tokens_of(torch.ones(1, 2, 64), config="{"))),
    bad("tokens with a list for a config", tokens(".safetensors", tokens_of(torch.ones(1, 2, 64), config="[1]"))),
    bad("tokens with a broken size", tokens(".safetensors", tokens_of(torch.ones(1, 2, 64), image_size="5"))),
    bad("tokens with three sides", tokens(".safetensors", tokens_of(torch.ones(1, 2, 64), image_size="[1,2,3]"))),
    Case(
        "release without its keys",
        inspected(".safetensors", tokens_of(torch.ones(1), rtok='{"format": "rtok-model-1"}')),
        "fine",
    ),
    bad(
        "release without its keys, weights",
        weights(".safetensors", tokens_of(torch.ones(1), rtok='{"format": "rtok-model-1"}')),
    ),
    Case("release nested", inspected(".safetensors", tokens_of(torch.ones(1), rtok="[" * 100_000)), "fine"),
    bad(
        "head NaN", head(pickled(lambda w: {"weight": torch.ones(2, 64) * float("nan"), "bias": torch.ones(2)})), "head"
    ),
    bad(
        "head of three dimensions",
        head(pickled(lambda w: {"weight": torch.ones(2, 64, 1), "bias": torch.ones(2)})),
        "head",
    ),
    bad(
        "head of integers", head(pickled(lambda w: {"weight": torch.ones(2, 64).long(), "bias": torch.ones(2)})), "head"
    ),
    bad("head of another width", head(pickled(lambda w: {"weight": torch.ones(2, 5), "bias": torch.ones(2)})), "head"),
    bad("link to itself", linked, "loop.pth"),
    bad("pipe", piped, "pipe.pth"),
    bad("set of nothing", adversarial_set({}), "attack.from"),
    bad("set no JSON", adversarial_set({"attack.json": "{", "manifest.csv": ROWS}), "attack.from"),
    bad("set a list", adversarial_set({"attack.json": "[1]", "manifest.csv": ROWS}), "attack.from"),
    bad("set nested", adversarial_set({"attack.json": "[" * 100_000, "manifest.csv": ROWS}), "attack.from"),
    bad("set unfinished", adversarial_set({"attack.json": '{"finished": false}', "manifest.csv": ROWS}), "attack.from"),
    bad("set without keys", adversarial_set({"attack.json": json.dumps(ATTACK), "manifest.csv": ROWS}), "attack.from"),
    bad(
        "set without columns",
        adversarial_set({"attack.json": json.dumps(ATTACK), "manifest.csv": "image\na\n"}),
        "attack.from",
    ),
    bad(
        "set of paths outside",
        adversarial_set({"attack.json": json.dumps(ATTACK), "manifest.csv": ROWS + "0.png,0,../x.png,0,0,0\n"}),
        "attack.from",
    ),
    bad("state no checkpoint", resumed({"run.json": "{}", "state/train.pt": b"nonsense"}), "train.pt"),
    bad(
        "state of a kind",
        resumed({"run.json": "{}", "state/train.pt": pickled(lambda w: {"step": 1})(None)}),
        "train.pt",
    ),  # type: ignore[arg-type]
    bad("metrics damaged", resumed({"run.json": "{}", "metrics.jsonl": "{\n{}\n"}), "metrics.jsonl"),
    bad("metrics of numbers", resumed({"run.json": "{}", "metrics.jsonl": "1\n"}), "metrics.jsonl"),
    bad("metrics without steps", resumed({"run.json": "{}", "metrics.jsonl": "{}\n"}), "metrics.jsonl"),
    bad("settings damaged", resumed({"run.json": "{}", "config.yaml": "{"}), "config.yaml"),
    bad("settings of another run", resumed({"run.json": "{}", "config.yaml": "seed: 3\n"}), "other settings"),
]
