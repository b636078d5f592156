"""Holds every notebook, page and project of the collection to the checks; finds them itself."""
import shutil
import subprocess

import pytest

import checks
from notebooks import ROOT, notebooks, read, translations

PROJECTS = sorted(folder for folder in ROOT.glob("[1-6]_*") if folder.is_dir())
PAGES = [*notebooks(), *ROOT.glob("*.md"), *ROOT.glob("datasets/*.md"),
         *ROOT.glob("[1-6]_*/**/*.md"), *ROOT.glob("models/**/*.md")]


def name(value):
    return getattr(value, "__name__", None) or str(value.relative_to(ROOT))


def holds(check, path, *arguments):
    """A check finds nothing but what waits for a later issue, in tests/waiting.json."""
    file = "" if path == ROOT else path.relative_to(ROOT).as_posix()
    found = checks.unexpected(check(*arguments or [path]), checks.waiting_for(check, file))
    assert not found, "\n" + "\n".join(found)


def test_there_is_a_project():
    assert PROJECTS


@pytest.mark.parametrize("path", notebooks(), ids=name)
@pytest.mark.parametrize("check", checks.FOR_NOTEBOOKS, ids=name)
def test_notebook(check, path):
    holds(check, path)


def test_same_cells():
    holds(checks.check_same, ROOT, notebooks())


def test_translations():
    for original, translation in translations():
        holds(checks.check_translation, translation, original, translation)


def test_ruff():
    holds(checks.check_ruff, ROOT)


@pytest.mark.parametrize("path", PAGES, ids=name)
@pytest.mark.parametrize("check", checks.FOR_PAGES, ids=name)
def test_page(check, path):
    holds(check, path)


def test_readmes():
    holds(checks.check_readmes, ROOT)


@pytest.mark.parametrize("folder", PROJECTS, ids=name)
def test_layout(folder):
    holds(checks.check_layout, folder)


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/metrics.json")), ids=name)
def test_metrics(path):
    holds(checks.check_metrics, path)


def test_files():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout, or no git: which files are kept can't be told")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
               "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    names = [name for name in names.split("\0") if name and (ROOT / name).exists()]
    holds(checks.check_files, ROOT, ROOT, names)


def test_what_waits_is_there():
    """An entry for a check or a file that is gone would never be noticed."""
    for by_check in read(checks.WAITING).values():
        for check, by_file in by_check.items():
            assert hasattr(checks, check), check
            assert [file for file in by_file if not (ROOT / file).exists()] == []
