"""`rtok push`: what is published, what is not, and that it comes back as it was."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.config.defenses import StackConfig
from rtok.config.schema import Config
from rtok.defenses import defense_files, load_defense
from rtok.errors import UserError
from rtok.evaluation import evaluate_features
from rtok.reporting.report import write_leaderboard, write_report
from rtok.results.files import read_results
from rtok.results.rows import Row
from rtok.results.words import with_interval
from rtok.sharing import push
from tests.hub import TOKEN, Hub
from tests.reporting.report.folders import adversarial_set, run_folder, training
from tests.sharing.conftest import World

Start = Callable[[dict[str, bytes]], Hub]


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def dry(run: Path, out: Path, **flags: bool) -> Path:
    found = push(run, "hf:someone/robust", dry_run=True, out=out, **flags).folder
    assert found == out
    return out


def telling(folder: Path, secrets: list[str]) -> list[str]:
    """The files that have one of these texts in them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


def hosts(folder: Path) -> list[str]:
    """The text files with the host's name in them as a word."""
    name = re.compile(rf"\b{re.escape(socket.gethostname())}\b")
    return [path.name for path in folder.iterdir() if path.suffix != ".png" and name.search(path.read_text("latin-1"))]


def test_results_alone_are_published_and_nothing_of_the_machine(measured: Path, world: World, tmp_path: Path) -> None:
    out = dry(measured, tmp_path / "out")
    names = {path.name for path in out.iterdir()}
    assert names == {"README.md", "config.yaml", "results.json", "run.json", "summary.png", "tradeoff.png"}
    private = [
        str(tmp_path),
        str(world.folder),
        str(Path.home()),
        "secret",
        "0123abcd",
        *(f"picture{i}.png" for i in range(7)),
    ]
    assert telling(out, private) == [] and hosts(out) == []
    for file in world.files.values():
        for values in load_defense(file).parameters().values():
            assert not [path for path in out.iterdir() if values.numpy().tobytes()[:64] in path.read_bytes()]
    assert telling(measured, [str(tmp_path), str(world.folder)]) != [], "the run itself says where its files lay"


def test_the_card_has_every_threat_with_its_interval_and_what_was_measured(measured: Path, tmp_path: Path) -> None:
    out = dry(measured, tmp_path / "out")
    card, rows = (out / "README.md").read_text(), read_results(out / "results.json")["rows"]
    assert {row["threat"] for row in rows} == {"transfer", "adaptive"}
    for row in rows:
        assert with_interval(row["cosine_to_plain"], row["ci95"]["cosine_to_plain"]) in card
    assert "measured by rtok eval-features on 7 images of folder" in card
    assert "rtokens.safetensors is not in this repository, its results are. It is private" in card
    assert "4 steps of 8 images" in card and "guessed (trains defenses of their own" in card
    assert "Robust (lora): cosine to plain falls to" in card and "under adaptive" in card
    assert "rtok report theirs" in card and "load_defense" not in card
    assert "It was not attacked by somebody" not in card and "can fit a copy of it" in card


def test_the_header_is_the_hubs(measured: Path, tmp_path: Path) -> None:
    out = dry(measured, tmp_path / "out", with_tokens=True, with_weights=True)
    data = ModelCard.load(out / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("rtok", "image-feature-extraction")
    assert {"rtok", "tokens", "lora"} <= set(data.tags) and data.license is None
    assert data.base_model is None, "the weights were a file, of which the hub knows nothing"
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    rows = [row for row in read_results(out / "results.json")["rows"] if row["victim"] == "robust"]
    assert sorted(found.values()) == sorted(round(row["cosine_to_plain"], 4) for row in rows)
    assert any(name.startswith("cosine to plain, robust (lora) under adaptive") for name in found)


def test_weights_from_the_hub_are_the_base(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtok.sharing.publish.drawn", lambda run, metrics: run)
    config = measured / "config.yaml"
    for weights, base in (("pretrained", "timm/vit_small_patch14_dinov2.lvd142m"), ("hf-hub:a/b:c.pth", "a/b")):
        config.write_text(re.sub(r"weights: .*safetensors", f"weights: {weights}", config.read_text()))
        out = dry(measured, tmp_path / base.replace("/", "-"), with_weights=True)
        data = ModelCard.load(out / "README.md").data
        assert (data.base_model, data.base_model_relation) == (base, "adapter")
        config.write_text(config.read_text().replace(f"weights: {weights}", "weights: x.safetensors"))


def rows_of(out: Path) -> list[Row]:
    """All that was measured, under names that do not depend on where the defenses lay."""
    rows = json.loads((out / "results.json").read_text())["rows"]
    return [{**row, "defense": row["defense"] and re.split("[:/]", row["defense"])[-1]} for row in rows]


def test_pushed_and_read_back_it_is_the_same_defense_and_the_same_rows(
    measured: Path, world: World, hub: Start, logged_in: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = hub({})
    done = push(measured, "hf:someone/robust", with_tokens=True, with_weights=True, private=True)
    assert done.url == f"{server.address}/someone/robust" and done.folder is None
    repository = server.repositories["someone/robust"]
    assert repository.private and set(done.files) == set(repository.files) > {"README.md", "lora.safetensors"}
    assert set(server.large.values()) == {repository.files[name] for name in repository.files if "safetensors" in name}

    for kind, file in world.files.items():
        loaded, own = load_defense(f"hf:someone/robust:{file.name}"), load_defense(file)
        assert loaded.kind == kind and (loaded.fingerprint, loaded.seen) == (own.fingerprint, own.seen)
        for name, values in own.parameters().items():
            assert torch.equal(loaded.parameters()[name], values)
    config = Config.model_validate({**world.config, "defense": "hf:someone/robust", "out": str(tmp_path / "again")})
    evaluate_features(config)
    assert sorted(map(str, rows_of(tmp_path / "again"))) == sorted(map(str, rows_of(measured)))
    named = {row["defense"] for row in json.loads((tmp_path / "again/results.json").read_text())["rows"]}
    assert named == {None, "hf:someone/robust:lora.safetensors", "hf:someone/robust:rtokens.safetensors"}
    assert telling(tmp_path / "again", [str(tmp_path / "cache")]) == []

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(server.asked)
    from rtok.defenses.hub import _snapshot

    _snapshot.cache_clear()
    assert load_defense(f"hf:someone/robust@{repository.commit}:lora.safetensors").kind == "lora"
    assert load_defense("hf:someone/robust:lora.safetensors").kind == "lora" and len(server.asked) == asked


def test_a_repository_is_a_run_that_reports_and_leaderboards_read(world: World, tmp_path: Path) -> None:
    config = {**world.config, "defense": str(world.files["lora"]), "protocol": "protocol-v1"}
    run = evaluate_features(Config.model_validate({**config, "out": str(tmp_path / "run")})).out
    out = dry(run, tmp_path / "out", with_weights=True)
    assert (out / "protocol-v1-lora.json").is_file() and telling(out, [str(tmp_path), str(world.folder)]) == []
    card = (out / "README.md").read_text()
    assert "of folder, split train, following protocol-v1 except for its model.image_size, data.split, " in card
    write_report([out], tmp_path / "report")
    write_leaderboard([out], tmp_path / "leaderboard")
    shown = (tmp_path / "report/report.md").read_text()
    assert "eval-features: dinov2_vits14 at 28 px" in shown and "lora" in shown


@pytest.mark.parametrize(
    ("flags", "published"),
    [
        ([], set()),
        (["--with-tokens"], {"rtokens.safetensors"}),
        (["--with-weights"], {"lora.safetensors"}),
        (["--with-tokens", "--with-weights"], {"rtokens.safetensors", "lora.safetensors", "stack.safetensors"}),
    ],
)
def test_each_flag_publishes_its_own(
    flags: list[str], published: set[str], measured: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtok.sharing.publish.drawn", lambda run, metrics: run)
    stack = str(StackConfig(stack=list(world.files.values())))
    results = json.loads((measured / "results.json").read_text())
    results["rows"] += [{**row, "defense": stack, "kind": "stack"} for row in results["rows"] if row["kind"] == "lora"]
    (measured / "results.json").write_text(json.dumps(results))
    command = ["push", str(measured), "--to", "hf:someone/robust", "--dry-run", "--out", str(tmp_path / "out"), *flags]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").glob("*.safetensors")} == published
    assert len(published) == 0 or {file.name for file in defense_files(tmp_path / "out")} == published
    assert ("no longer private" in done.stdout) == ("--with-tokens" in flags)
    assert ("Attackers have it" in (tmp_path / "out/README.md").read_text()) == ("--with-tokens" in flags)
    assert ("not published: stack.safetensors (--with-tokens --with-weights)" in done.stdout) == (len(flags) < 2)
    assert telling(tmp_path / "out", [str(tmp_path), str(world.folder)]) == []
    if "stack.safetensors" in published:
        stacked = load_defense(tmp_path / "out/stack.safetensors")
        own = load_defense(StackConfig(stack=list(world.files.values())))
        for name, values in own.parameters().items():
            assert torch.equal(stacked.parameters()[name], values)


def test_the_run_of_a_training_publishes_its_defense(world: World, tmp_path: Path) -> None:
    run = training(tmp_path / "trained")
    (run / "rtokens.safetensors").write_bytes(world.files["tokens"].read_bytes())
    with pytest.raises(UserError, match=r"holds no results: push the run of an evaluation.* with --with-tokens\."):
        push(run, "hf:someone/robust", dry_run=True, out=tmp_path / "out")
    out = dry(run, tmp_path / "out", with_tokens=True)
    card = (out / "README.md").read_text()
    assert "trained, and not measured" in card and "](curves.png)" in card and (out / "curves.png").is_file()
    assert "no attack on it was measured" in card and "Attackers have it" in card and "falls to" not in card
    assert telling(out, [str(tmp_path), str(world.folder)]) == []
    assert 'rtok.load_defense("hf:someone/robust")' in card


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("someone/robust", "someone/robust is not a place on the hub: write hf:USER/REPO"),
        ("hf:robust", "hf:robust is not a place on the hub"),
        ("hf:a/b/c", "is not a place on the hub"),
        ("hf:a/b@main", "--to hf:a/b@main: name a repository, hf:a/b."),
    ],
)
def test_where_to_is_checked(to: str, message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(build(), ["push", str(tmp_path), "--to", to])
    assert done.exit_code == 2 and message in done.stderr


def test_what_cannot_be_published_is_one_line(
    measured: Path, world: World, hub: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtok.sharing.publish.drawn", lambda run, metrics: run)

    def refused(run: Path, message: str, to: str = "hf:someone/robust", **flags: bool) -> None:
        with pytest.raises(UserError, match=message) as caught:
            push(run, to, **flags)
        assert "\n" not in str(caught.value)

    refused(measured, "HF_HUB_OFFLINE is set")
    server = hub({})
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    refused(measured, "you are not logged in to the Hugging Face hub: run `hf auth login`")
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    refused(measured, r"did not take it \(.*Your token may not write there")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    refused(measured, "hf:other/robust: the hub did not take it", to="hf:other/robust")
    refused(measured, "hf:someone/vit is there already and is public", to="hf:someone/vit", private=True)
    assert server.files == {}
    refused(
        run_folder(tmp_path / "begun", "eval-features", finished=False), "is not finished: `rtok resume .*begun` goes"
    )
    refused(adversarial_set(tmp_path / "set"), "is a set of adversarial images")
    refused(tmp_path / "missing", "there is no folder")
    results = (measured / "results.json").read_text()
    (measured / "results.json").write_text(results.replace(str(world.files["lora"]), "gone/lora.safetensors"))
    refused(
        measured,
        r"--with-weights: the file .*lora\.safetensors of the run's defense is not there any more",
        with_weights=True,
    )


def test_a_flag_that_publishes_nothing_is_refused(measured: Path, world: World, tmp_path: Path) -> None:
    results = json.loads((measured / "results.json").read_text())
    for kind, flag in (("lora", "with_tokens"), ("tokens", "with_weights"), ("none", "with_tokens")):
        kept = [row for row in results["rows"] if row["kind"] in (None, kind)]
        (measured / "results.json").write_text(json.dumps({**results, "rows": kept, "differences": []}))
        with pytest.raises(
            UserError, match=rf"--{flag.replace('_', '-')}: the run has no (such part, but {kind}|defense)"
        ):
            push(measured, "hf:someone/robust", dry_run=True, out=tmp_path / "out", **{flag: True})


def test_a_folder_with_something_in_it_is_left_alone(measured: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(UserError, match="is there already"):
        push(measured, "hf:someone/robust", dry_run=True, out=tmp_path / "out")
