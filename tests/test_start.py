"""start.py on a small made-up repository, with the Python that runs the tests."""
import ast
import functools
import http.server
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import start as real_start
from notebooks import ROOT, write_notebook

NAME = "1_Handwritten_Digit_Recognition"
REUSE = [("reuse", "import cv2, json\nfrom pathlib import Path\n"
          f'MODELS = Path("../models/{NAME}")', ""),
         ("reuse", "def weights():\n"
          '    return (MODELS / "model.pth").read_text(encoding="utf-8")\n\n'
          'def main():\n    print("main:", weights())', "")]
GOOD = [*REUSE, ("", "raise ValueError('not a part of the demo')", ""),
        ("demo", 'import sys\nprint("100 %|███|", file=sys.stderr)\n'
         'print("1 digits      12×34 =", weights())', "")]
LINE = "1 digits      12×34 = 42\n"
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
def pip_runs(start, monkeypatch):
    """The commands that start.py would give to pip, which are not run."""
    seen = []
    monkeypatch.setattr(start, "run_pip", seen.append)
    monkeypatch.setattr(start, "cpu_index", lambda pip: [])
    return seen


@pytest.fixture
def ready(start, pip_runs):
    """All is installed, as far as start.py knows."""
    start.set_up(start.REQUIREMENTS, start.TEST_REQUIREMENTS)
    pip_runs.clear()
    yield start
    assert not pip_runs


@pytest.fixture
def pip_settings(monkeypatch, tmp_path):
    """pip without this machine's settings; an empty folder of settings in their place."""
    for name in [*os.environ]:
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PATH", str(tmp_path))    # no nvidia-smi
    return monkeypatch


@pytest.fixture
def serve(tmp_path):
    """A new folder and its address, served as pip's indexes are."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def add_wheel(index, name, version):
    """An empty package in an index that is a folder."""
    (index / name).mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info/"
    with zipfile.ZipFile(index / name / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: {name}\n"
                       f"Version: {version}\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
                       "Tag: py3-none-any\n")
        wheel.writestr(info + "RECORD", "")


def test_set_up_installs_what_changed(start, pip_runs):
    start.set_up(start.REQUIREMENTS)
    assert start.REQUIREMENTS in pip_runs.pop() and not pip_runs
    start.set_up(start.REQUIREMENTS)
    assert not pip_runs
    start.set_up(start.REQUIREMENTS, start.TEST_REQUIREMENTS)
    assert start.TEST_REQUIREMENTS in pip_runs.pop()
    start.set_up(start.REQUIREMENTS)
    assert not pip_runs
    start.REQUIREMENTS.write_text("torch>=2.1\n", encoding="utf-8")
    start.set_up(start.REQUIREMENTS)
    assert start.REQUIREMENTS in pip_runs.pop() and not pip_runs


@pytest.mark.parametrize("note", [b"", b"[]", b'{"requirements.txt": "12', b"null", b"\xff",
                                  b'{"requirements.txt": []}'])
def test_a_damaged_note_means_set_up_again(start, pip_runs, note):
    (start.VENV / "installed.json").write_bytes(note)
    start.set_up(start.REQUIREMENTS)
    assert len(pip_runs) == 1
    start.set_up(start.REQUIREMENTS)
    assert len(pip_runs) == 1
    assert [file.name for file in start.VENV.glob("installed*")] == ["installed.json"]


def test_a_failed_installation_is_told_and_tried_again(start, monkeypatch, capfd):
    monkeypatch.setattr(start, "cpu_index", lambda pip: [])
    start.REQUIREMENTS.write_text("./missing.whl\n", encoding="utf-8")
    note = start.VENV / "installed.json"
    note.write_text('{"tests/requirements.txt": "1"}', encoding="utf-8")
    for _ in range(2):
        with pytest.raises(SystemExit, match="(?s)above is what pip said.*run the same command"):
            start.set_up(start.REQUIREMENTS)
        assert "missing.whl" in capfd.readouterr().err and not note.exists()


def test_a_file_in_the_place_of_venv_is_named(start):
    start.VENV.rmdir()
    start.VENV.write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"\.venv is a file"):
        start.set_up(start.REQUIREMENTS)
    assert start.VENV.read_text(encoding="utf-8") == "mine"


def test_what_the_system_refuses_is_one_line(start, monkeypatch):
    (start.VENV / "home").write_text("no folder", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["start.py", "--cuda", "data"])
    with pytest.raises(SystemExit, match="(?s)home'\nMend that, then run the same command again"):
        start.main()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one kind of torch")
def test_a_broken_venv_is_made_again_with_the_torch_asked_for(start, pip_settings, serve):
    folder, address = serve
    cpu, ordinary, start.CPU_INDEX = folder / "cpu", folder / "ordinary", address + "/cpu"
    for index, build in ((cpu, "+cpu"), (ordinary, "")):
        add_wheel(index, "torch", "9.0" + build)
        add_wheel(index, "torchvision", "9.0" + build)
    add_wheel(ordinary, "numpy", "2.0")
    start.REQUIREMENTS.write_text("torch>=9.0\ntorchvision\nnumpy\n", encoding="utf-8")
    start.PYTHON = start.VENV / "bin/python"
    start.PYTHON.parent.mkdir()
    start.PYTHON.write_text("no program", encoding="utf-8")
    assert not start.venv_works()

    def installed(**cuda):
        start.set_up(start.REQUIREMENTS, **cuda)
        return {re.match(r"(.*)\.dist", path.name)[1] for path in start.VENV.rglob("*.dist-info")
                if not path.name.startswith(("pip-", "setuptools-"))}

    with pip_settings.context() as later:    # the ordinary index, which is no reader's mirror
        later.setenv("PIP_INDEX_URL", address + "/ordinary")
        later.setattr(start, "has_mirror", lambda pip: False)
        assert installed() == {"torch-9.0+cpu", "torchvision-9.0+cpu", "numpy-2.0"}
        assert start.venv_works()
        big = {"torch-9.0", "torchvision-9.0", "numpy-2.0"}
        assert installed(cuda=True) == big
        assert installed(cuda=True) == installed() == big
        for index, build in ((cpu, "+cpu"), (ordinary, "")):
            add_wheel(index, "torch", "9.1" + build)
        start.REQUIREMENTS.write_text("torch>=9.1\n", encoding="utf-8")
        assert "torch-9.1" in installed()    # who has CUDA keeps it
    shutil.rmtree(next(start.VENV.rglob("site-packages")) / "pip")
    assert not start.venv_works()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one kind of torch")
def test_where_torch_comes_from(start, pip_settings, serve, tmp_path, capsys):
    index, start.CPU_INDEX = serve
    add_wheel(index, "torch", "9.0+cpu")
    pip, yes = [sys.executable, "-m", "pip"], ["--extra-index-url", start.CPU_INDEX]
    assert start.cpu_index(pip) == yes
    settings = tmp_path / "pip.conf"
    pip_settings.setenv("PIP_CONFIG_FILE", str(settings))
    settings.write_text("[global]\nextra-index-url = https://a.example/simple\n", encoding="utf-8")
    assert start.cpu_index(pip) == yes and not capsys.readouterr().out
    settings.write_text("[global]\nindex-url = https://a.example/simple\n", encoding="utf-8")
    assert start.cpu_index(pip) == [] and "mirror" in capsys.readouterr().out
    settings.unlink()
    with pip_settings.context() as later:
        later.setenv("PIP_INDEX_URL", "https://a.example/simple")
        assert start.cpu_index(pip) == [] and "mirror" in capsys.readouterr().out
    with pip_settings.context() as later:
        later.setattr(start, "CPU_INDEX", "http://127.0.0.1:9")
        assert start.cpu_index(pip) == []
        assert re.fullmatch("PyTorch's CPU index does not answer.*\n", capsys.readouterr().out)
    (tmp_path / "nvidia-smi").touch(0o755)
    assert start.cpu_index(pip) == [] and not capsys.readouterr().out


def test_a_missing_venv_module_is_named(start, monkeypatch):
    monkeypatch.setattr(start, "venv_works", lambda: False)
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="sudo apt install python3"):
        start.set_up(start.REQUIREMENTS)


def test_an_older_python_is_told_which_one(start, monkeypatch):
    old = SimpleNamespace(version_info=(3, 9, 2), version="3.9.2 (main)", exit=sys.exit)
    monkeypatch.setattr(start, "sys", old)
    with pytest.raises(SystemExit, match="This is Python 3.9.2; the collection needs 3.11 or new"):
        start.main()
    ast.parse((ROOT / "start.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_help_names_each_verb():
    text = subprocess.run([sys.executable, ROOT / "start.py", "-h"], capture_output=True,
                          encoding="utf-8", check=True).stdout
    assert all(verb in text for verb in ("--no-lab", "demo", "test", "data", "export",
                                          "--cuda"))


def test_an_unknown_verb_shows_the_help(start):
    with pytest.raises(SystemExit, match="(?s)does not know: tset.*start.py test"):
        start.run_verb("tset", [])


def test_a_demo_is_one_line_whatever_goes_to_stderr(start, capsys):
    assert start.demos(start.projects()) == 0
    out, err = capsys.readouterr()
    assert out == LINE and "███" not in err


def test_a_failing_demo_is_named_and_the_others_run(start, tmp_path, capsys):
    write_notebook(tmp_path / "2_Cat_Dog_Image_Classification" / "inference.ipynb", FAILS)
    (tmp_path / NAME).rename(tmp_path / "3_Later")    # the good one comes after the failing one
    assert start.demos(start.projects()) == 1
    out, err = capsys.readouterr()
    assert out == "2 cat_dog     failed: long\n" + LINE
    assert 'File "inference.ipynb, cell 1", line 2, in main' in err
    assert "    raise ValueError('too\\nlong')" in err and "remove the folder" not in err


def test_a_missing_package_is_told_with_its_repair(start, tmp_path, capsys):
    write_notebook(tmp_path / NAME / "inference.ipynb", [("reuse", "import no_such_thing", "")])
    assert start.demos(start.projects()) == 1
    out, err = capsys.readouterr()
    assert out == "1 digits      failed: ModuleNotFoundError: No module named 'no_such_thing'\n"
    assert "remove the folder .venv, then run the same command again" in err


def test_verbs_do_what_they_say(ready, tmp_path, capfd):
    say = "import sys; print('JupyterLab', *sys.argv[1:]); sys.exit(3)"
    (tmp_path / "jupyterlab.py").write_text(say, encoding="utf-8")    # found before the real one
    (tmp_path / "tests" / "test_a.py").write_text(
        "def test_right(): pass\ndef test_wrong(): assert False\n", encoding="utf-8")
    assert ready.run_verb("demo", ["1"]) == 0
    assert ready.run_verb("--no-lab", []) == 0
    assert capfd.readouterr().out == LINE * 2
    assert ready.run_verb("", []) == 0
    assert re.match(LINE + r"(?s:.*)\nJupyterLab --ip=127\.0\.0\.1", capfd.readouterr().out)
    assert ready.run_verb("test", ["-q", "-k", "right or nothing"]) == 0
    assert "1 passed, 1 deselected" in capfd.readouterr().out
    assert ready.run_verb("test", ["-q"]) == 1


def test_data_is_passed_through(ready, tmp_path, capfd):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "download.py").write_text(
        "import sys; print(sys.argv[1:]); sys.exit(3)", encoding="utf-8")
    assert ready.run_verb("data", ["mnist", "--list"]) == 3
    assert capfd.readouterr().out == "['mnist', '--list']\n"


@pytest.mark.parametrize("number, message", [("2", "no project 2 here; there is 1"),
                                             ("two", "two is no project number"),
                                             ("²", "² is no project number")])
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


def test_an_export_into_an_empty_folder_or_a_new_one_in_a_new_one(start, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "new" / "deep"):
        start.export(1, place)
        assert (place / "digits.py").is_file() and len(list(place.parent.glob(".*"))) <= 1


def test_an_export_below_a_file(start, tmp_path):
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(SystemExit, match="(?s)could not be written.*Nothing was left there"):
        start.export(1, tmp_path / "mine.txt" / "out")
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "keep"


@pytest.mark.skipif(os.name == "nt", reason="Windows can't limit the size of a file")
def test_an_export_to_a_full_disk_leaves_nothing(start, tmp_path):
    (tmp_path / "models" / NAME / "model.pth").write_bytes(bytes(5000))
    (tmp_path / "disk").mkdir()
    full = ("import resource, sys, start; sys.argv[1:] = ['export', '1', 'disk/out']\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); start.main()")
    result = subprocess.run([sys.executable, "-B", "-c", full], cwd=tmp_path, capture_output=True,
                            encoding="utf-8")
    assert result.returncode == 1 and not result.stdout
    assert re.match(r"disk/out could not be written: .*File too large.*\nNothing was left there",
                    result.stderr)
    assert not [*(tmp_path / "disk").iterdir()]
    start.export(1, tmp_path / "disk" / "out")    # and the next try is not in its own way


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0,
                    reason="root, and Windows, write into a read-only folder")
def test_an_export_into_a_read_only_folder(start, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(SystemExit, match="(?s)could not be written: .*Permission denied"):
        start.export(1, tmp_path / "locked" / "out")


def test_requirements_are_known_by_the_name_under_which_they_are_imported():
    lines = [line for line in real_start.REQUIREMENTS.read_text(encoding="utf-8").splitlines()
             if not line.startswith("#")]
    packages = [re.match(r"[\w-]+", line)[0] for line in lines]
    modules = [real_start.IMPORTED_AS.get(package, package) for package in packages]
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    code = "\n".join(f"import {name}" for name in modules)
    assert real_start.requirements_of(code).splitlines() == [line.split(" ")[0] for line in lines]


def test_what_takes_long_shows_that_it_is_alive(start, capsys):
    code = "import sys, time; print('a'); time.sleep(2.5); sys.exit('b')"
    assert start.watch([sys.executable, "-c", code], "working ", ROOT) == (1, "a\n", "b\n")
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"(working \d+ s\n)+", err)


def test_children_write_no_settings_outside(start, tmp_path):
    new = {value for name, value in start.environment().items()
           if name.startswith(("JUPYTER_", "IPYTHON", "MPL"))}
    assert new and all(Path(value).is_relative_to(tmp_path) for value in new)
    assert start.environment()["PYTHONUTF8"] == "1"
