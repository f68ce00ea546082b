"""Reports of runs: what they say, what they refuse, and that no text of a run becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.config import strict_yaml
from rtok.errors import UserError
from rtok.reporting.report import write_report
from tests.reporting.report.folders import HOSTILE, Page, adversarial_set, evaluation, examples, run_folder, training

Rows = list[dict[str, Any]]


def cells(text: str, first: str) -> list[str]:
    """The cells of the Markdown table's line that begins with this cell."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("| ").split("|")]


def parsed(text: str) -> list[Token]:
    """What a Markdown renderer sees, inline parts included."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [inner for token in tokens for inner in (token.children or [token])]


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


def test_nothing_of_a_run_becomes_markup(tmp_path: Path, rows: Rows) -> None:
    folder = tmp_path / HOSTILE.replace("/", "-")
    hostile = [row | {"defense": row["defense"] and f"{HOSTILE}/rtokens-{HOSTILE}.safetensors"} for row in rows]
    hostile = [row | {"attack": HOSTILE, "surrogate": HOSTILE, "threat": HOSTILE} for row in hostile]
    check = {"check": HOSTILE, "seen": HOSTILE, "passed": False, "defense": None}
    sanity = {"verdict": "suspicious", "images": 4, "checks": [check]}
    about = {"kind": HOSTILE, "sha256": None, "parameters": 3, "trained": {}}
    curve = [{**row, "threat": HOSTILE, "eps": 1 / 255} for row in hostile]
    more = {"sanity": sanity, "differences": [], "curve": curve, "defenses": {HOSTILE: about}}
    evaluation(folder, hostile, **more)
    for name in ("curve", "features", "tradeoff", HOSTILE.replace("/", "-")):
        Image.new("RGB", (3, 2), "red").save(folder / f"{name}.png")
    examples(folder, title=HOSTILE)
    settings = {"model": {"name": HOSTILE, "image_size": HOSTILE}, "data": {"name": HOSTILE}, "note": f"\n\n{HOSTILE}"}
    (folder / "config.yaml").write_text(strict_yaml.dump(settings))
    trainings = [training(tmp_path / name) for name in ("other", f"{folder.name} 2")]
    report = write_report([folder, *trainings], tmp_path / "out")
    page = Page(report.html.read_text())
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div", "table", "thead"}
    allowed |= {"tbody", "tr", "th", "td", "strong", "figure", "img", "figcaption", "details", "summary", "pre"}
    allowed |= {"script", "nav", "ol", "ul", "li", "a", "span", "br", "small"}
    allowed |= {"svg", "g", "line", "rect", "circle", "text", "polyline", "polygon"}
    assert {tag for tag, _ in page.elements} <= allowed
    assert [tag for tag, _ in page.elements].count("script") == 1  # the page's own
    assert "<script>alert(1)</script>" in page.text
    names = {"content", "charset", "name", "lang", "http-equiv", "class", "alt", "src", "id", "href", "role"}
    names |= {"aria-label", "aria-hidden", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "dx", "dy", "points"}
    names |= {"width", "height", "viewbox", "preserveaspectratio", "text-anchor"}
    assert {name for _, attrs in page.elements for name in attrs} <= names
    assert all(re.fullmatch(r"#c\d+", attrs["href"] or "") for tag, attrs in page.elements if tag == "a")
    sources = [attrs["src"] or "" for tag, attrs in page.elements if tag == "img"]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "\u202e" not in page.text  # would turn the line around
    text = report.markdown.read_text()
    (drawn,) = {token.type for token in parsed(text) if token.type in ("image", "link_open", "html_inline")}
    assert drawn == "image"  # those of the report, and nothing else that a browser would follow or run
    images = [token.attrs["src"] for token in parsed(text) if token.type == "image"]
    assert len(images) == 7 and all(str(source).startswith("figures/") for source in images)
    settings_fenced = re.findall(r"^(`{3,})\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)
    assert len(settings_fenced) == 3 and all(fence not in inside for fence, inside in settings_fenced)
    text = re.sub(r"^(`{3,})\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert re.sub(r"</?(?:details|summary)>", "", text).count("<") == 0
    summaries = [line for line in text.splitlines() if line.startswith("<details>")]
    assert len(summaries) == 3  # HTML, in which nothing is Markdown
    text = "\n".join(line for line in text.splitlines() if line not in summaries)
    assert "](javascript" not in text.replace("\\](", "") and "\u202e" not in text
    shown = [line for line in text.splitlines() if line.startswith("|")]
    tables = [re.sub(r"\\.", "", line).count("|") for line in shown]
    assert all(a == b for a, b, line in zip(tables, tables[1:], shown[1:], strict=False) if ":---" in line)


def test_it_loads_nothing_from_elsewhere(tmp_path: Path, rows: Rows) -> None:
    html = write_report([evaluation(tmp_path / "a", rows)], tmp_path / "out").html.read_text()
    assert "default-src &#x27;none&#x27;" in html and "prefers-color-scheme: dark" in html
    assert not re.search(r"https?:|@import|url\(|<script |<link|fetch|import\(|XMLHttp|innerHTML|eval\(|style=", html)


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


def _no_json(folder: Path) -> None:
    (folder / "results.json").write_text("{")


def _text_for_a_number(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    results["rows"][1]["fidelity"] = "<b>"
    (folder / "results.json").write_text(json.dumps(results))


def _no_interval(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    results["rows"][1]["ci95"] = {"cosine_to_plain": [1]}
    (folder / "results.json").write_text(json.dumps(results))


def _other_command(folder: Path) -> None:
    (folder / "results.json").write_text(json.dumps({"command": "eval-sound", "rows": []}))


def _no_step(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text("[1]\n")


def _not_utf8(folder: Path) -> None:
    (folder / "config.yaml").write_bytes(b"\xff")


def _list_of_settings(folder: Path) -> None:
    (folder / "config.yaml").write_text("- 1\n")


def _no_checks(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "sanity": {"checks": [1]}}))


def _half_a_difference(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    difference = {"threat": "transfer", "attack": "paper", "baseline_victim": "plain"}
    (folder / "results.json").write_text(json.dumps({**results, "differences": [difference]}))


def _list_for_a_name(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    results["rows"][1]["norm"] = ["linf"]
    (folder / "results.json").write_text(json.dumps(results))


@pytest.mark.parametrize(
    "damage",
    [
        _no_json,
        _text_for_a_number,
        _no_interval,
        _other_command,
        _no_step,
        _not_utf8,
        _list_of_settings,
        _no_checks,
        _half_a_difference,
        _list_for_a_name,
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_written(
    tmp_path: Path, rows: Rows, damage: Callable[[Path], None]
) -> None:
    run = evaluation(tmp_path / "a", rows)
    damage(run)
    with pytest.raises(UserError, match=r"a/(results\.json|metrics\.jsonl|config\.yaml)' (is damaged|cannot be read)"):
        write_report([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


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


def test_the_policy_lets_the_pages_own_style_and_script_run_and_nothing_else(tmp_path: Path, rows: Rows) -> None:
    html = write_report([evaluation(tmp_path / "a", rows)], tmp_path / "out").html.read_text()
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} &#x27;sha256-{digest}&#x27;;" in html
    assert "unsafe" not in html


def test_an_index_of_examples_leads_to_nothing_outside_of_its_folder(tmp_path: Path, rows: Rows) -> None:
    run = evaluation(tmp_path / "a", rows)
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    Image.new("RGB", (2, 2)).save(run / "features.png")
    for file in ("../../secret.png", "1-1.png/../../../secret.png", str(tmp_path / "secret.png"), "1-1.png\n"):
        examples(run, file=file)
        with pytest.raises(UserError, match=r"examples\.json' is damaged"):
            write_report([run], tmp_path / "out")
    examples(run, file="1-9.png")  # which is not there: the figure is shown instead
    page = Page(write_report([run], tmp_path / "out").html.read_text())
    assert not [attrs for _, attrs in page.elements if attrs.get("class") == "examples"]
    assert [tag for tag, _ in page.elements].count("img") == 1
