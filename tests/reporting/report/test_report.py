"""Reports of runs: what they say and draw, and what they write."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.errors import UserError
from rtok.reporting.report import write_report
from tests.reporting.report.folders import Page, Rows, adversarial_set, evaluation, run_folder, training


def cells(text: str, first: str) -> list[str]:
    """The cells of the Markdown table's line that begins with this cell."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_a_training_an_evaluation_and_a_set(tmp_path: Path, rows: Rows) -> None:
    runs = [training(tmp_path / "a"), evaluation(tmp_path / "b", rows), adversarial_set(tmp_path / "c")]
    report = write_report(runs, tmp_path / "out")
    text = report.markdown.read_text()
    assert report.count == 3
    assert "| a | train | dinov2_vits14 at 98 px | photos, test | finished | 1:23 |" in text
    # a column a threat
    assert cells(text, "robust (10)") == ["robust (10)", "0.692 ± 0.031", "0.652 ± 0.031", "0.281 ± 0.031"]
    assert "### attack paper: Linf radius 8/255 in normalized space" in text
    assert "| transfer | plain | **0.192 ± 0.031** | 1.000 |" in text
    assert "Measured on 30 images." in text
    # the mean over the last ten steps
    assert "| a | tokens (10) | 7 | transfer | 20 of 20 | 0.900 | 0.775 | 0.400 | 1.50 |" in text
    assert "| c | paper | features | dinov2_vits14 | 2 | 2.0 | 2.5 |" in text
    assert "| a | 0.1.0 | 2.15.0 | 0123456789 and changes | cpu, x86_64, fp32 |" in text
    assert "name: dinov2_vits14\n  image_size: 98" in text


def test_the_trade_off_is_drawn_over_several_runs(tmp_path: Path, rows: Rows) -> None:
    runs = []
    for name, weight in (("a", 1.0), ("b", 4.0)):
        file = f"{name}/rtokens.safetensors"
        mine = [{**row, "defense": file} if row["victim"] == "robust" else row for row in rows]
        about = {"kind": "tokens", "sha256": None, "parameters": 3, "trained": {"train.invariance_weight": weight}}
        runs.append(evaluation(tmp_path / name, mine, defenses={file: about}))
    text = write_report(runs, tmp_path / "both").markdown.read_text()
    (link,) = re.findall(r"!\[All runs: .*\]\((figures/[\w.-]+)\)", text)
    with Image.open(tmp_path / "both" / link) as image:
        assert image.width > 500
    assert "All runs:" not in write_report(runs[:1], tmp_path / "one").markdown.read_text()


def test_figures_lie_beside_the_markdown_and_inside_the_html(tmp_path: Path, rows: Rows) -> None:
    runs = [training(tmp_path / "a"), evaluation(tmp_path / "b", rows)]
    Image.new("RGB", (3, 2), "green").save(runs[1] / "other.png")
    (runs[0] / "notes.png").write_text("<svg onload=alert(1)>")  # only the name says PNG
    report = write_report(runs, tmp_path / "out")
    linked = re.findall(r"!\[.*\]\((figures/[\w.-]+)\)", report.markdown.read_text())
    found = [attrs["src"] or "" for tag, attrs in Page(report.html.read_text()).elements if tag == "img"]
    drawn = [run / name for run, name in ((runs[1], "summary.png"), (runs[1], "other.png"), (runs[0], "curves.png"))]
    assert [(tmp_path / "out" / link).read_bytes() for link in linked] == [path.read_bytes() for path in drawn]
    # the page draws the others itself
    assert [base64.b64decode(src.removeprefix("data:image/png;base64,")) for src in found] == [drawn[1].read_bytes()]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures", "report.html", "report.md"]


def test_runs_of_one_model_and_attack_share_a_table(tmp_path: Path, rows: Rows) -> None:
    worse = [row | {"cosine_to_plain": row["cosine_to_plain"] - 0.1} for row in rows]
    runs = [evaluation(tmp_path / "x" / name, values) for name, values in (("a", rows), ("b", worse))]
    text = write_report(runs, tmp_path / "out").markdown.read_text()
    assert "| x/a" not in text and text.count("### attack paper") == 1
    assert "| a | transfer | robust | **0.692 ± 0.031** |" in text
    assert "| b | robust (10) | 0.592 [0.661, 0.723] | 0.552 [0.621, 0.683] |" in text
    assert "a: measured on 30 images." in text


def test_the_sanity_of_an_evaluation_and_its_verdict(tmp_path: Path, rows: Rows) -> None:
    checks = [
        {"check": "more steps are stronger", "seen": "loss 0.1, 0.2", "passed": True, "defense": None},
        {"check": "gradients do not vanish", "seen": "norm 0", "passed": False, "defense": None},
    ]
    sanity = {"verdict": "suspicious", "images": 4, "checks": checks}
    report = write_report([evaluation(tmp_path / "a", rows, sanity=sanity)], tmp_path / "out")
    text = report.markdown.read_text()
    assert "| more steps are stronger | loss 0.1, 0.2 | passed |" in text
    assert "| gradients do not vanish | norm 0 | FAILED |" in text
    alarms = [tag for tag, attrs in Page(report.html.read_text()).elements if attrs.get("class") == "alarm"]
    assert len(alarms) == 2 and text.index("SUSPICIOUS") < text.index("## eval-features")  # at the top, too


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "a", "eval-class", finished=False)
    text = write_report([run], tmp_path / "out").markdown.read_text()
    assert "| a | eval-class | dinov2_vits14 at 98 px | photos, test | UNFINISHED | 1:23 |" in text
    torn = training(tmp_path / "b")
    with (torn / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "inv')
    assert "20 of 20" in write_report([torn], tmp_path / "out2").markdown.read_text()


def test_a_folder_that_is_no_run_ends_with_2(tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = evaluation(tmp_path / "runs" / "a", rows)
    (tmp_path / "empty").mkdir()
    for folder, hint in (
        ("empty", "is not the folder of a run"),
        ("runs", "such as runs/a"),
        ("none", "there is no folder"),
    ):
        done = CliRunner().invoke(build(), ["report", str(run), folder])
        assert (done.exit_code, done.stdout) == (2, "") and hint in done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()
    done = CliRunner().invoke(build(), ["report", "runs/a"])
    assert done.exit_code == 0
    assert done.stdout == "report of 1 run: results/report/report.html, results/report/report.md\n"


def test_a_report_is_replaced_only_when_asked(tmp_path: Path, rows: Rows) -> None:
    run, out = evaluation(tmp_path / "a", rows), tmp_path / "out"
    write_report([run, training(tmp_path / "b")], out)
    before = (out / "report.md").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        write_report([run], out)
    assert (out / "report.md").read_bytes() == before
    write_report([run], out, overwrite=True)
    assert (out / "report.md").read_bytes() != before and len(list((out / "figures").iterdir())) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds no report"):
            write_report([run], tmp_path / "mine", overwrite=overwrite)
