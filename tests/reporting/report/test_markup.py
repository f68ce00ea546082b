"""No text of a run becomes markup, and the page runs and loads nothing but its own."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from rtok.config import strict_yaml
from rtok.reporting.report import write_report
from tests.reporting.report.folders import HOSTILE, Page, Rows, evaluation, examples, training


def parsed(text: str) -> list[Token]:
    """What a Markdown renderer sees, inline parts included."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [inner for token in tokens for inner in (token.children or [token])]


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


def test_the_policy_lets_the_pages_own_style_and_script_run_and_nothing_else(tmp_path: Path, rows: Rows) -> None:
    html = write_report([evaluation(tmp_path / "a", rows)], tmp_path / "out").html.read_text()
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} &#x27;sha256-{digest}&#x27;;" in html
    assert "unsafe" not in html
