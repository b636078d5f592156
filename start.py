"""Sets up this collection of notebooks and shows it. Needs Python 3.11, 3.12 or 3.13 alone.

  python3 start.py                      set up, run the demos, open JupyterLab in the browser
  python3 start.py --no-lab             set up, run the demos: one line a project
  python3 start.py demo [N ...]         the same for the projects N
  python3 start.py test [ARGUMENT ...]  set up, run the tests; arguments go to pytest
  python3 start.py data [NAME ...]      fetch data sets; without a name: what there is
  python3 start.py export N FOLDER      write project N as a module with its weights to FOLDER

The first set-up fetches the packages of requirements.txt into the folder .venv: minutes, and
up to 6 GB. The next ones take a second. Nothing is written outside this folder.
"""
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
REQUIREMENTS = ROOT / "requirements.txt"
TEST_REQUIREMENTS = ROOT / "tests" / "requirements.txt"
NAMES = {1: "digits", 2: "cat_dog", 3: "sentiment", 4: "gan", 5: "snake", 6: "attack"}

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
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"This is Python {sys.version.split()[0]}; the collection needs 3.11, 3.12 or "
                 "3.13. Start it with one of these, for example: python3.12 start.py")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")
    verb, arguments = "".join(sys.argv[1:2]), sys.argv[2:]
    if verb in ("-h", "--help"):
        print(__doc__)
        return
    try:
        sys.exit(run_verb(verb, arguments))
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on from here.")


def run_verb(verb, arguments):
    """Do what was asked; returns the exit status."""
    if verb in ("", "--no-lab") and not arguments:
        set_up(REQUIREMENTS)
        failed = demos(projects())
        if verb == "":
            open_lab()
        return failed
    if verb == "demo":
        chosen = {number: find(number) for number in map(project_number, arguments)}
        set_up(REQUIREMENTS)
        return demos(chosen or projects())
    if verb == "test":
        set_up(REQUIREMENTS, TEST_REQUIREMENTS)
        return pass_through([PYTHON, "-m", "pytest", *arguments])
    if verb == "data":
        set_up(REQUIREMENTS)
        return pass_through([PYTHON, ROOT / "datasets" / "download.py", *arguments])
    if verb == "export" and len(arguments) == 2:
        export(project_number(arguments[0]), Path(arguments[1]))
        return 0
    sys.exit(f"start.py does not know: {' '.join([verb, *arguments])}\n\n{__doc__}")


# Set-up

def set_up(*requirements):
    """Make .venv if it is missing or broken; install the files that changed since last time."""
    note = VENV / "installed.json"    # file -> hash, written when all of it is installed
    if not venv_works():
        make_venv()
    wanted = {file.relative_to(ROOT).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
              for file in requirements}
    installed = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    if wanted.items() <= installed.items():
        return
    print("Installing " + " and ".join(wanted) + " into .venv: this takes minutes.", flush=True)
    note.unlink(missing_ok=True)
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
               "--progress-bar", "off", "--no-compile"]    # compiled when imported: saves a minute
    for file in requirements:
        command += ["-r", file]
    status, lines = watch(command, "installing")
    if status:
        sys.exit("\n".join(lines[-15:]) + "\n\nThe installation failed; above is the end of "
                 "what pip said.\nMostly it is the network, or the disk: up to 6 GB must be free. "
                 "Then run the same command again.\nA mirror nearer to you is used when the "
                 "environment variable PIP_INDEX_URL names it.")
    note.write_text(json.dumps({**installed, **wanted}), encoding="utf-8")


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
    command = [sys.executable, "-m", "venv", "--clear", VENV]
    status, lines = watch(command, "making .venv")
    if status:
        sys.exit("\n".join(lines[-15:]) + f"\n\n{VENV} could not be made. "
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


def watch(command, label, folder=ROOT):
    """Run a command; returns (exit status, lines of its output).

    What it takes over two seconds is shown on stderr: the time and its last line, on one line
    of a terminal, else twice a minute.
    """
    process = subprocess.Popen(command, cwd=folder, env=environment(), encoding="utf-8",
                               errors="replace", stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = []

    def read():
        for line in process.stdout:
            lines.append(line.rstrip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    terminal, width = sys.stderr.isatty(), shutil.get_terminal_size().columns - 1
    start, next_line = time.monotonic(), 2
    while reader.is_alive():
        reader.join(0.5)
        seconds = int(time.monotonic() - start)
        line = f"{label}  {seconds // 60}:{seconds % 60:02}  {lines[-1] if lines else ''}"
        if terminal and seconds >= 2:
            print("\r" + line[:width].ljust(width), end="", file=sys.stderr, flush=True)
        elif seconds >= next_line and reader.is_alive():
            print(line.rstrip(), file=sys.stderr, flush=True)
            next_line = seconds + 30
    if terminal:
        print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)
    return process.wait(), lines


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
    return int(text) if text.isdigit() else sys.exit(f"{text} is no project number, 1 to 6.")


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
        status, lines = watch([PYTHON, "-u", "-c", DEMO], label, folder)
        if status:
            failed = 1
            print("\n".join(lines), file=sys.stderr)
            last = next(filter(None, reversed(lines)), f"exit status {status}")
            print(f"{label}failed: {last}", flush=True)
        else:
            print("\n".join(lines), flush=True)
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

    leave_out = shutil.ignore_patterns("metrics.json", "my_*", "*.checkpoint*")
    shutil.copytree(weights, folder, ignore=leave_out, dirs_exist_ok=True)
    head = (f'"""The reusable cells of {project.name}/inference.ipynb, as one module.\n\n'
            f"    pip install -r requirements.txt\n    python {name}.py -h\n\n"
            f'Made by `start.py export {number}`. Its weights lie beside it.\n"""\n')
    module = MODELS_LINE.sub("MODELS = Path(__file__).resolve().parent", source)
    end = '\n\nif __name__ == "__main__":\n    main()\n'
    (folder / f"{name}.py").write_text(head + module + end, encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements_of(module), encoding="utf-8")
    print(f"{folder}: " + ", ".join(sorted(file.name for file in folder.iterdir())))


def requirements_of(source):
    """Those lines of requirements.txt whose package the source imports."""
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    modules = {"opencv-python-headless": "cv2", "pillow": "PIL"}
    lines = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        package = re.match(r"[\w-]*", line)[0]
        if package and modules.get(package, package) in imported:
            lines.append(line.split("#")[0].rstrip() + "\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
