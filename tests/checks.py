"""What the collection's files must keep to (design: limits, tags, outputs, numbers).

Each check takes a path and returns its complaints, in words; none means all is well.
"""
import ast
import base64
import hashlib
import json
import re
import statistics
import subprocess
import sys
from datetime import date
from urllib.parse import unquote

import nbformat

from notebooks import (ROOT, cells, code_cells, exercises, kind, language, read, reuse_module,
                       source, stdout, tags)
from start import MODELS_LINE, NAMES, reuse_source

KB, MB = 1000, 1000 ** 2
TAGS = {"parameters", "reuse", "demo", "study", "exercise"}

# What is known and waits: issue that mends it -> check -> file ("": the whole repository) ->
# beginnings of complaints, up to their colon. An entry without a complaint fails: strike it out.
WAITING = ROOT / "tests" / "waiting.json"


def unexpected(complaints, waiting):
    """The complaints that `waiting` does not hold, and a complaint about each entry of it that
    is mended."""
    begins = {entry: [c for c in complaints if c == entry or c.startswith(entry + ": ")]
              for entry in waiting}
    known = {complaint for found in begins.values() for complaint in found}
    return [c for c in complaints if c not in known] + [
        f"{entry}: mended; strike it out of tests/waiting.json"
        for entry, found in begins.items() if not found]


def waiting_for(check, file):
    """The entries of WAITING for one check and one file."""
    return [entry for issue in read(WAITING).values()
            for entry in issue.get(check.__name__, {}).get(file, [])]


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
    return [] if kind(path) else ["a notebook's name begins with train or inference"]


def check_tags(path):
    """Only known tags, on code cells (same:NAME on any), each in the notebook that it is for."""
    complaints = []
    elsewhere = {"reuse", "demo"} if kind(path) == "train" else {"exercise"}
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


def label(path):
    return f"{path.parent.name}/{path.name}"


class Blank(ast.NodeTransformer):
    """Takes the texts out of a syntax tree: constants, docstrings, the literal parts of
    f-strings, but not their formats."""

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        values = [value for value in node.values if isinstance(value, ast.FormattedValue)]
        for value in values:
            value.value = self.visit(value.value)
        return ast.JoinedStr(values)


def blank(code):
    """What code does, whatever its comments and texts say; two cells can be compared by it."""
    try:
        return ast.dump(Blank().visit(ast.parse(code)))
    except SyntaxError:
        return code


def same_tags(cell):
    return {tag for tag in tags(cell) if tag.startswith("same:")}


def check_same(paths):
    """Cells of one same:NAME are equal byte for byte in all notebooks of one language (those of
    two languages: texts and comments aside) and stand in two notebooks or more. Code cells
    without a tag are not equal, and a function's name has one meaning."""
    complaints, first = [], {}    # (tag, language) -> the first such cell, and where it is
    for path in sorted(paths, key=lambda path: language(path) != ""):    # originals first
        for cell in read(path)["cells"]:
            for tag in same_tags(cell):
                text, where = first.setdefault((tag, language(path)), (source(cell), path))
                model, origin = first.get((tag, ""), (text, where))
                if source(cell) != text:
                    complaints.append(f"{tag}: in {label(path)} differs from {label(where)}")
                elif cell["cell_type"] == "code" and blank(text) != blank(model):
                    complaints.append(f"{tag}: in {label(path)} differs from {label(origin)}, "
                                      "texts and comments aside")
    originals = [path for path in paths if not language(path)]
    return [*complaints, *lonely_tags(originals), *equal_cells(originals), *homonyms(originals)]


def lonely_tags(paths):
    where = {}
    for path in paths:
        for tag in {tag for cell in read(path)["cells"] for tag in same_tags(cell)}:
            where.setdefault(tag, []).append(path)
    for tag, found in sorted(where.items()):
        if len(found) == 1:
            yield f"{tag}: stands in {label(found[0])} alone"


def equal_cells(paths):
    """Definitions and cells of three lines and more that stand in two notebooks, untagged."""
    where = {}    # source -> (path, same: tags) of each such cell
    for path in paths:
        for cell in code_cells(read(path)):
            text = source(cell)
            if (sum(bool(line.strip()) for line in text.split("\n")) >= 3
                    or re.search(r"^(def|class) ", text, re.MULTILINE)):
                where.setdefault(text, []).append((path, same_tags(cell)))
    for text, found in where.items():
        files = sorted({label(path) for path, _ in found})
        if len(files) > 1 and not set.intersection(*(names for _, names in found)):
            yield f"cell {text.strip().splitlines()[0]!r}: equal, without a same: tag, in " + (
                " and ".join(files))


def homonyms(paths):
    """Functions and classes of one name that differ between notebooks."""
    meanings = {}    # name -> what it is -> the notebooks
    for path in paths:
        for statement in (s for cell in code_cells(read(path)) for s in parse(source(cell)).body):
            if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) and statement.name != "main":
                meaning = meanings.setdefault(statement.name, {})
                meaning.setdefault(ast.dump(statement), set()).add(label(path))
    for name, meaning in sorted(meanings.items()):
        files = sorted(set.union(*meaning.values()))
        if len(meaning) > 1 and len(files) > 1:
            yield f"name {name}: has {len(meaning)} meanings in {' and '.join(files)}"


def check_translation(original, translation):
    """A translated notebook has the original's cells: their number, order, kinds, ids and tags,
    and the same code, texts and comments aside. So it need not be executed."""
    one, other = read(original)["cells"], read(translation)["cells"]
    if len(one) != len(other):
        return [f"{len(other)} cells; {original.name} has {len(one)}"]
    complaints = []
    for number, (a, b) in enumerate(zip(one, other), 1):
        for what, get in (("type", lambda cell: cell["cell_type"]), ("tags", tags),
                          ("id", lambda cell: cell.get("id"))):
            if get(a) != get(b):
                complaints.append(f"cell {number}: its {what} is {get(b)}, in {original.name} "
                                  f"{get(a)}")
        if a["cell_type"] == b["cell_type"] == "code" and blank(source(a)) != blank(source(b)):
            complaints.append(f"cell {number}: other code than in {original.name}")
    return complaints


def check_sizes(path):
    """A stored picture is at most 150 kB (a GIF 1.5 MB), a notebook 3 MB."""
    complaints = []
    if path.stat().st_size > 3 * MB:
        complaints.append(f"{path.stat().st_size / MB:.1f} MB; at most 3 MB")
    for cell in read(path)["cells"]:
        bundles = [output.get("data", {}) for output in cell.get("outputs", [])]
        bundles += cell.get("attachments", {}).values()
        for form, data in ((form, data) for bundle in bundles for form, data in bundle.items()):
            if form in ("image/png", "image/jpeg", "image/gif"):
                size = len(base64.b64decode("".join(data)))
                limit = 1.5 * MB if form == "image/gif" else 150 * KB
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
    if len(places) != 1 or places[0] > 4:
        return ["one cell must be tagged parameters, among the first five code cells; "
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
    """Plain Python that any kernel runs, without hidden warnings, workers or pickles. The rest is
    ruff's: see check_ruff."""
    complaints = []
    for name, cell in named(read(path)):
        try:
            tree = ast.parse(source(cell))
        except SyntaxError as error:
            complaints.append(f"{name}: no plain Python (a % or ! line?): {error.text}")
            continue
        for call in calls(tree):
            complaints += [f"{name}: {text}" for text in call_complaints(call)]
    return complaints


def call_complaints(call):
    function, given = ast.unparse(call.func), keywords(call)
    if function.split(".")[-1] in ("filterwarnings", "simplefilter"):
        yield f"{function} hides warnings; remove their cause"
    if ast.unparse(given.get("num_workers", ast.Constant(0))) != "0":
        yield "num_workers hangs in notebooks on Windows; keep the data in tensors"
    if function == "torch.load":
        if "map_location" not in given:
            yield "torch.load without map_location"
        if ast.unparse(given.get("weights_only", ast.Constant(None))) != "True":
            yield "torch.load without weights_only=True"


def ruff(*arguments, **more):
    """What ruff complains about, a line each, by the settings of pyproject.toml."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--quiet", "--output-format",
               "concise", "--config", str(ROOT / "pyproject.toml"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", **more)
    if done.stderr:
        raise RuntimeError(done.stderr)    # it did not run
    return done.stdout.splitlines()


def check_ruff(root):
    """All Python of a folder, notebooks too: names, imports, encodings, line lengths."""
    return ruff(root, cwd=root)


# Notebooks: stored outputs

def texts(cell):
    """All text that a code cell's outputs hold."""
    for output in cell["outputs"]:
        yield "".join(output.get("text", ""))
        for form, data in output.get("data", {}).items():
            if form.startswith("text/"):
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
    """No stored output or metadata tells where, or when, the notebook was executed."""
    book = read(path)
    places = [("metadata", [json.dumps(book["metadata"])])]
    places += [(f"metadata of {name}", [json.dumps(cell["metadata"])])
               for name, cell in named(book)]
    places += [(name, texts(cell)) for name, cell in named(book)]
    machine = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|opt|mnt)/|[A-Z]:\\+Users")
    complaints = [f"{name}: names a path of a machine: {found[0]}" for name, all_text in places
                  for text in all_text if (found := machine.search(text))]
    timed = sum("execution" in cell["metadata"] for cell in book["cells"])
    if timed:
        complaints.append(f"times of execution: in the metadata of {timed} cells; strip them")
    return complaints


# Notebooks: the parts that readers use

def check_reuse(path):
    """inference: the `reuse` cells, in order, are a module with MODELS and main()."""
    if kind(path) != "inference":
        return []
    complaints = []
    for name, cell in named(read(path)):
        if "reuse" in tags(cell) and source(cell).split("\n")[0].strip() != "# reuse":
            complaints.append(f"{name}: tagged reuse, so its first line must be # reuse")
        for statement in parse(source(cell)).body if "reuse" in tags(cell) else []:
            constant = isinstance(statement, ast.Assign) and all(
                isinstance(target, ast.Name) and target.id.isupper()
                for target in statement.targets)
            definition = isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef,
                                                ast.ClassDef))
            if not (constant or definition):
                complaints.append(f"{name}: tagged reuse, but not an import, an upper-case "
                                  f"constant, a function or a class: {ast.unparse(statement)[:60]}")
    if any("not an import" in complaint for complaint in complaints):
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
    imported = {name for node in ast.walk(ast.parse(text)) for name in (
        [node.module] if isinstance(node, ast.ImportFrom) else
        [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])}
    if imported & {"download", "records"}:
        complaints.append("the reuse cells import download or records, which a copy lacks")
    if not hasattr(module, "main"):
        complaints.append("the reuse cells define no main(), the command line of the export")
    return complaints + [f"the reuse cells alone: {line}" for line in ruff(
        "--select", "F821", "--stdin-filename", "reuse.py", "-", input=text)]


def check_demo(path):
    """inference: one `demo` cell, whose output is the project's line, as 1 digits ..."""
    if kind(path) != "inference":
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
    """train: at least three check cells tagged `exercise`; unsolved, each prints "not yet";
    text with the answer in <details> follows it before the next one."""
    if kind(path) != "train":
        return []
    book = read(path)
    places = [exercise.place for exercise in exercises(book)]
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
    """train: metadata "smoke" gives parameters with which the tests run it in seconds; they
    train, and measure the studies."""
    if kind(path) != "train":
        return []
    book = read(path)
    smoke = book["metadata"].get("smoke")
    if not isinstance(smoke, dict):
        return ['the metadata needs "smoke", a dict of parameter values for a run of seconds']
    there = {node.id for cell in cells(book, "parameters")
             for node in ast.walk(parse(source(cell))) if isinstance(node, ast.Name)}
    complaints = [f"smoke: there is no parameter {name}" for name in smoke if name not in there]
    return complaints + [f"smoke: {name} must be true, so that the tests run what it guards"
                         for name in ("train_again", "run_studies")
                         if name in there and smoke.get(name) is not True]


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


# A figure: 97.24, 97.24 %, 5 %, 12,500 or 640, not a part of a word or of a version
FIGURE = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?:\s?%)?(?!\w|[.,]\d)")
# ... and what is none: a year, an arXiv number, a 95 % interval, a section or a version
NO_FIGURE = re.compile(r"(?:19|20)\d\d|\d{4}\.\d{4,5}")
INTERVAL = re.compile(r"95\s?%(?=\s*(?:t-)?interval|\s*置信区间)")
NAMED = re.compile(r"(?:^#+|\b(?:[Ss]ections?|[Cc]hapters?|Python|torch|PyTorch|version))\s*$")


def bare(figure):
    return re.sub(r"[\s,_%]", "", figure)


def figures(path):
    """(figure, its surroundings) in a page's prose: decimals, percentages, numbers of three
    digits and more. Not what is marked, code, a formula, an address, or no result by its form."""
    text = INTERVAL.sub(" ", MARKER.sub(" ", page_text(path)))
    text = re.sub(r"\$\$.+?\$\$|\$[^$\n]+\$|<[^<>\n]*>|\]\([^)]*\)|^\[[^\]]+\]:.*$", " ", text,
                  flags=re.DOTALL | re.MULTILINE)
    for found in FIGURE.finditer(text):
        figure = found[0]
        before = text[:found.start()].rsplit("\n", 1)[-1]
        if ((re.search(r"[.,%]", figure) or len(figure) > 2) and not NO_FIGURE.fullmatch(figure)
                and not NAMED.search(before)):
            after = text[found.end():].split("\n")[0]
            yield figure, f"{before[-40:]}{figure}{after[:40]}"


def known_figures(path):
    """The figures that a notebook's outputs and code hold, bare, percentages with their sign."""
    book, known = read(path), set()
    for _, cell in named(book):
        strings = list(texts(cell))
        for node in ast.walk(parse(source(cell))):
            value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(value, str):
                strings.append(value)
            elif is_number(value):
                known |= {format(value, ".12g"), f"{100 * value:.12g}%"}
        for text in strings:
            for number, sign in re.findall(r"(\d+(?:,\d{3})*(?:\.\d+)?)(\s?%)?", text):
                known |= {bare(number), bare(number) + "%"} if sign or "." in number else {
                    bare(number)}
    return known


def check_numbers(path):
    """Marked numbers equal metrics.json, spaces aside. A page's percentages and the decimals of a
    project's readme are marked; a figure in a notebook's text is marked, or stands in an output
    or in the code of that notebook."""
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
    if path.suffix == ".ipynb":
        known = known_figures(path)
        return complaints + [
            f"{figure}: in no output, not in the code, not marked: … {around} …"
            for figure, around in figures(path)
            if bare(figure) + "%" * figure.endswith("%") not in known]
    readme = path.name.startswith("readme") and re.match(r"[1-6]_", path.parent.name)
    return complaints + [f"{figure}: not marked with its place in metrics.json: … {around} …"
                         for figure, around in figures(path)
                         if "." in figure and (readme or "%" in figure)]


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


def is_row(row):
    """A study's row, as models/records.py writes it: settings, seeds, and the values of each
    measure, a number for each seed."""
    try:
        settings, seeds, values = row["settings"], row["seeds"], row["values"]
        return isinstance(settings, dict) and bool(seeds and values) and all(
            len(numbers) == len(seeds) and all(map(is_number, numbers))
            for numbers in values.values())
    except (AttributeError, KeyError, TypeError):
        return False


def check_metrics(path):
    """metrics.json is whole, and belongs to the model.pth beside it."""
    metrics = read(path)
    missing = {"data", "parameters", "results", "cost", "studies", "weights_sha256"} - {*metrics}
    if missing:
        return [f"{', '.join(sorted(missing))} missing"]
    complaints = [] if metrics.get("history") else ["history: missing or empty"]
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
        if not (isinstance(rows, dict) and rows and all(map(is_row, rows.values()))):
            complaints.append(f"study {name}: must be rows by name, each with settings, seeds and "
                              "values: measure -> a number for each seed")
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
                 check_code, check_executed, check_machine_paths, check_reuse,
                 check_demo, check_exercises, check_smoke]
FOR_PAGES = [check_links, check_numbers]    # notebooks are pages too
