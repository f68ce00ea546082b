"""The package as users get it: an sdist, and a wheel in an environment of its own, away from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml

import rtok
from rtok.config.ready import READY, all_ready
from rtok.version import DISTRIBUTION

ROOT = Path(rtok.__file__).parent.parent
INFORMATION = f"{DISTRIBUTION.replace('-', '_')}-{rtok.__version__}.dist-info"


def python(*arguments: object) -> None:
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    python("hatchling", "build", "--target", "sdist", "--directory", folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Install the wheel beside this environment's other packages; return what runs a program there."""
    environment = tmp_path_factory.mktemp("installed")
    python("venv", "--without-pip", environment)
    python("pip", "--python", environment / "bin/python", "install", "--no-deps", "--no-index", wheel)
    (site,) = environment.glob("lib/python*/site-packages")
    # Searched after the wheel's own folder. An editable install of rtok in there is not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(environment / "bin" / program), *arguments],
            cwd=elsewhere,
            env={**variables, "IMAGENET_DIR": str(elsewhere)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_the_package_and_the_ready_configs_alone(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {str(file.relative_to(ROOT)) for file in READY.rglob("*") if file.suffix in (".yaml", ".py")}
    assert {f"rtok/{name}" for name in configs} <= names
    assert {name.split("/")[0] for name in names} == {"rtok", INFORMATION}
    assert not [name for name in names if "__pycache__" in name or "/test" in name]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "rtok").rglob("*.py")}
    page = {f"rtok/reporting/report/page.{suffix}" for suffix in ("css", "js")}
    assert modules | page | {"rtok/py.typed"} <= names


def test_the_sdist_holds_what_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", "Makefile"} <= names
    assert {"tests/test_wheel.py", "docs/train.md", "tests/golden/dinov2_plain.pth"} <= names
    assert not [name for name in names if name.startswith((".venv", "weights", "results", "build", "dist", ".git/"))]
    python("pip", "wheel", sdist, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path)
    (rebuilt,) = tmp_path.iterdir()
    assert set(zipfile.ZipFile(rebuilt).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_an_index_would_take_both(sdist: Path, wheel: Path) -> None:
    python("twine", "check", "--strict", sdist, wheel)


def test_what_the_wheel_says_of_itself(wheel: Path) -> None:
    about = message_from_bytes(zipfile.ZipFile(wheel).read(f"{INFORMATION}/METADATA"))
    assert (about["Name"], about["Version"]) == (DISTRIBUTION, rtok.__version__)
    assert about["Author"] == "The rtok developers"
    assert "Typing :: Typed" in about.get_all("Classifier", [])
    needed = about.get_all("Requires-Dist", [])
    extras = {text.partition(";")[0] for text in needed if "extra == 'test'" in text}
    assert {text.partition(";")[0] for text in needed if "extra == 'seg'" in text} < extras
    assert not [text for text in needed if re.match("rtok|robustness", text)]


def test_the_installed_package_is_the_wheels(installed: Callable[..., str]) -> None:
    file = installed("python", "-c", "import rtok; print(rtok.__file__)")
    assert "site-packages" in file and str(ROOT) not in file
    assert installed("rtok", "--version") == f"rtok {rtok.__version__}\n"


def test_ready_configs_run_from_anywhere(installed: Callable[..., str]) -> None:
    listed = [line.split()[0] for line in installed("rtok", "configs").splitlines()]
    assert listed == list(all_ready())
    code = "import rtok; print(rtok.load_config('train', 'deit3_base_patch16_224').to_yaml())"
    config = yaml.safe_load(installed("python", "-c", code))
    assert config["model"]["name"] == "deit3_base_patch16_224" and config["train"]["steps"] == 300


def test_a_model_and_a_folder_of_photos_are_enough(
    installed: Callable[..., str], weights: Path, pictures: Path, tmp_path: Path
) -> None:
    given = ["--model", "dinov2_vits14", "--weights", str(weights), "--data", str(pictures), "--out", str(tmp_path)]
    small = ("model.image_size=28", "train.steps=1", "attack.steps=1", "data.workers=0")
    said = installed("rtok", "train", *given, *(word for change in small for word in ("--set", change)))
    assert said.startswith("data: 7 images in 1 folder, 40 x 32 to 40 x 38 px\n")
    assert "backbone    dinov2_vits14" in installed("rtok", "inspect", str(tmp_path / "rtokens.safetensors"))


def test_a_command_does_its_work(installed: Callable[..., str], tmp_path: Path) -> None:
    official = ROOT / "tests" / "golden" / "dinov2_plain.pth"
    assert "backbone weights" in installed("rtok", "inspect", str(official))
    installed("rtok", "configs", "copy", "train/dinov2_vits14", "--out", str(tmp_path))
    assert (tmp_path / "train-dinov2_vits14.yaml").is_file()
