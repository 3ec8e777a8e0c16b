"""The package as it is given away: types, versions, a wheel and an archive that install and work."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mms_client
from conftest import PACKAGE, PATIENCE_S, ROOT

SOURCES = sorted((PACKAGE / "src").rglob("*.py"))
LONGEST_FILE = 500


def run(*command, **options) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE_S, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_types():
    cache = ROOT / "target" / "mypy-client"
    run(sys.executable, "-m", "mypy", "--cache-dir", cache, cwd=PACKAGE)
    # As somebody who uses it would be checked: arguments, replies and streams have types, wrong ones are found.
    run(sys.executable, "-m", "mypy", "--cache-dir", cache, "tests/typed_use.py", cwd=PACKAGE)


def test_the_version_is_the_suites():
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.*)"$', manifest, re.MULTILINE)[1] == mms_client.__version__


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE / "src").as_posix())
def test_a_source_file(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 9))
    assert ast.get_docstring(tree), "opens with what it is for"
    assert len(text.splitlines()) <= LONGEST_FILE


def test_all_names_are_there():
    for name in mms_client.__all__:
        assert getattr(mms_client, name) is not None
    with pytest.raises(AttributeError):
        mms_client.nothing
    from mms_client import errors

    public = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.MmsError)}
    assert public <= set(mms_client.__all__)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel and the archive, and the wheel of pyzmq that setup-test.sh has put by."""
    folder = tmp_path_factory.mktemp("built")
    code = f"import hatchling.build as build; print(build.build_wheel({str(folder)!r})); print(build.build_sdist({str(folder)!r}))"
    run(sys.executable, "-c", code, cwd=PACKAGE)
    return folder


def test_what_the_packages_hold(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "mms_client/py.typed" in names and "mms_client/legacy/activate.py" in names
    assert any(name.endswith("licenses/LICENSE-MIT") for name in names) and any(name.endswith("LICENSE-APACHE") for name in names)
    assert not [name for name in names if "test" in name]
    (archive,) = built.glob("*.tar.gz")
    members = tarfile.open(archive).getnames()
    for part in ("pyproject.toml", "README.md", "LICENSE-MIT", "tests/conftest.py", "src/mms_client/py.typed"):
        assert f"mms_client-{mms_client.__version__}/{part}" in members


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_installed_into_a_fresh_environment(built, tmp_path, suite, kind):
    fresh = tmp_path / "fresh"
    run(sys.executable, "-m", "venv", "--without-pip", fresh)
    python = fresh / ("Scripts" if os.name == "nt" else "bin") / "python"
    (package,) = built.glob(kind)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet", "--no-index")
    wheels = Path(sys.prefix) / ".wheels"
    if kind == "*.tar.gz":
        # Built as pip builds it, with the backend that is there; pip would download one otherwise.
        target = tmp_path / "from-archive"
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "-w", target, package)
        (package,) = target.glob("*.whl")
    run(*pip, "--find-links", wheels, package)
    code = "import mms_client; print(mms_client.Client().ping()['agent'], mms_client.__file__)"
    env = {"PATH": os.environ.get("PATH", ""), "MODEL_MANAGER_PORT": str(suite.port)}
    said = run(python, "-W", "ignore", "-c", code, cwd=tmp_path, env=env)
    assert said.startswith("ModelManagerSuite") and str(fresh) in said
    assert "answers at" in run(python, "-m", "mms_client", "ping", cwd=tmp_path, env=env)
    assert "written" in run(python, "-m", "mms_client.legacy", "activate", cwd=tmp_path, env=env)
    code = "from main_pc_code.agents.model_manager_agent import ModelManagerAgent as A; print(A().health_check()['status'])"
    assert run(python, "-W", "ignore", "-c", code, cwd=tmp_path, env=env) == "ok\n"
    assert "removed" in run(python, "-m", "mms_client.legacy", "activate", "--undo", cwd=tmp_path, env=env)
