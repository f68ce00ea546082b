"""What GitHub reads: workflows that call targets which exist, on every supported Python, and files that are YAML."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_everything_is_yaml() -> None:
    others = (ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff", *(ROOT / ".github").rglob("*.yml"))
    for file in (*WORKFLOWS, *others):
        assert isinstance(yaml.safe_load(file.read_text()), dict), file


def test_jobs_call_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [
        step["run"]
        for file in WORKFLOWS
        for job in yaml.safe_load(file.read_text())["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    called = {target for text in steps for target in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)}
    assert {"lint", "test-only", "docs", "docs-site"} <= called <= targets


def test_tests_run_on_every_supported_python() -> None:
    checks = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    tested = checks["jobs"]["tests"]["strategy"]["matrix"]["python"]
    (oldest,) = re.findall(r'^requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert tested[0] == oldest and tested == [f"3.{minor}" for minor in range(10, 10 + len(tested))]


def test_hooks_run_programs_that_the_tests_need() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    assert programs == {"ruff", "lint-imports", "python"}
    for hook in repository["hooks"]:
        scripts = re.findall(r"scripts/\w+\.py", hook["entry"])
        assert all((ROOT / script).is_file() for script in scripts), hook
