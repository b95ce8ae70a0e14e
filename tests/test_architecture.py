"""The house stands as CONTRIBUTING.md says: imports run downward, files fit in the head, nothing is evaluated."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, APP = ROOT / "mixtral_probe", ROOT / "app"
FILES = sorted(file for file in [*PACKAGE.rglob("*.py"), *APP.rglob("*.py")] if "_bundled" not in file.parts)
TESTS = sorted(Path(__file__).parent.rglob("*.py"))
NAMES = [file.relative_to(ROOT).as_posix() for file in FILES]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 40
HEAVY = ("torch", "streamlit", "plotly", "pandas")
READING = ("Trace", "RoutingStats", "tables", "metrics")
STEPS = ("import mixtral_probe", *(f"mixtral_probe.{name}" for name in (*READING, "figures")))


def tree(file):
    return ast.parse(file.read_text(encoding="utf-8"))


def functions(module):
    return [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_imports_run_downward(tmp_path):
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def loaded():
    """Which of the heavy packages are loaded after each step of one process."""
    code = f"import json, sys\nloaded = {{}}\nfor step in {STEPS!r}:\n exec(step)\n"
    code += f" loaded[step] = [name for name in {HEAVY!r} if name in sys.modules]\nprint(json.dumps(loaded))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {step: set(names) for step, names in json.loads(done.stdout).items()}


def test_the_package_alone_loads_nothing_heavy(loaded):
    assert loaded["import mixtral_probe"] == set()


@pytest.mark.parametrize("name", READING)
def test_reading_a_trace_needs_no_torch_and_no_plotly(loaded, name):
    assert loaded[f"mixtral_probe.{name}"] <= {"pandas"}


def test_figures_need_no_torch(loaded):
    assert not loaded["mixtral_probe.figures"] & {"torch", "streamlit"}


def test_every_public_name_can_be_had_and_is_described():
    import mixtral_probe as mp

    for name in mp.__all__:
        value = getattr(mp, name)
        assert (value.__doc__ or "").strip(), f"mixtral_probe.{name} has no docstring"
    assert dir(mp) == sorted(mp.__all__)


def test_an_unknown_name_is_an_attribute_error():
    import mixtral_probe as mp

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mp.nonsense


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_file_fits_in_the_head(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    long = [f"{f.name}: {length(f)}" for f in functions(tree(file)) if length(f) > MOST_LINES_OF_A_FUNCTION]
    assert not long, f"functions of more than {MOST_LINES_OF_A_FUNCTION} lines"


def length(function):
    """Lines from `def` to the end, without the docstring."""
    described = ast.get_docstring(function) is not None
    doc = function.body[0].end_lineno - function.body[0].lineno + 1 if described else 0
    return function.end_lineno - function.lineno + 1 - doc


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_nothing_is_pickled_or_evaluated(file):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
        if isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "compile"})
            for keyword in node.keywords:
                assert keyword.arg != "allow_pickle" or ast.literal_eval(keyword.value) is False


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_every_public_name_of_a_file_is_described(file):
    module = tree(file)
    assert ast.get_docstring(module) or not module.body, "the file has no docstring"
    for node in public(module.body):
        assert ast.get_docstring(node), f"{node.name} has no docstring"


def public(body):
    """Functions and classes without a leading underscore, and their methods."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


@pytest.mark.parametrize("file", sorted(APP.rglob("*.py")), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_the_dashboard_knows_no_formulas(file):
    allowed = sys.stdlib_module_names | {"app", "mixtral_probe", "streamlit", "pandas", "numpy", "plotly"}
    imported = {name.split(".")[0] for name in imports(file)}
    assert imported <= allowed, f"{sorted(imported - allowed)} cannot be imported by the dashboard"
    assert not any(name.startswith("mixtral_probe.metrics") for name in imports(file))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_test_file_imports_another(file):
    imported = [name for name in imports(file) if any(part.startswith("test_") for part in name.split(".")[:-1])]
    assert not imported, "what tests share stands in tests/support or in a conftest.py"


def imports(file):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
