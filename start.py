"""Sets up this collection of notebooks and shows it. Needs Python 3.11 or newer alone.

  python3 start.py                      set up, run the demos, open JupyterLab in the browser
  python3 start.py --no-lab             set up, run the demos: one line a project
  python3 start.py demo [N ...]         the same for the projects N
  python3 start.py test [ARGUMENT ...]  set up, run the tests; arguments go to pytest
  python3 start.py data [NAME ...]      fetch data sets; without a name: what there is
  python3 start.py export N FOLDER      write project N as a module with its weights to FOLDER

The first set-up fetches the packages of requirements.txt into the folder .venv, which takes
minutes; the next ones take a second. On Linux without an NVIDIA card torch comes from PyTorch's
CPU index: 1.3 GB in place of 6. With --cuda, after any of these, it comes with the CUDA
libraries all the same. Where pip has a mirror, PIP_INDEX_URL or its own settings, all comes
from there. Nothing is written outside this folder but pip's cache of downloads.
"""
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
REQUIREMENTS = ROOT / "requirements.txt"
TEST_REQUIREMENTS = ROOT / "tests" / "requirements.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NAMES = {1: "digits", 2: "cat_dog", 3: "sentiment", 4: "gan", 5: "snake", 6: "attack"}

IMPORTED_AS = {"opencv-python-headless": "cv2", "pillow": "PIL", "pygame-ce": "pygame"}

# The line of an inference notebook that names the folder with its weights.
MODELS_LINE = re.compile(r'^MODELS = Path\("(.+)"\).*$', re.MULTILINE)

# Runs in the project's folder: the notebook's `reuse` cells, then its `demo` cell.
DEMO = """
import json, linecache, sys, traceback
namespace = {"__name__": "__main__"}
with open("inference.ipynb", encoding="utf-8") as file:
    cells = json.load(file)["cells"]
try:
    for tag in ("reuse", "demo"):
        for number, cell in enumerate(cells, 1):
            if tag in cell["metadata"].get("tags", []):
                name, text = f"inference.ipynb, cell {number}", "".join(cell["source"])
                linecache.cache[name] = len(text), None, text.splitlines(True), name
                exec(compile(text, name, "exec"), namespace)
except Exception:
    traceback.print_exc()
    sys.exit(1)
"""


def main():
    if sys.version_info < (3, 11):
        sys.exit(f"This is Python {sys.version.split()[0]}; the collection needs 3.11 or newer. "
                 "Start it with one, for example: python3.12 start.py")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")
    words = [word for word in sys.argv[1:] if word != "--cuda"]
    if words[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return
    try:
        sys.exit(run_verb("".join(words[:1]), words[1:], cuda="--cuda" in sys.argv))
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on from here.")
    except OSError as error:    # a full disk, a read-only folder: its own words name the place
        sys.exit(f"{error}\nMend that, then run the same command again.")


def run_verb(verb, arguments, cuda=False):
    """Do what was asked; returns the exit status."""
    if verb in ("", "--no-lab") and not arguments:
        set_up(REQUIREMENTS, cuda=cuda)
        failed = demos(projects())
        if verb == "":
            open_lab()
        return failed
    if verb == "demo":
        chosen = {number: find(number) for number in map(project_number, arguments)}
        set_up(REQUIREMENTS, cuda=cuda)
        return demos(chosen or projects())
    if verb == "test":
        set_up(REQUIREMENTS, TEST_REQUIREMENTS, cuda=cuda)
        return pass_through([PYTHON, "-m", "pytest", *arguments])
    if verb == "data":
        set_up(REQUIREMENTS, cuda=cuda)
        return pass_through([PYTHON, ROOT / "datasets" / "download.py", *arguments])
    if verb == "export" and len(arguments) == 2:
        export(project_number(arguments[0]), Path(arguments[1]))
        return 0
    sys.exit(f"start.py does not know: {' '.join([verb, *arguments])}\n\n{__doc__}")


# Set-up

def set_up(*requirements, cuda=False):
    """Make .venv if it is missing or broken; install the files that changed since last time."""
    if VENV.exists() and not VENV.is_dir():
        sys.exit(f"{VENV} is a file; the packages go into a folder of that name. Remove the file, "
                 "then run the same command again.")
    if not venv_works():
        make_venv()
    note = VENV / "installed.json"    # file -> hash, written when all of it is installed
    wanted = {file.relative_to(ROOT).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
              for file in requirements}
    installed = read_note(note)
    torch = "".join(path.name for path in VENV.glob("lib/*/site-packages/torch-*.dist-info"))
    replace = cuda and "+cpu" in torch
    if wanted.items() <= installed.items() and not replace:
        return
    print("Installing " + " and ".join(wanted) + " into .venv: this takes minutes.", flush=True)
    note.unlink(missing_ok=True)
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if replace:    # for pip the two are one version: it would leave the small one
        run_pip([*pip, "uninstall", "--yes", "torch", "torchvision"])
    command = [*pip, "install", "--no-compile"]    # compiled when imported: saves a minute
    for file in requirements:
        command += ["-r", file]
    if not cuda and (not torch or "+cpu" in torch):
        command += cpu_index(pip)
    run_pip(command)
    part = note.with_suffix(".part")
    part.write_text(json.dumps({**installed, **wanted}), encoding="utf-8")
    part.replace(note)


def read_note(note):
    """What is installed, by the note; nothing where it is missing, cut or something else."""
    try:
        installed = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return installed if isinstance(installed, dict) else {}


def cpu_index(pip):
    """pip's arguments for a torch without CUDA, on Linux without an NVIDIA card."""
    if sys.platform != "linux" or shutil.which("nvidia-smi"):
        return []
    if has_mirror(pip):
        print("All comes from pip's mirror: torch with the CUDA libraries, 6 GB in all, unless "
              "PIP_EXTRA_INDEX_URL names a mirror of PyTorch's CPU index.", flush=True)
        return []
    try:    # asked here, because pip would ask it again for each of a hundred packages
        urlopen(CPU_INDEX + "/torch/", timeout=5).close()
    except (OSError, HTTPException):
        print("PyTorch's CPU index does not answer: torch comes from the ordinary index, with the "
              "CUDA libraries, 6 GB in all.", flush=True)
        return []
    return ["--extra-index-url", CPU_INDEX]    # there, 2.6.0 is 2.6.0+cpu, which pip holds newer


def has_mirror(pip):
    """Whether pip is told, by a variable or a file, to use another index than its own."""
    settings = subprocess.run([*pip, "config", "list"], capture_output=True, encoding="utf-8",
                              errors="replace", env=environment()).stdout
    return re.search(r"\.index-url=", settings) is not None


def run_pip(command):
    if subprocess.call(command, cwd=ROOT, env=environment()):
        sys.exit("\nThe installation failed; above is what pip said.\nMostly it is the network, or "
                 "the disk: up to 6 GB must be free. Then run the same command again.\nA mirror "
                 "nearer to you is used when the environment variable PIP_INDEX_URL names it.")


def venv_works():
    """Whether .venv holds a Python that starts and has pip."""
    try:
        return subprocess.run([PYTHON, "-c", "import pip"], capture_output=True).returncode == 0
    except OSError:    # no such file, or made for another machine
        return False


def make_venv():
    if find_spec("ensurepip") is None or find_spec("venv") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"Python's module venv is not complete. On Debian and Ubuntu install it with\n"
                 f"  sudo apt install python{version}-venv\nThen run the same command again.")
    print("Making .venv.", flush=True)
    if subprocess.call([sys.executable, "-m", "venv", "--clear", VENV]):
        sys.exit(f"\n{VENV} could not be made. "
                 "Mend what is said above, remove that folder, run the same command again.")


# Child processes

def environment():
    """For child processes: UTF-8 everywhere, and settings in .venv, not in the home folder."""
    home = VENV / "home"
    home.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "PYTHONUTF8": "1", "IPYTHONDIR": str(home / "ipython"),
            "JUPYTER_CONFIG_DIR": str(home / "jupyter"), "MPLCONFIGDIR": str(home / "matplotlib"),
            "JUPYTER_DATA_DIR": str(home / "jupyter-data"),
            "JUPYTER_RUNTIME_DIR": str(home / "jupyter-runtime"),
            "npm_config_cache": str(home / "npm")}    # JupyterLab asks npm for language servers


def watch(command, label, folder):
    """Run a command; returns its exit status and what it wrote to stdout and to stderr.

    After two seconds stderr shows that it is alive: on one line of a terminal, else twice a minute.
    """
    process = subprocess.Popen(command, cwd=folder, env=environment(), encoding="utf-8",
                               errors="replace", stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    terminal, line, start = sys.stderr.isatty(), "", time.monotonic()
    while True:
        try:
            out, err = process.communicate(timeout=2 if terminal or not line else 30)
            break
        except subprocess.TimeoutExpired:
            line = f"{label}{time.monotonic() - start:.0f} s"
            print(line, end="\r" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal:
        print(" " * len(line), end="\r", file=sys.stderr, flush=True)
    return process.returncode, out, err


def pass_through(command):
    """Run a command with this terminal as its own; returns its exit status."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            pass    # the command got it too, and decides: JupyterLab asks back, pytest sums up


def open_lab():
    print("\nJupyterLab opens in your browser; if none opens, copy an address from below.\n"
          "Ctrl-C, twice, stops it.", flush=True)
    command = [PYTHON, "-m", "jupyterlab", "--ip=127.0.0.1", "--log-level=WARN"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:    # in a container; Jupyter refuses else
        command.append("--allow-root")
    pass_through(command)


# Projects

def projects():
    """Number -> folder of the projects that can be shown."""
    return {int(book.parent.name[0]): book.parent
            for book in sorted(ROOT.glob("[1-6]_*/inference.ipynb"))}


def project_number(text):
    return int(text) if text.isdecimal() else sys.exit(f"{text} is no project number, 1 to 6.")


def find(number):
    there = projects()
    if number not in there:
        have = ", ".join(map(str, there)) or "none"
        sys.exit(f"There is no project {number} here; there is {have}.")
    return there[number]


def demos(chosen):
    """Run each project's demo, which prints its line; returns 1 if one failed, else 0."""
    failed = 0
    for number, folder in chosen.items():
        label = f"{number} {NAMES[number]:<12}"
        status, out, err = watch([PYTHON, "-c", DEMO], label, folder)
        if status == 0:
            print(out, end="", flush=True)    # err holds progress bars
            continue
        failed = 1
        print(out + err, file=sys.stderr)
        last = next(filter(None, reversed(err.splitlines())), f"exit status {status}")
        print(f"{label}failed: {last}", flush=True)
        if last.startswith(("ModuleNotFoundError", "ImportError")):
            print("If a package in .venv is missing or broken: remove the folder .venv, then run "
                  "the same command again.", file=sys.stderr)
    return failed


def reuse_source(notebook):
    """The `reuse` cells of a notebook, in order, as the source of one module."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n\n".join("".join(cell["source"]) for cell in cells
                         if "reuse" in cell["metadata"].get("tags", [])) + "\n"


def export(number, folder):
    """Write a project's `reuse` cells as one module, with its weights and requirements."""
    project, name = find(number), NAMES[number]
    source = reuse_source(project / "inference.ipynb")
    models = MODELS_LINE.findall(source)
    if len(models) != 1:
        sys.exit(f"{project.name}/inference.ipynb: its reuse cells must hold one line "
                 f'MODELS = Path("../models/N_Name"), not {len(models)}.')
    weights = (project / models[0]).resolve()
    if not (weights / "model.pth").is_file():
        sys.exit(f"{weights / 'model.pth'} is missing. Get it back with git, or run "
                 f'{project.name}/train.ipynb with weights_file = "model.pth".')
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        sys.exit(f"{folder} is not an empty folder. Name a new one.")

    head = (f'"""The reusable cells of {project.name}/inference.ipynb, as one module.\n\n'
            f"    pip install -r requirements.txt\n    python {name}.py -h\n\n"
            f'Made by `start.py export {number}`. Its weights lie beside it.\n"""\n')
    module = MODELS_LINE.sub("MODELS = Path(__file__).resolve().parent", source)
    end = '\n\nif __name__ == "__main__":\n    main()\n'
    leave_out = shutil.ignore_patterns("metrics.json", "reader.pth", "my_*", "*.part",
                                       "*.checkpoint*")    # train.ipynb's alone
    place = folder.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export", dir=place.parent) as beside:
            whole = Path(beside) / place.name
            shutil.copytree(weights, whole, ignore=leave_out)
            (whole / f"{name}.py").write_text(head + module + end, encoding="utf-8")
            (whole / "requirements.txt").write_text(requirements_of(module), encoding="utf-8")
            if place.exists():    # empty; Windows would not rename onto it
                place.rmdir()
            whole.rename(place)
    except OSError as error:
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        sys.exit(f"{folder} could not be written: {why}\nNothing was left there. Make room, or "
                 "name another place.")
    print(f"{folder}: " + ", ".join(sorted(file.name for file in folder.iterdir())))


def requirements_of(source):
    """Those lines of requirements.txt whose package the source imports."""
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    lines = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        package = re.match(r"[\w-]*", line)[0]
        if package and IMPORTED_AS.get(package, package) in imported:
            lines.append(line.split("#")[0].rstrip() + "\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
