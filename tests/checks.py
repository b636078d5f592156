"""What the collection's files must keep to (design: limits, tags, outputs, numbers).

Each check takes a path and returns its complaints, in words; none means all is well.
"""
import ast
import base64
import builtins
import dis
import hashlib
import json
import re
import statistics
import types
from datetime import date
from urllib.parse import unquote

import nbformat

from notebooks import cells, code_cells, read, reuse_module, source, stdout, tags
from start import MODELS_LINE, NAMES, reuse_source

KB, MB = 1000, 1000 ** 2
TAGS = {"parameters", "reuse", "demo", "study", "exercise"}


def named(book):
    """(name to find it by, cell) of each code cell."""
    for number, cell in enumerate(book["cells"], 1):
        if cell["cell_type"] == "code":
            first = source(cell).strip().split("\n")[0]
            yield f"cell {number} ({first[:40]})", cell


def parse(text):
    """The syntax tree; an empty one where the text is no Python (check_code reports that)."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.parse("")


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def keywords(call):
    return {keyword.arg: keyword.value for keyword in call.keywords}


# Notebooks: the file

def check_format(path):
    """A valid notebook of format 4.5 for the kernel python3, each cell with an id of its own."""
    try:
        book = read(path)
        ids = [cell.get("id") for cell in book["cells"]]
        if None in ids or len(set(ids)) < len(ids):
            return ["a cell has no id, or two have the same"]
        nbformat.validate(book)
    except (ValueError, KeyError, nbformat.ValidationError) as error:
        return [f"not a valid notebook: {str(error).splitlines()[0]}"]
    if book["metadata"].get("kernelspec", {}).get("name") != "python3":
        return ["metadata.kernelspec.name is not python3"]
    return []


def check_tags(path):
    """Only known tags, on code cells (same:NAME on any), each in the notebook that it is for."""
    complaints = []
    elsewhere = {"reuse", "demo"} if path.name == "train.ipynb" else {"exercise"}
    for number, cell in enumerate(read(path)["cells"], 1):
        for tag in tags(cell):
            if re.fullmatch(r"same:\w+", tag):
                continue
            if tag not in TAGS:
                complaints.append(f"cell {number}: unknown tag {tag}")
            elif cell["cell_type"] != "code":
                complaints.append(f"cell {number}: tag {tag} on text")
            elif tag in elsewhere:
                complaints.append(f"cell {number}: tag {tag} does not belong in {path.name}")
    return complaints


def check_same(paths):
    """Cells of one same:NAME are equal byte for byte, in all notebooks."""
    complaints, first = [], {}
    for path in paths:
        for cell in read(path)["cells"]:
            for tag in tags(cell):
                if not tag.startswith("same:"):
                    continue
                text, where = first.setdefault(tag, (source(cell), path))
                if source(cell) != text:
                    complaints.append(f"{tag} in {path.parent.name}/{path.name} differs from "
                                      f"{where.parent.name}/{where.name}")
    return complaints


def check_sizes(path):
    """A stored picture is at most 150 kB (a GIF 1.5 MB), a notebook 3 MB."""
    complaints = []
    if path.stat().st_size > 3 * MB:
        complaints.append(f"{path.stat().st_size / MB:.1f} MB; at most 3 MB")
    for cell in read(path)["cells"]:
        bundles = [output.get("data", {}) for output in cell.get("outputs", [])]
        bundles += cell.get("attachments", {}).values()
        for kind, data in ((kind, data) for bundle in bundles for kind, data in bundle.items()):
            if kind in ("image/png", "image/jpeg", "image/gif"):
                size = len(base64.b64decode("".join(data)))
                limit = 1.5 * MB if kind == "image/gif" else 150 * KB
                if size > limit:
                    complaints.append(f"a picture of {size / KB:.0f} kB, at most {limit / KB:.0f}, "
                                      f"under: {source(cell).strip()[:40]}")
    return complaints


# Notebooks: the code

def literal(node):
    """Whether an expression is a value written out: numbers, texts, lists, 5 * 60, 8 / 255."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(map(literal, node.elts))
    if isinstance(node, ast.Dict):
        return all(key is not None and literal(key) for key in node.keys) and all(
            map(literal, node.values))
    if isinstance(node, ast.BinOp):
        return literal(node.left) and literal(node.right)
    if isinstance(node, ast.UnaryOp):
        return literal(node.operand)
    return isinstance(node, ast.Constant)


def check_parameters(path):
    """One `parameters` cell near the top: name = value  # comment; each name used below it."""
    book = read(path)
    code = code_cells(book)
    places = [place for place, cell in enumerate(code) if "parameters" in tags(cell)]
    if len(places) != 1 or places[0] > 2:
        return ["one cell must be tagged parameters, the first, second or third code cell; "
                f"tagged are the code cells {[place + 1 for place in places]}"]
    complaints, text = [], source(code[places[0]])
    later = [node.id for cell in code[places[0] + 1:] for node in ast.walk(parse(source(cell)))
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    lines = text.split("\n")
    for statement in parse(text).body:
        line = lines[statement.lineno - 1]
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1
                and isinstance(statement.targets[0], ast.Name) and literal(statement.value)):
            complaints.append(f"parameters: not of the form name = value: {line}")
            continue
        name = statement.targets[0].id
        rest = lines[statement.end_lineno - 1].encode()[statement.end_col_offset:].decode()
        if not re.search(r"#\s*\S", rest):
            complaints.append(f"parameters: {name} has no comment")
        if name not in later:
            complaints.append(f"parameters: no later cell uses {name}")
    if cells(book, "study") and not re.search(r"^run_studies = False\b", text, re.MULTILINE):
        complaints.append("a cell is tagged study, but parameters has no run_studies = False")
    return complaints


def check_cell_lengths(path):
    """Non-blank lines a code cell: median at most 8, 9 of 10 at most 25, none over 40; a line
    has at most 92 characters."""
    complaints, lengths = [], []
    for name, cell in named(read(path)):
        lines = [line for line in source(cell).split("\n") if line.strip()]
        lengths.append(len(lines))
        if len(lines) > 40:
            complaints.append(f"{name}: {len(lines)} lines; at most 40")
        complaints += [f"{name}: {len(line)} characters: {line}" for line in lines
                       if len(line) > 92]
    if statistics.median(lengths) > 8:
        complaints.append(f"the median code cell has {statistics.median(lengths)} lines")
    long = sum(length > 25 for length in lengths)
    if long > len(lengths) / 10:
        complaints.append(f"{long} of {len(lengths)} code cells have more than 25 lines")
    return complaints


def check_code(path):
    """Plain Python without star imports, hidden warnings, workers, pickles, or open() without
    its encoding."""
    complaints = []
    for name, cell in named(read(path)):
        try:
            tree = ast.parse(source(cell))
        except SyntaxError as error:
            complaints.append(f"{name}: no plain Python (a % or ! line?): {error.text}")
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                complaints.append(f"{name}: star import from {node.module}")
        for call in calls(tree):
            complaints += [f"{name}: {text}" for text in call_complaints(call)]
    return complaints


def call_complaints(call):
    function, given = ast.unparse(call.func), keywords(call)
    last = function.split(".")[-1]
    if last in ("filterwarnings", "simplefilter"):
        yield f"{function} hides warnings; remove their cause"
    if ast.unparse(given.get("num_workers", ast.Constant(0))) != "0":
        yield "num_workers hangs in notebooks on Windows; keep the data in tensors"
    if function == "torch.load":
        if "map_location" not in given:
            yield "torch.load without map_location"
        if ast.unparse(given.get("weights_only", ast.Constant(None))) != "True":
            yield "torch.load without weights_only=True"
    modes = [node.value for node in (*call.args, *given.values()) if isinstance(node, ast.Constant)
             and re.fullmatch(r"[rwax][bt+]*", str(node.value))]
    binary = any("b" in mode for mode in modes)
    text = function == "open" and not binary or last == "open" and modes and not binary
    if (text or last in ("read_text", "write_text")) and "encoding" not in given:
        yield f'{function} without encoding="utf-8"'


def check_figures(path):
    """A cell that makes axes gives a title; one that draws curves labels both axes. Cells that
    draw on axes made elsewhere can't be told, and pass."""
    makes = {"subplots", "subplot", "subplot_mosaic", "add_subplot"}
    curves = {"plot", "scatter", "bar", "barh", "hist", "errorbar", "fill_between", "step",
              "semilogx", "semilogy", "loglog", "pcolormesh", "contourf", "boxplot"}
    complaints = []
    for name, cell in named(read(path)):
        made = calls(parse(source(cell)))
        called = {call.func.attr for call in made if isinstance(call.func, ast.Attribute)}
        by_pyplot = {ast.unparse(call.func) for call in made} & {
            f"plt.{function}" for function in curves | {"imshow"}}
        given = called | {keyword for call in made for keyword in keywords(call)}
        if not (called & makes or by_pyplot):
            continue
        if not given & {"title", "set_title", "suptitle"}:
            complaints.append(f"{name}: a figure without a title")
        for axis in "xy":
            labels = {f"{axis}label", f"set_{axis}label", f"sup{axis}label"}
            if called & curves and not given & labels:
                complaints.append(f"{name}: a figure without a label on its {axis} axis")
    return complaints


# Notebooks: stored outputs

def texts(cell):
    """All text that a code cell's outputs hold."""
    for output in cell["outputs"]:
        yield "".join(output.get("text", ""))
        for kind, data in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield re.sub(r"base64,[\w+/=]+", "", "".join(data))


def check_executed(path):
    """Run once from top to bottom: no gap, no error, no warning, no remains of a progress bar."""
    complaints = []
    for count, (name, cell) in enumerate(named(read(path)), 1):
        if cell["execution_count"] != count:
            complaints.append(f"{name}: execution count {cell['execution_count']}, not {count}")
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                complaints.append(f"{name}: {output['ename']}: {output['evalue']}")
            if output.get("name") == "stderr":
                complaints.append(f"{name}: output on stderr: {''.join(output['text'])[:200]}")
        for text in texts(cell):
            debris = re.search(r"\w*Warning\b|it/s|s/it|\r|█|\x1b\[", text)
            if debris:
                complaints.append(f"{name}: output contains {debris[0]!r}")
    return complaints


def check_machine_paths(path):
    """No stored output or metadata tells where the notebook was executed."""
    book = read(path)
    places = [("metadata", [json.dumps(book["metadata"])])]
    places += [(f"metadata of {name}", [json.dumps(cell["metadata"])])
               for name, cell in named(book)]
    places += [(name, texts(cell)) for name, cell in named(book)]
    machine = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|opt|mnt)/|[A-Z]:\\+Users")
    return [f"{name}: names a path of a machine: {found[0]}" for name, all_text in places
            for text in all_text if (found := machine.search(text))]


# Notebooks: the parts that readers use

def free_names(code):
    """Names that functions of a compiled module look up in it."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from free_names(constant)


def check_reuse(path):
    """inference.ipynb: the `reuse` cells, in order, are a module with MODELS and main()."""
    if path.name != "inference.ipynb":
        return []
    complaints = []
    for name, cell in named(read(path)):
        for statement in parse(source(cell)).body if "reuse" in tags(cell) else []:
            constant = isinstance(statement, ast.Assign) and all(
                isinstance(target, ast.Name) and target.id.isupper()
                for target in statement.targets)
            definition = isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef,
                                                ast.ClassDef))
            if not (constant or definition):
                complaints.append(f"{name}: tagged reuse, but not an import, an upper-case "
                                  f"constant, a function or a class: {ast.unparse(statement)[:60]}")
    if complaints:
        return complaints    # such a cell is not run here
    text = reuse_source(path)
    models = MODELS_LINE.findall(text)
    if len(models) != 1 or not (path.parent / models[0]).is_dir():
        complaints.append('the reuse cells need one line MODELS = Path("../models/N_Name") that '
                          f"names a folder; found {models}")
    try:
        module = reuse_module(path)
    except Exception as error:
        return [*complaints, f"the reuse cells are no module: {error!r}"]
    if not hasattr(module, "main"):
        complaints.append("the reuse cells define no main(), the command line of the export")
    for name in sorted(set(free_names(compile(text, path.name, "exec")))):
        if not hasattr(module, name) and not hasattr(builtins, name):
            complaints.append(f"a reuse cell uses {name}, which no reuse cell defines")
    return complaints


def check_demo(path):
    """inference.ipynb: one `demo` cell, whose output is the project's line, as 1 digits ..."""
    if path.name != "inference.ipynb":
        return []
    demos = cells(read(path), "demo")
    if len(demos) != 1:
        return [f"{len(demos)} cells are tagged demo; it must be one"]
    number = int(path.parent.name[0])
    if not re.fullmatch(rf"{number} {NAMES[number]:<12}\S.*\n?", stdout(demos[0])):
        return [f"the demo must print one line: {number} {NAMES[number]:<12}and a result; "
                f"it printed {stdout(demos[0])!r}"]
    return []


def check_exercises(path):
    """train.ipynb: at least three check cells tagged `exercise`; unsolved, each prints "not yet";
    text with the answer in <details> follows it before the next one."""
    if path.name != "train.ipynb":
        return []
    book = read(path)
    places = [place for place, cell in enumerate(book["cells"]) if "exercise" in tags(cell)]
    complaints = []
    if len(places) < 3:
        complaints.append(f"{len(places)} check cells are tagged exercise; at least 3")
    for place, end in zip(places, [*places[1:], None]):
        name = f"exercise {source(book['cells'][place]).strip()[:40]!r}"
        if "not yet" not in stdout(book["cells"][place]):
            complaints.append(f"{name}: unsolved, it must print: not yet")
        answers = [cell for cell in book["cells"][place:end]
                   if cell["cell_type"] == "markdown" and "<details>" in source(cell)]
        if not answers:
            complaints.append(f"{name}: no answer in <details> follows")
    return complaints


def check_smoke(path):
    """train.ipynb: metadata "smoke" gives parameters with which the tests run it in seconds."""
    if path.name != "train.ipynb":
        return []
    book = read(path)
    smoke = book["metadata"].get("smoke")
    if not isinstance(smoke, dict):
        return ['the metadata needs "smoke", a dict of parameter values for a run of seconds']
    there = {node.id for cell in cells(book, "parameters")
             for node in ast.walk(parse(source(cell))) if isinstance(node, ast.Name)}
    return [f"smoke: there is no parameter {name}" for name in smoke if name not in there]


# Pages: what readers read, in notebooks and in .md files

def page_text(path):
    """Markdown without code: of a page, or of a notebook's text cells."""
    if path.suffix == ".ipynb":
        text = "\n\n".join(source(cell) for cell in read(path)["cells"]
                           if cell["cell_type"] == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.DOTALL | re.MULTILINE)


def check_links(path):
    """Files that a page links to or shows exist, seen from the page."""
    text = page_text(path)
    targets = re.findall(r"\]\(<?([^)\s>]+)", text)
    targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE)
    targets += re.findall(r"""\b(?:src|href)=["']([^"']+)""", text)
    files = {unquote(target.split("#")[0]) for target in targets
             if not re.match(r"\w[\w+.-]*:", target)} - {""}
    return [f"links to {file}, which is not there" for file in sorted(files)
            if file.startswith("/") or not (path.parent / file).exists()]


# A number from models/N_*/metrics.json: <!--=N:key/key:format-->99.70 %<!--/-->
MARKER = re.compile(r"<!--=(\d):([^:]+?)(?::(.*?))?-->(.*?)<!--/-->", re.DOTALL)


def markers(path):
    """(project, keys, format) of each marked number of a page, sorted."""
    return sorted(match[:3] for match in MARKER.findall(page_text(path)))


def check_numbers(path):
    """Marked numbers equal metrics.json, spaces aside; a readme's percentages are all marked."""
    text, complaints = page_text(path), []
    root = next(parent for parent in path.parents if (parent / "models").is_dir())
    for number, keys, form, shown in MARKER.findall(text):
        try:
            file, = root.glob(f"models/{number}_*/metrics.json")
            value = read(file)
            for key in keys.split("/"):
                value = value[int(key) if isinstance(value, list) else key]
            expected = format(value, form)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            complaints.append(f"marker {number}:{keys}:{form}: {error!r}")
            continue
        if "".join(shown.split()) != "".join(expected.split()):
            complaints.append(f"{number}:{keys} is {expected}, the page says {shown}")
    if len(MARKER.findall(text)) != text.count("<!--="):
        complaints.append("a marker is not of the form <!--=N:key/key:format-->value<!--/-->")
    if re.search(r"^\s*<!--=", text, re.MULTILINE):
        complaints.append("a line begins with a marker: GitHub would not format that line")
    if path.suffix == ".md":
        complaints += [f"{figure} is not marked with its place in metrics.json"
                       for figure in re.findall(r"\d+\.\d+\s?%", MARKER.sub("", text))]
    return complaints


def check_readmes(root):
    """Both front readmes are there and give the same numbers."""
    pages = [root / "readme.md", root / "readme.zh-CN.md"]
    missing = [f"{page.name} is missing" for page in pages if not page.exists()]
    if missing:
        return missing
    english, chinese = map(markers, pages)
    return [f"only one of the two readmes has the marker {':'.join(marker)}"
            for marker in {*english, *chinese} if english.count(marker) != chinese.count(marker)]


# Projects

def check_layout(folder):
    """A project has its readme, two notebooks, weights and figures, and licences of its data."""
    models = folder.parent / "models" / folder.name
    files = [folder / "readme.md", folder / "train.ipynb", folder / "inference.ipynb",
             models / "model.pth", models / "metrics.json"]
    if (folder / "data").is_dir():
        files.append(folder / "data" / "LICENSES.md")
    return [f"{file.relative_to(folder.parent)} is missing" for file in files
            if not file.is_file()]


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_metrics(path):
    """metrics.json is whole, and belongs to the model.pth beside it."""
    metrics = read(path)
    missing = {"data", "parameters", "results", "cost", "studies", "weights_sha256"} - {*metrics}
    if missing:
        return [f"{', '.join(sorted(missing))} missing"]
    complaints = []
    for name, parts in metrics["data"].items():
        if not (isinstance(parts, dict) and parts and all(type(n) is int for n in parts.values())):
            complaints.append(f"data: {name} must give the count of each part")
    for name, result in metrics["results"].items():
        try:
            low, high = result["interval"]
            good = type(result["n"]) is int and low <= result["value"] <= high
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            complaints.append(f"results: {name} needs value, n and interval [low, high] around it")
    for name in ("seconds", "cores", "peak_memory_mib"):
        if not is_number(metrics["cost"].get(name)):
            complaints.append(f"cost: {name} must be a number")
    try:
        date.fromisoformat(metrics["cost"].get("date", ""))
    except ValueError:
        complaints.append("cost: date must be a day as 2026-11-30")
    for name, rows in metrics["studies"].items():
        if not (isinstance(rows, dict) and rows and all(isinstance(row, dict)
                                                       for row in rows.values())):
            complaints.append(f"studies: {name} must be rows by name, each with named values")
    weights = path.parent / "model.pth"
    if metrics["weights_sha256"] != hashlib.sha256(weights.read_bytes()).hexdigest():
        complaints.append("weights_sha256 is not the hash of model.pth: these figures belong to "
                          "other weights")
    return complaints


# The repository

def check_files(root, names):
    """Sizes of the files that git keeps, and nothing among them that must not be kept."""
    complaints, total = [], 0
    for name in names:
        file = root / name
        size = file.stat().st_size
        total += size
        limit = {".gif": 1.5 * MB, ".png": 400 * KB, ".jpg": 400 * KB, ".jpeg": 400 * KB,
                 ".webp": 400 * KB}.get(file.suffix.lower(), 120 * MB)
        if size > limit:
            complaints.append(f"{name}: {size / KB:.0f} kB; at most {limit / KB:.0f} kB")
        if name.startswith("datasets/") and file.suffix not in (".py", ".md"):
            complaints.append(f"{name}: a data set is fetched, not kept")
        if file.suffix in (".pth", ".pt", ".ckpt", ".safetensors") and not name.startswith(
                "models/") or file.name.startswith("my_") or ".checkpoint" in name:
            complaints.append(f"{name}: a checkpoint, or weights outside models/")
    if total > 120 * MB:
        complaints.append(f"{total / MB:.0f} MB in all; at most 120 MB")
    return complaints


FOR_NOTEBOOKS = [check_format, check_tags, check_sizes, check_parameters, check_cell_lengths,
                 check_code, check_figures, check_executed, check_machine_paths, check_reuse,
                 check_demo, check_exercises, check_smoke]
FOR_PAGES = [check_links, check_numbers]    # notebooks are pages too
