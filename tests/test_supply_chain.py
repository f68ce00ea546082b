"""What no file of this repository may do: load code from data, run text as code, or start a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for name in ("rtok", "scripts", "benchmarks") for path in (ROOT / name).rglob("*.py"))
# Calls by their last names, whatever module or alias they come through.
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"}
UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FETCHES = {"urllib", "requests", "httpx", "aiohttp", "wget", "urllib3"}


def offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and description of everything that is forbidden."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            for name in names:
                root = name.partition(".")[0]
                if root in UNPICKLES:
                    yield node.lineno, f"imports {name}, which runs code from files"
                if root in FETCHES:
                    yield (node.lineno, f"imports {name}: downloads go through the hub's client, which checks hashes")
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, text) for text in call_offences(node))


def call_offences(call: ast.Call) -> Iterator[str]:
    owner, name = called(call.func)
    given = {word.arg: word.value for word in call.keywords}
    if name in RUNS_CODE and owner == "":
        yield f"calls {name}"
    if name in SHELLS:
        yield f"starts a shell through {name}"
    shell = given.get("shell")
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        yield "passes shell="
    if name == "load" and owner in ("torch", "yaml", "np", "numpy"):
        wanted, value = {"torch": ("weights_only", True)}.get(owner, ("allow_pickle", False))
        said = given.get(wanted)
        mapped = owner in ("np", "numpy") and said is None  # NumPy's own default is False
        if owner == "yaml" or not (mapped or (isinstance(said, ast.Constant) and said.value is value)):
            yield f"calls {owner}.load" + ("" if owner == "yaml" else f" without {wanted}={value}")
    if owner == "yaml" and name in ("load_all", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all"):
        yield f"calls yaml.{name}"
    if name == "load_state_dict_from_url" or (owner.endswith("hub") and name in ("load", "download_url_to_file")):
        yield f"downloads through {name}, which checks no hash by itself"
    if "trust_remote_code" in given:
        yield "passes trust_remote_code"
    if owner == "" and name == "Loader":
        yield "uses yaml's unsafe Loader"


def called(function: ast.expr) -> tuple[str, str]:
    """Return what a call is written as: `torch.load` is ("torch", "load"), `eval` is ("", "eval")."""
    if isinstance(function, ast.Attribute):
        return ast.unparse(function.value), function.attr
    return "", function.id if isinstance(function, ast.Name) else ""


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_code_from_data(path: Path) -> None:
    found = [f"line {line}: {text}" for line, text in offences(ast.parse(path.read_text(encoding="utf-8")))]
    assert not found, found


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "eval('1')",
        "exec(code)",
        "__import__(name)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
        "import pickle",
        "from joblib import load",
        "import urllib.request",
        "torch.hub.load('a/b', 'c')",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_the_check_sees(code: str) -> None:
    assert list(offences(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "model.eval()",
        "np.load(path, mmap_mode='r')",
        "subprocess.run(['git', 'status'], check=True)",
        "torch.compile(model)",
        "re.compile(pattern)",
        "json.load(file)",
    ],
)
def test_the_check_lets_pass(code: str) -> None:
    assert not list(offences(ast.parse(code)))
