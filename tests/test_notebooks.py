"""Holds every notebook, page and project of the collection to the checks; finds them itself."""
import shutil
import subprocess

import pytest

import checks
from notebooks import ROOT, notebooks

PROJECTS = sorted(folder for folder in ROOT.glob("[1-6]_*") if folder.is_dir())
PAGES = [*notebooks(), *ROOT.glob("*.md"), *ROOT.glob("datasets/*.md"),
         *ROOT.glob("[1-6]_*/**/*.md"), *ROOT.glob("models/**/*.md")]


def name(value):
    return getattr(value, "__name__", None) or str(value.relative_to(ROOT))


def fails(complaints):
    assert not complaints, "\n" + "\n".join(complaints)


def test_there_is_a_project():
    assert PROJECTS


@pytest.mark.parametrize("path", notebooks(), ids=name)
@pytest.mark.parametrize("check", checks.FOR_NOTEBOOKS, ids=name)
def test_notebook(check, path):
    fails(check(path))


def test_same_cells():
    fails(checks.check_same(notebooks()))


@pytest.mark.parametrize("path", PAGES, ids=name)
@pytest.mark.parametrize("check", checks.FOR_PAGES, ids=name)
def test_page(check, path):
    fails(check(path))


def test_readmes():
    fails(checks.check_readmes(ROOT))


@pytest.mark.parametrize("folder", PROJECTS, ids=name)
def test_layout(folder):
    fails(checks.check_layout(folder))


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/metrics.json")), ids=name)
def test_metrics(path):
    fails(checks.check_metrics(path))


def test_files():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout, or no git: which files are kept can't be told")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
               "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    fails(checks.check_files(ROOT, [n for n in names.split("\0") if n and (ROOT / n).exists()]))
