import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rtok
from rtok.cli.app import build
from rtok.cli.runs import COMMANDS
from rtok.errors import UserError

ROOT = Path(rtok.__file__).parent.parent
CONFIG = "model: {name: dinov2_vits14}\ndata: {name: photos}\n"


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def run(*arguments: str):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(build(), list(arguments))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(CONFIG)
    return "x.yaml"


@pytest.mark.parametrize("form", [["rtok"], ["-m", "rtok"], ["rtok/__main__.py"]])
def test_every_way_to_start_it(form: Sequence[str]) -> None:
    done = python(*form, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rtok {rtok.__version__}\n", "")


def test_the_folder_can_be_run_from_elsewhere(tmp_path: Path) -> None:
    assert python(str(ROOT / "rtok"), "--version", cwd=tmp_path).stdout == f"rtok {rtok.__version__}\n"


@pytest.mark.parametrize(
    "code", ["import rtok", "import rtok.cli.app", "import rtok.config as c; c.ModelConfig(name='dinov2_vits14')"]
)
def test_nothing_heavy_is_imported_before_work_starts(code: str) -> None:
    heavy = "{'torch', 'timm', 'torchvision', 'matplotlib', 'mmseg', 'transformers'}"
    done = python("-c", f"import sys; {code}; print(sorted({heavy} & set(sys.modules)))")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_help_starts_nearly_as_fast_as_an_empty_app(tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("import typer\napp = typer.Typer()\n@app.command()\ndef main() -> None:\n    pass\napp()\n")
    seconds: dict[str, list[float]] = {"rtok": [], str(empty): []}
    for _ in range(7):
        for script, times in seconds.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert python(script, "--help").returncode == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Of the processor's time, which a busy machine changes little: the least of each.
    assert min(seconds["rtok"]) <= 1.4 * min(seconds[str(empty)])


def test_wrong_input_is_one_message_and_exit_2(config: str, tmp_path: Path) -> None:
    done = python(str(ROOT / "rtok"), "train", "--config", config, "--set", "train.steps=0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: x.yaml: 1 mistake\n  --set train.steps: 0 was given; valid: at least 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_usage_errors_are_exit_2(config: str) -> None:
    for arguments in (["--confg", config], ["extra"], ["--resume=3"]):
        assert run("train", *arguments).exit_code == 2
    assert run("trian").exit_code == 2


def test_failures_below_become_exit_codes(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_with(error: BaseException) -> None:
        def run(*_: object) -> None:
            raise error

        monkeypatch.setattr(COMMANDS["train"], "run", run)

    fail_with(UserError("no such thing"))
    done = run("train", "--config", config)
    assert (done.exit_code, done.stderr) == (2, "error: no such thing\n")

    fail_with(KeyboardInterrupt("go on with --resume"))  # a run says what it has saved
    done = run("train", "--config", config)
    assert (done.exit_code, done.stderr) == (130, "interrupted: go on with --resume\n")

    fail_with(KeyboardInterrupt())
    done = run("train", "--config", config)
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")

    fail_with(ZeroDivisionError("a bug"))
    done = run("train", "--config", config)
    assert done.exit_code == 1
    assert isinstance(done.exception, ZeroDivisionError)


def test_help_has_a_short_name_and_flags_without_a_value() -> None:
    for arguments in (["-h"], ["train", "-h"], ["configs", "copy", "-h"]):
        done = run(*arguments)
        assert (done.exit_code, "Usage" in done.stdout) == (0, True)
        assert "bool" not in done.stdout.lower()


def test_an_interruption_is_told_by_the_main_process_only(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS["train"], "run", interrupt)
    monkeypatch.setenv("RANK", "1")
    assert (run("train", "--config", config).exit_code, run("train", "--config", config).stderr) == (130, "")
