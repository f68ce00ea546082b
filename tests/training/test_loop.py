"""Training: the method, its files, and runs that can be cut anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import rtok
from rtok.config.registry import DEFENSES
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import training_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.models import load_backbone
from rtok.training import train
from rtok.training.loop import make_trainees
from rtok.training.step import Trainer

# The smallest of each kind. Adam turns a gradient that is float noise into a whole step, so where parameters of runs
# that sum in another order are compared, and some gradients are near zero, SGD takes the steps.
KINDS: dict[str, dict[str, Any]] = {
    "tokens": {"count": 3},
    "deep-tokens": {"kind": "deep-tokens", "count": 2},
    "lora": {"kind": "lora", "rank": 2, "targets": ["qkv", "fc2"], "blocks": [0, 5]},
    "weights": {"kind": "weights"},
}
SGD = {"optimizer": "sgd", "lr": 0.05}


def test_every_kind_is_here() -> None:
    assert set(KINDS) == set(DEFENSES)


@pytest.fixture
def small(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The settings with a model so small that all of its weights can be trained in a second."""
    vit = timm.create_model("test_vit", num_classes=0)
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in vit.state_dict().items()}
    save_file(state, tmp_path / "vit.safetensors")
    return {
        **settings,
        "model": {"name": "timm:test_vit", "weights": str(tmp_path / "vit.safetensors"), "image_size": 32},
    }


FILES = ["config.yaml", "curves.png", "metrics.jsonl", "rtokens.safetensors", "run.json", "state"]


def config(settings: dict[str, Any], **changes: Any) -> Config:
    base = {**settings, "tokens": KINDS["tokens"], "train": {"steps": 4, "batch_size": 4, "checkpoint_every": 1}}
    return Config.model_validate({**base, **changes})


def tokens(out: Path) -> Tensor:
    return load_file(out / "rtokens.safetensors")["rtokens"]


def trained(out: Path) -> dict[str, Tensor]:
    """The parameters of the only defense in a run's folder."""
    (file,) = out.glob("*.safetensors")
    return load_file(file)


def assert_same(out: Path, other: Path, *, atol: float = 0.0) -> None:
    one, two = trained(out), trained(other)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=atol)


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# Of three steps: the radius is 0, half and whole; the rate is 1/1, then half a cosine that ends after the last.
SCHEDULES = {
    "threat": "adaptive",
    "invariance_weight": 0.25,
    "eps_schedule": {"hold": 1 / 3, "ramp": 2 / 3},
    "lr_schedule": "cosine",
}
# FARE's objective, another optimizer's own decay, and an average that the last state is not.
DISTANCE = {"objective": "l2", "invariance_weight": 0, "weight_decay": 0.1, "ema": 0.5}


@pytest.mark.parametrize("changes", [{}, {"threat": "adaptive"}, {"threat": "mixed"}, SCHEDULES, DISTANCE], ids=str)
def test_a_step_is_the_papers(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    """Three steps written out without the package's attack and loop, in normalised space, as the paper has it."""
    cfg = config(settings, train={"steps": 3, "batch_size": 3, **changes})
    train(cfg)
    threat, weight = changes.get("threat", "transfer"), changes.get("invariance_weight", 1.0)
    scales = (0, 0.5, 1) if "eps_schedule" in changes else (1, 1, 1)
    rates = (1, 0.75, 0.25) if "lr_schedule" in changes else (1, 1, 1)
    backbone = load_backbone(cfg.model.name, weights=cfg.model.weights, image_size=28)
    source = open_source(cfg.data, seed=0)
    batches = training_batches(source, Transform("squash", (28, 28)), batch_size=3, start=0, steps=3, seed=0)
    r = RobustnessTokens.draw(3, 384).values.requires_grad_(True)
    adam = torch.optim.Adam([r], lr=1e-3, weight_decay=changes.get("weight_decay", 0))
    average = r.detach().clone()

    def term(features: Tensor, target: Tensor) -> Tensor:
        if "objective" in changes:
            return -((features - target) ** 2).sum(2).mean()
        return F.cosine_similarity(features, target, dim=1).mean()

    from rtok.attacks.noise import start_noise

    def attacked(pixels: Tensor, first: int) -> Tensor:
        """Features of what is attacked: plain, with the tokens, or in turns."""
        own = [threat == "adaptive" or (threat == "mixed" and i % 2) for i in range(first, first + 3)]
        features = [backbone(x[None], r.detach() if known else None) for x, known in zip(pixels, own, strict=True)]
        return torch.cat(features)

    for step, batch in enumerate(batches):
        mean, std = backbone.mean, backbone.std
        clean = (batch.images - mean) / std
        target = backbone(batch.images).detach()
        noise = [
            start_noise("gaussian", "linf", 8 / 255, batch.images[b : b + 1].shape, batch.keys[b : b + 1], 0, 0, v)
            for b, v in enumerate(batch.visits)
        ]
        eps = scales[step] * 8 / 255
        x = clean + torch.cat(noise).clamp(-eps, eps)
        x = (x * std + mean).clamp(0, 1)
        for _ in range(3):
            z = ((x - mean) / std).requires_grad_(True)
            pixels = z * std + mean
            loss = term(attacked(pixels, 3 * step), target) * 3
            loss = loss + F.mse_loss(pixels, batch.images) * 3
            (gradient,) = torch.autograd.grad(loss, z)
            z = clean + (z.detach() - scales[step] * 1e-2 * gradient.sign() - clean).clamp(-eps, eps)
            x = (z * std + mean).clamp(0, 1)
        x = (x * 255 + 1e-4).floor() / 255 if eps else batch.images
        terms = [term(backbone(images, r), target) for images in (batch.images, x)]
        adam.zero_grad()
        adam.param_groups[0]["lr"] = rates[step] * 1e-3
        (-(weight * terms[0] + terms[1])).backward()
        adam.step()
        decay = min(0.5, (2 + step) / (11 + step)) if "ema" in changes else 0
        average = decay * average + (1 - decay) * r.detach()
    torch.testing.assert_close(tokens(cfg.out), average, rtol=0, atol=1e-5)
    if "objective" in changes:
        assert metrics(cfg.out)[-1]["loss"] == pytest.approx(-terms[1].item(), rel=1e-4)
        assert all(0 < row["invariance"] <= 1 and row["undefended"] < 1 for row in metrics(cfg.out))
    rows = metrics(cfg.out)
    assert [row["lr"] for row in rows] == pytest.approx([rate * 1e-3 for rate in rates])
    if "eps_schedule" in changes:
        assert [row["eps"] for row in rows] == pytest.approx([scale * 8 / 255 for scale in scales])
        assert rows[0]["undefended"] == 1 and rows[0]["image_mse"] == 0
        assert rows[0]["loss"] == pytest.approx(-1.25 * rows[0]["invariance"], abs=1e-6)


def test_it_writes_these_files_and_no_others(settings: dict[str, Any]) -> None:
    cfg = config(settings)
    train(cfg)
    assert sorted(path.name for path in cfg.out.iterdir()) == FILES
    rows = metrics(cfg.out)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert list(rows[0]) == ["step", "loss", "invariance", "adversarial", "undefended", "image_mse", "lr", "seconds"]
    record = json.loads((cfg.out / "run.json").read_text())
    assert record["finished"] and torch.__version__.startswith(record["versions"]["torch"])
    loaded = RobustnessTokens.load(cfg.out / "rtokens.safetensors")
    assert loaded.backbone == "dinov2_vits14" and loaded.image_size == (28, 28) and loaded.count == 3
    assert loaded.config["train"]["steps"] == 4
    assert loaded.version == rtok.__version__
    assert loaded.fingerprint == load_backbone("dinov2_vits14", weights=cfg.model.weights).fingerprint()


def test_training_raises_the_objective(settings: dict[str, Any]) -> None:
    cfg = config(settings, train={"steps": 10, "batch_size": 7, "lr": 0.02})
    train(cfg)
    rows = metrics(cfg.out)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_defense_changes(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    seen: list[Trainer] = []
    original = Trainer.__init__

    def spy(self: Trainer, *arguments: Any) -> None:
        original(self, *arguments)
        seen.append(self)

    monkeypatch.setattr(Trainer, "__init__", spy)
    cfg = config(small, tokens=KINDS[kind])
    train(cfg)
    before = load_backbone(cfg.model.name, weights=cfg.model.weights, image_size=32).state_dict()
    backbone = seen[0].backbone
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())
    start = make_trainees(cfg, backbone, torch.device("cpu"))[0].defense.parameters()
    for name, values in trained(cfg.out).items():
        # of a grid of positions that is resized only those change that are next to one of the new grid
        assert ((values - start[name]).abs() > 1e-6).float().mean() > (0.1 if name == "pos_embed" else 0.9)


def test_the_same_seed_gives_the_same_tokens(settings: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(config(settings, out=tmp_path / name))
    train(config(settings, out=tmp_path / "c", seed=1))
    assert torch.equal(tokens(tmp_path / "a"), tokens(tmp_path / "b"))
    assert not torch.allclose(tokens(tmp_path / "a"), tokens(tmp_path / "c"), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_nothing(
    small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    steps = {"steps": 4, "batch_size": 4, **SGD}
    train(config(small, out=tmp_path / "whole", tokens=KINDS[kind], train=steps))
    assert "images at a time" not in "".join(capsys.readouterr())
    train(config(small, out=tmp_path / "parts", tokens=KINDS[kind], train={**steps, "micro_batch": 3}))
    assert "; 3 images at a time for less memory" in " ".join("".join(capsys.readouterr()).split())
    assert_same(tmp_path / "parts", tmp_path / "whole", atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_activation_checkpointing_changes_nothing(small: dict[str, Any], tmp_path: Path, kind: str) -> None:
    steps = {"steps": 3, "batch_size": 3}
    train(config(small, out=tmp_path / "kept", tokens=KINDS[kind], train=steps))
    again = {**steps, "activation_checkpointing": True}
    train(config(small, out=tmp_path / "again", tokens=KINDS[kind], train=again))
    assert_same(tmp_path / "again", tmp_path / "kept")


@pytest.mark.parametrize("threat", ["transfer", "adaptive", "mixed"])
def test_several_token_sets_equal_runs_of_their_own(settings: dict[str, Any], tmp_path: Path, threat: str) -> None:
    steps = {"steps": 3, "batch_size": 4, "threat": threat}
    train(config(settings, out=tmp_path / "many", tokens={"count": [2, 5], "seeds": [0, 7]}, train=steps))
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert files == [f"rtokens-{n}-seed{s}.safetensors" for n in (2, 5) for s in (0, 7)]
    for count, seed in ((2, 0), (5, 7)):
        out = tmp_path / f"{count}-{seed}"
        train(config(settings, out=out, tokens={"count": count, "seeds": [seed]}, train=steps))
        many = load_file(tmp_path / "many" / f"rtokens-{count}-seed{seed}.safetensors")["rtokens"]
        assert torch.equal(many, tokens(out))


# Everything whose state a resumed run, or each of several processes, must have. The best state is not the last one.
ALL = {
    **SCHEDULES,
    "threat": "mixed",
    "ema": 0.9,
    "flip": True,
    "lr": 0.3,
    "validate": {"every": 1, "images": 2, "attack": {"steps": 1}},
}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("tokens", {}),
        ("tokens", {"threat": "adaptive"}),
        ("tokens", ALL),
        ("deep-tokens", {"threat": "mixed"}),
        ("lora", {**ALL, "lr": 1e-3}),
        ("weights", {**ALL, "lr": 1e-3}),
    ],
    ids=str,
)
def test_an_interrupted_run_resumes_to_the_same_defense(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, changes: dict[str, Any]
) -> None:
    every_two = {"steps": 5, "batch_size": 3, "checkpoint_every": 2, **changes}
    train(config(small, out=tmp_path / "whole", tokens=KINDS[kind], train=every_two))
    cut = config(small, out=tmp_path / "cut", tokens=KINDS[kind], train=every_two)
    step = Trainer.step

    def interrupted(self: Trainer, number: int, batch: Any) -> list[dict[str, Any]]:
        if number == 4:
            raise KeyboardInterrupt
        return step(self, number, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", interrupted)
        train(cut)
    assert not list(cut.out.glob("*.safetensors"))
    train(cut, resume=True)
    assert_same(cut.out, tmp_path / "whole")
    assert without_seconds(metrics(cut.out)) == without_seconds(metrics(tmp_path / "whole"))
    assert len(list(cut.out.iterdir())) == len(FILES)


def test_a_finished_run_is_left_alone(settings: dict[str, Any]) -> None:
    cfg = config(settings)
    train(cfg)
    before = {path: path.read_bytes() for path in cfg.out.iterdir() if path.is_file()}
    with pytest.raises(UserError, match="--resume"):
        train(cfg)
    result = train(cfg, resume=True)
    assert {path: path.read_bytes() for path in cfg.out.iterdir() if path.is_file()} == before
    assert result.files == [cfg.out / "rtokens.safetensors"]


def test_a_killed_run_resumes_to_the_same_tokens(
    settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    settings |= {"tokens": {"count": 3}, "train": {"steps": 12, "batch_size": 4, "checkpoint_every": 3}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    train(config(settings, train=settings["train"], out=tmp_path / "whole"))
    command = [sys.executable, "-m", "rtok", "train", "--config", str(file), "--out", str(tmp_path / "cut")]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.getcwd()})
    journal = tmp_path / "cut" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = run_rtok("train", "--config", file, "--out", tmp_path / "cut", "--resume")
    assert done.returncode == 0, done.stderr
    assert torch.equal(tokens(tmp_path / "cut"), tokens(tmp_path / "whole"))
    assert without_seconds(metrics(tmp_path / "cut")) == without_seconds(metrics(tmp_path / "whole"))


@pytest.mark.parametrize("changes", [{}, {**ALL, **SGD}], ids=str)
def test_two_processes_give_the_tokens_of_one(
    settings: dict[str, Any],
    tmp_path: Path,
    run_rtok: Callable[..., subprocess.CompletedProcess[str]],
    changes: dict[str, Any],
) -> None:
    # 3 images a process: which of them the mixed attacks reach must be counted over both
    settings |= {"tokens": {"count": [3, 4]}, "train": {"steps": 5, "batch_size": 6, **changes}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    train(config(settings, tokens=settings["tokens"], train=settings["train"], out=tmp_path / "one"))
    done = run_rtok("train", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    for name in ("rtokens-3.safetensors", "rtokens-4.safetensors"):
        one, two = (load_file(tmp_path / out / name)["rtokens"] for out in ("one", "two"))
        torch.testing.assert_close(two, one, rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["device"]["processes"] == 2
    for one_row, two_row in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert one_row["step"] == two_row["step"] and one_row["count"] == two_row["count"]
        for key in ("loss", *(("cosine_to_plain", "fidelity") if changes else ())):
            assert one_row[key] == pytest.approx(two_row[key], abs=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tokens"])
def test_two_processes_give_any_defense_of_one(
    small: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]], kind: str
) -> None:
    settings = small | {"tokens": KINDS[kind], "train": {"steps": 3, "batch_size": 4, "threat": "adaptive", **SGD}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    train(config(settings, tokens=settings["tokens"], train=settings["train"], out=tmp_path / "one"))
    done = run_rtok("train", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "two", tmp_path / "one", atol=1e-5)


def test_two_killed_processes_resume_to_the_tokens_of_one(
    settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    settings |= {"tokens": {"count": 3}, "train": {"steps": 10, "batch_size": 4, "checkpoint_every": 2}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    train(config(settings, train=settings["train"], out=tmp_path / "whole"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    killed = subprocess.Popen(
        [*launcher, "-m", "rtok", "train", "--config", str(file), "--out", str(tmp_path / "cut")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )
    journal = tmp_path / "cut" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        time.sleep(0.005)
    workers = [int(pid) for pid in _children(killed.pid)]
    for pid in (killed.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    killed.wait()
    assert len(workers) == 2
    assert not (tmp_path / "cut" / "rtokens.safetensors").exists()
    done = run_rtok("train", "--config", file, "--out", tmp_path / "cut", "--resume", processes=2)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(tokens(tmp_path / "cut"), tokens(tmp_path / "whole"), rtol=0, atol=1e-5)
    assert [row["step"] for row in metrics(tmp_path / "cut")] == list(range(1, 11))


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_batch_that_processes_cannot_share_is_refused(
    settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    settings |= {"tokens": {"count": 3}, "train": {"steps": 5, "batch_size": 3}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    done = run_rtok("train", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode != 0 and "2 processes cannot share" in done.stderr
    assert not (tmp_path / "two").exists()


def test_warm_up_is_linear(settings: dict[str, Any]) -> None:
    cfg = config(settings, train={"steps": 4, "batch_size": 2, "warmup_steps": 2, "lr": 0.01})
    train(cfg)
    assert [row["lr"] for row in metrics(cfg.out)] == pytest.approx([0.005, 0.01, 0.01, 0.01])


def test_curves_go_to_tensorboard_when_asked(settings: dict[str, Any]) -> None:
    cfg = config(settings, tracking="tensorboard", train={"steps": 2, "batch_size": 2})
    train(cfg)
    assert list(cfg.out.rglob("events.out.tfevents*"))
