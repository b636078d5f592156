"""start.py on a small made-up repository, with the Python that runs the tests."""
import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from notebooks import ROOT, write_notebook

NAME = "1_Handwritten_Digit_Recognition"
REUSE = [("reuse", "import cv2, json\nfrom pathlib import Path\n"
          f'MODELS = Path("../models/{NAME}")', ""),
         ("reuse", 'def weights():\n    return (MODELS / "model.pth").read_text(encoding="utf-8")\n\n'
          'def main():\n    print("main:", weights())', "")]
GOOD = [*REUSE, ("", "raise ValueError('not a part of the demo')", ""),
        ("demo", 'print("1 digits      12×34 =", weights())', "")]
FAILS = [("reuse", "def main():\n    raise ValueError('too\\nlong')", ""), ("demo", "main()", "")]


@pytest.fixture
def start(tmp_path):
    """A copy of start.py, as a module, in a repository with one project."""
    shutil.copy(ROOT / "start.py", tmp_path)
    spec = importlib.util.spec_from_file_location("start_copy", tmp_path / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PYTHON = Path(sys.executable)
    module.VENV.mkdir()
    (tmp_path / "tests").mkdir()
    module.REQUIREMENTS.write_text("# why\ntorch>=2,<3\nopencv-python-headless>=5  # pictures\n",
                                   encoding="utf-8")
    module.TEST_REQUIREMENTS.write_text("pytest\n", encoding="utf-8")
    write_notebook(tmp_path / NAME / "inference.ipynb", GOOD)
    models = tmp_path / "models" / NAME
    models.mkdir(parents=True)
    for name in ("model.pth", "words.txt", "metrics.json", "my_model.pth", "a.checkpoint.tmp"):
        (models / name).write_text("42", encoding="utf-8")
    return module


@pytest.fixture
def commands(start, monkeypatch):
    """The commands that start.py would run, which are not run."""
    seen = []
    monkeypatch.setattr(start, "watch", lambda command, label: seen.append(command) or (0, []))
    monkeypatch.setattr(start, "pass_through", lambda command: seen.append(command) or 0)
    return seen


def test_set_up_installs_what_changed(start, commands):
    start.set_up(start.REQUIREMENTS)
    assert start.REQUIREMENTS in commands.pop() and not commands
    start.set_up(start.REQUIREMENTS)
    assert not commands
    start.set_up(start.REQUIREMENTS, start.TEST_REQUIREMENTS)
    assert start.TEST_REQUIREMENTS in commands.pop()
    start.set_up(start.REQUIREMENTS)
    assert not commands
    start.REQUIREMENTS.write_text("torch>=2.1\n", encoding="utf-8")
    start.set_up(start.REQUIREMENTS)
    assert start.REQUIREMENTS in commands.pop() and not commands


def test_a_failed_installation_is_told_and_tried_again(start, monkeypatch):
    monkeypatch.setattr(start, "watch", lambda command, label: (1, ["no such package"]))
    for _ in range(2):
        with pytest.raises(SystemExit, match="(?s)no such package.*run the same command again"):
            start.set_up(start.REQUIREMENTS)


def test_a_broken_venv_is_made_again(start):
    start.REQUIREMENTS.write_text("# nothing to install\n", encoding="utf-8")
    start.PYTHON = start.VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    start.PYTHON.parent.mkdir()
    start.PYTHON.write_text("no program", encoding="utf-8")
    assert not start.venv_works()
    start.set_up(start.REQUIREMENTS)
    assert start.venv_works()
    shutil.rmtree(next(start.VENV.rglob("site-packages")) / "pip")
    assert not start.venv_works()


def test_a_missing_venv_module_is_named(start, monkeypatch):
    monkeypatch.setattr(start, "venv_works", lambda: False)
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="sudo apt install python3"):
        start.set_up(start.REQUIREMENTS)


def test_another_python_is_told_which_one(start, monkeypatch):
    old = SimpleNamespace(version_info=(3, 9, 2), version="3.9.2 (main)", exit=sys.exit)
    monkeypatch.setattr(start, "sys", old)
    with pytest.raises(SystemExit, match="This is Python 3.9.2; the collection needs 3.11"):
        start.main()
    ast.parse((ROOT / "start.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_help_names_each_verb():
    text = subprocess.run([sys.executable, ROOT / "start.py", "-h"], capture_output=True,
                          encoding="utf-8", check=True).stdout
    assert all(verb in text for verb in ("--no-lab", "demo", "test", "data", "export"))


def test_an_unknown_verb_shows_the_help(start):
    with pytest.raises(SystemExit, match="(?s)does not know: tset.*start.py test"):
        start.run_verb("tset", [])


def test_a_demo_is_passed_through(start, capsys):
    assert start.demos(start.projects()) == 0
    assert capsys.readouterr().out == "1 digits      12×34 = 42\n"


def test_a_failing_demo_is_named_and_the_others_run(start, tmp_path, capsys):
    write_notebook(tmp_path / "2_Cat_Dog_Image_Classification" / "inference.ipynb", FAILS)
    (tmp_path / NAME).rename(tmp_path / "3_Later")    # the good one comes after the failing one
    assert start.demos(start.projects()) == 1
    out, err = capsys.readouterr()
    assert out == "2 cat_dog     failed: long\n1 digits      12×34 = 42\n"
    assert 'File "inference.ipynb, cell 1", line 2, in main' in err
    assert "    raise ValueError('too\\nlong')" in err


def test_verbs_do_what_they_say(start, commands, monkeypatch):
    monkeypatch.setattr(start, "demos", lambda chosen: [*chosen])
    assert start.run_verb("--no-lab", []) == [1] == start.run_verb("demo", ["1"])
    assert not any("jupyterlab" in command for command in commands)
    assert start.run_verb("", []) == [1]
    assert "jupyterlab" in commands[-1]
    assert start.run_verb("test", ["-k", "a b"]) == 0
    assert commands[-1][1:] == ["-m", "pytest", "-k", "a b"]


def test_data_is_passed_through(start, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(start, "set_up", lambda *requirements: None)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "download.py").write_text(
        "import sys; print(sys.argv[1:]); sys.exit(3)", encoding="utf-8")
    assert start.run_verb("data", ["mnist", "--list"]) == 3
    assert capfd.readouterr().out == "['mnist', '--list']\n"


@pytest.mark.parametrize("number, message", [("2", "no project 2 here; there is 1"),
                                             ("two", "two is no project number")])
def test_a_project_that_is_not_there(start, number, message):
    for verb, arguments in (("demo", [number]), ("export", [number, "folder"])):
        with pytest.raises(SystemExit, match=message):
            start.run_verb(verb, arguments)


def test_an_export_works_alone(start, tmp_path):
    start.export(1, tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    files = {file.name for file in (tmp_path / "moved").iterdir()}
    assert files == {"digits.py", "model.pth", "words.txt", "requirements.txt"}
    requirements = (tmp_path / "moved" / "requirements.txt").read_text(encoding="utf-8")
    assert requirements == "opencv-python-headless>=5\n"
    shutil.rmtree(tmp_path / "models")
    for command in ([tmp_path / "moved" / "digits.py"],
                    ["-c", "import sys; sys.path.insert(0, '../moved'); "
                     "import digits; digits.main()"]):
        assert subprocess.run([sys.executable, *command], cwd=tmp_path / "tests", text=True,
                              capture_output=True, check=True).stdout == "main: 42\n"


def test_an_export_that_cannot_be(start, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep", encoding="utf-8")
    for place in (tmp_path / "full", tmp_path / "full" / "mine.txt"):
        with pytest.raises(SystemExit, match="is not an empty folder"):
            start.export(1, place)
    write_notebook(tmp_path / NAME / "inference.ipynb", [*GOOD, REUSE[0]])
    with pytest.raises(SystemExit, match="must hold one line MODELS"):
        start.export(1, tmp_path / "out")
    write_notebook(tmp_path / NAME / "inference.ipynb", GOOD)
    (tmp_path / "models" / NAME / "model.pth").unlink()
    with pytest.raises(SystemExit, match="model.pth is missing"):
        start.export(1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_takes_long_shows_that_it_is_alive(start, capsys):
    sleep = "import time; print('almost there', flush=True); time.sleep(3)"
    assert start.watch([sys.executable, "-c", sleep], "working") == (0, ["almost there"])
    assert capsys.readouterr().err == "working  0:02  almost there\n"


def test_children_write_no_settings_outside(start, tmp_path):
    new = {value for name, value in start.environment().items()
           if name.startswith(("JUPYTER_", "IPYTHON", "MPL"))}
    assert new and all(Path(value).is_relative_to(tmp_path) for value in new)
    assert start.environment()["PYTHONUTF8"] == "1"
