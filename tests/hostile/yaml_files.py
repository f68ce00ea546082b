"""Files that are no config: malformed, exploding, or in another encoding."""

from __future__ import annotations

import os
from collections.abc import Callable

import yaml

from tests.hostile.case import Case, World

GOOD = "model: {name: dinov2_vits14}\ndata: {name: photos}\n"
LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


def text(content: str | bytes) -> Callable[[World], list[str]]:
    return lambda world: world.run("train", content)


def dry(content: str | bytes) -> Callable[[World], list[str]]:
    return lambda world: world.run("train", content, "--dry-run")


def folder(world: World) -> list[str]:
    (world.folder / "folder.yaml").mkdir()
    return ["train", "--config", str(world.folder / "folder.yaml")]


def pipe(world: World) -> list[str]:
    os.mkfifo(world.folder / "pipe.yaml")
    return ["train", "--config", str(world.folder / "pipe.yaml")]


def good_with(prefix: bytes, line_end: bytes = b"\n") -> Callable[[World], list[str]]:
    def make(world: World) -> list[str]:
        content = yaml.safe_dump(world.config()).encode().replace(b"\n", line_end)
        return world.run("train", prefix + content, "--dry-run")

    return make


CASES = [
    Case("exploding anchors", text(LAUGHS), words=("anchors and aliases",)),
    Case("merge key", text("base: &b {name: x}\nmodel: {<<: *b}\n"), words=("anchors",)),
    Case("recursive alias", text("&a model: *a\n"), words=("anchors",)),
    Case("duplicate key", text(GOOD + "seed: 1\nseed: 2\n"), words=("seed", "already given")),
    Case("duplicate key in a section", text("model: {name: a, name: b}\ndata: {name: photos}\n"), words=("name",)),
    Case("tab", text("model:\n\tname: dinov2_vits14\n"), words=("line 2", "not tabs")),
    Case("utf-16", text(GOOD.encode("utf-16")), words=("not UTF-8",)),
    Case("utf-16 without its mark", text(GOOD.encode("utf-16-le")), words=("hostile.yaml",)),
    Case("utf-32", text(GOOD.encode("utf-32")), words=("not UTF-8",)),
    Case("latin-1", text("out: Übung\n".encode("latin-1")), words=("not UTF-8",)),
    Case("utf-8 cut in a character", text("out: Übung".encode()[:6]), words=("not UTF-8",)),
    Case("nul bytes", text(GOOD + "out: a\0b\n"), words=("U+0000",)),
    Case("escape character", text(GOOD + "out: \x1b[31mred\n"), words=("U+001B",)),
    Case("escaped escape character", text(GOOD + 'model: {name: "\\e[31m"}\n'), words=("\\x1b",)),
    Case("lone surrogate", text(GOOD + 'out: "\\ud800"\n'), words=("hostile.yaml",)),
    Case("lone surrogate in a name", text('model: {name: "\\ud800"}\ndata: {name: photos}\n'), words=("hostile.yaml",)),
    Case("a picture", text(b"\x89PNG\r\n\x1a\n" + bytes(range(256))), words=("not UTF-8",)),
    Case("deeply nested", text("model: " + "[" * 5000), words=("nested",)),
    Case("deeply nested maps", text("{a: " * 3000), words=("nested",)),
    Case("very long", text("# " + "x" * (2 << 20)), words=("too long",)),
    Case("python object", text("model: !!python/object/apply:os.system [true]\n"), words=("tags",)),
    Case("python name", text("model: !!python/name:os.system\n"), words=("tags",)),
    Case("binary tag", text("model: !!binary aGk=\n"), words=("tags",)),
    Case("two documents", text(GOOD + "---\n" + GOOD), words=("hostile.yaml",)),
    Case("empty", text(""), words=("empty",)),
    Case("comments only", text("# nothing\n"), words=("empty",)),
    Case("a scalar", text("dinov2_vits14\n"), words=("mapping",)),
    Case("a list", text("- model\n- data\n"), words=("mapping",)),
    Case("unclosed quote", text('model: "dinov2\n'), words=("hostile.yaml",)),
    Case("unclosed brace", text("model: {name: dinov2_vits14\n"), words=("hostile.yaml",)),
    Case("number as key", text("1: 2\n"), words=("key must be text",)),
    Case("null as key", text("~: 2\n"), words=("key must be text",)),
    Case("list as key", text("? [a]\n: b\n"), words=("key must be text",)),
    Case("number of a million digits", text(GOOD + "seed: " + "9" * 100_000), words=("seed",)),
    Case("unset variable", text(GOOD + "out: ${RTOK_NO_SUCH_VARIABLE}/x\n"), words=("RTOK_NO_SUCH_VARIABLE",)),
    Case("malformed variable", text(GOOD + "out: ${1x\n"), words=("hostile.yaml",)),
    Case("directive", text("%YAML 9.9\n---\n" + GOOD), words=("hostile.yaml",)),
    Case("a folder", folder, words=("is a folder",)),
    Case("a pipe", pipe, words=("no such file",)),
    Case("utf-8 with its mark", good_with(b"\xef\xbb\xbf"), "fine"),
    Case("dos line ends", good_with(b"", b"\r\n"), "fine"),
]
