"""models/records.py: what trainings keep."""
import errno
import json
import math
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import records
from records import Checkpoint

SETTINGS = {"width": 3, "phases": ((8, 1), (16, 2))}


def objects(width=3):
    torch.manual_seed(width)
    network = nn.Linear(4, width)
    return {"network": network, "optimizer": torch.optim.AdamW(network.parameters(), 0.1)}


def trained(made, steps=3):
    for _ in range(steps):
        made["optimizer"].zero_grad()
        made["network"](torch.rand(5, 4)).square().sum().backward()
        made["optimizer"].step()
    return made["network"].weight.detach().clone()


def saved(folder, settings=SETTINGS):
    """A checkpoint in its folder; (Checkpoint, weights three steps later)."""
    made = objects()
    checkpoint = Checkpoint(folder, settings, made)
    trained(made)
    checkpoint.save({"epoch": 1, "history": [{"loss": 0.5}]})
    return checkpoint, trained(made)


# Checkpoints

def test_a_training_goes_on_bit_for_bit(tmp_path, capsys):
    _, wanted = saved(tmp_path)
    made = objects()
    checkpoint = Checkpoint(tmp_path, {**SETTINGS, "phases": [[8, 1], [16, 2]]}, made)
    torch.manual_seed(99)
    assert checkpoint.load() == {"epoch": 1, "history": [{"loss": 0.5}]}
    assert torch.equal(trained(made), wanted)
    assert "will write" in (said := capsys.readouterr().out) and "goes on from" in said
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.path.name]


def test_other_settings_have_another_file(tmp_path):
    first, _ = saved(tmp_path)
    before = first.path.read_bytes()
    other, _ = saved(tmp_path, {**SETTINGS, "width": 4, "phases": [[8, 2]]})
    assert other.path != first.path and first.path.read_bytes() == before
    assert Checkpoint(tmp_path, {**SETTINGS, "seed": 1}, objects()).load() is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_bit(path):
    """In the bytes of a tensor: torch.load reads such a file without a word."""
    with zipfile.ZipFile(path) as file:
        info = max((one for one in file.infolist() if "/data/" in one.filename),
                   key=lambda one: one.file_size)
        name, data = info.filename, file.read(info)
    content = bytearray(path.read_bytes())
    place = content.find(data, content.find(name.encode()))
    content[place + len(data) // 2] ^= 1
    path.write_bytes(content)


def changed(**values):
    def change(path):
        torch.save(torch.load(path, weights_only=True) | values, path)
    return change


def other_network(path):
    content = torch.load(path, weights_only=True)
    content["objects"]["network"] = nn.Linear(4, 5).state_dict()
    torch.save(content, path)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no checkpoint", encoding="utf-8"),
    "cut": cut,
    "a flipped bit": flip_a_bit,
    "another zip": lambda path: zipfile.ZipFile(path, "w").writestr("a/b.txt", "c"),
    "weights alone": lambda path: torch.save(nn.Linear(4, 3).state_dict(), path),
    "a list": lambda path: torch.save([1, 2], path),
    "a pickled class": lambda path: torch.save(nn.Linear(4, 3), path),
    "no progress": changed(progress=None),
    "empty progress": changed(progress={}),
    "other settings": changed(settings={}),
    "no random states": changed(random={}),
    "short random state": changed(random={"cpu": torch.zeros(3, dtype=torch.uint8)}),
    "no objects": changed(objects={}),
    "another network": other_network,
    "float random states": changed(random={"cpu": torch.rand(5056)}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_put_aside_and_not_used(name, tmp_path, capsys):
    checkpoint, _ = saved(tmp_path)
    DAMAGE[name](checkpoint.path)
    made = objects()
    before, random = made["network"].weight.clone(), torch.get_rng_state()
    assert Checkpoint(tmp_path, SETTINGS, made).load() is None
    assert torch.equal(made["network"].weight, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert not checkpoint.path.exists()
    assert checkpoint.path.with_name(checkpoint.path.name + ".broken").exists()
    assert f"{checkpoint.path.name}.broken" in capsys.readouterr().out


def test_no_flipped_bit_ends_in_a_traceback(tmp_path, capsys):
    checkpoint, _ = saved(tmp_path)
    good, places = checkpoint.path.read_bytes(), np.random.default_rng(0)
    wanted = torch.load(checkpoint.path, weights_only=True)["objects"]["network"]
    for _ in range(150):
        content = bytearray(good)
        content[places.integers(len(good))] ^= 1 << places.integers(8)
        checkpoint.path.write_bytes(content)
        made = objects()
        if Checkpoint(tmp_path, SETTINGS, made).load():    # a bit that nothing reads
            assert all(torch.equal(wanted[name], value)
                       for name, value in made["network"].state_dict().items())


def test_what_cannot_be_loaded_is_said_at_the_first_save(tmp_path):
    with pytest.raises(pickle.UnpicklingError):
        Checkpoint(tmp_path, SETTINGS, objects()).save({"loss": np.float64(1.5)})


def test_objects_of_other_code_stop_the_training(tmp_path, capsys):
    checkpoint, _ = saved(tmp_path)
    made = objects()
    made["optimizer"].add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
    with pytest.raises(RuntimeError, match="Run this cell again"):
        Checkpoint(tmp_path, SETTINGS, made).load()
    assert Checkpoint(tmp_path, SETTINGS, objects()).load() is None
    assert checkpoint.path.with_name(checkpoint.path.name + ".broken").exists()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("no memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_an_error_that_is_not_the_files_leaves_it(error, tmp_path, monkeypatch):
    checkpoint, wanted = saved(tmp_path)

    def fails(*arguments, **more):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fails)
        with pytest.raises(type(error)):
            Checkpoint(tmp_path, SETTINGS, objects()).load()
    made = objects()
    assert Checkpoint(tmp_path, SETTINGS, made).load()
    assert torch.equal(trained(made), wanted)


def test_a_folder_that_cannot_be_written_is_said_first(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="can't be written"):
        Checkpoint(tmp_path / "file", SETTINGS, objects())


def full(file):
    file.write(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_the_last_checkpoint_and_goes_on(tmp_path, monkeypatch, capsys):
    checkpoint, wanted = saved(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda content, file: full(file))
        checkpoint.save({"epoch": 2})
    assert "is the disk full" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.path.name]
    made = objects()
    assert Checkpoint(tmp_path, SETTINGS, made).load()["epoch"] == 1
    assert torch.equal(trained(made), wanted)


# Weights and figures

def test_weights_are_written_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    path, network = tmp_path / "model.pth", nn.Linear(4, 3)
    digest = records.save_weights(network, tmp_path, "model.pth")
    assert 'weights_file = "model.pth"' in capsys.readouterr().out
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", lambda content, file: full(file))
    with pytest.raises(OSError, match="disk full"):
        records.save_weights(nn.Linear(9, 9), tmp_path, "model.pth")
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
    state = torch.load(path, weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert len(digest) == 64


@pytest.mark.parametrize("name", ["./model.pth", "../model.pth", "model", "metrics.json"])
def test_weights_files_have_bare_names(name, tmp_path):
    with pytest.raises(ValueError, match="my_model.pth"):
        records.save_weights(nn.Linear(2, 2), tmp_path, name)
    assert not [*tmp_path.iterdir()]


def test_equal_weights_are_equal_files(tmp_path):
    """Whatever the file's name and the process: a hash then says which weights they are."""
    network = nn.Linear(4, 3)
    first, second = (records.save_weights(network, tmp_path, name)
                     for name in ("model.pth", "my_model.pth"))
    assert first == second


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    network = nn.Linear(2, 2)
    network.bias.data[0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        records.save_weights(network, tmp_path, "model.pth")
    assert not [*tmp_path.iterdir()]


def test_shipped_weights_come_with_their_own_figures(tmp_path, capsys):
    network = nn.Linear(4, 3)
    digest = records.save_weights(network, tmp_path, "model.pth")
    records.save_figures(tmp_path, {"parameters": {"width": 3}, "history": [{"loss": 0.5}],
                                    "weights_sha256": digest}, "model.pth")
    loaded, figures = records.load_shipped(tmp_path, lambda recorded: nn.Linear(
        4, recorded["width"]), {"width": 5})
    assert torch.equal(loaded.weight, network.weight) and figures["history"] == [{"loss": 0.5}]
    assert "width = 3" in capsys.readouterr().out
    records.save_weights(nn.Linear(4, 3), tmp_path, "model.pth")
    with pytest.raises(ValueError, match="different trainings"):
        records.load_shipped(tmp_path, lambda recorded: nn.Linear(4, 3), {"width": 3})


def test_a_damaged_file_of_figures_is_put_aside(tmp_path, capsys):
    (tmp_path / "my_metrics.json").write_text('{"results": {', encoding="utf-8")
    records.save_figures(tmp_path, {"results": {"test": 2}})
    assert records.load_figures(tmp_path, "my_metrics.json") == {"results": {"test": 2}}
    assert (tmp_path / "my_metrics.json.broken").exists()


def test_own_figures_leave_the_published_ones_alone(tmp_path):
    records.save_figures(tmp_path, {"results": {"test": 1}, "studies": {"a": {}}}, "model.pth")
    published = (tmp_path / "metrics.json").read_bytes()
    records.save_figures(tmp_path, {"results": {"test": 2}})
    assert (tmp_path / "metrics.json").read_bytes() == published
    assert records.load_figures(tmp_path, "my_metrics.json") == {"results": {"test": 2}}
    records.save_figures(tmp_path, {"results": {"test": 3}}, "model.pth")
    assert records.load_figures(tmp_path) == {"results": {"test": 3}, "studies": {"a": {}}}


def test_changed_settings_are_said(capsys):
    records.say_changes({"width": 32, "phases": [[64, 2]]}, {"width": 32, "phases": ((64, 2),)})
    assert capsys.readouterr().out == ""
    records.say_changes({"width": 32, "seed": 0}, {"width": 16, "seed": 0})
    assert "width = 32" in (said := capsys.readouterr().out) and "seed" not in said


def test_cost_and_memory():
    before = records.peak_memory()
    block = np.ones(50 * 2**20, np.uint8)
    assert 0 < before < records.peak_memory() + 1 and records.peak_memory() >= 50
    assert {*records.cost(1.6, device="cpu")} == {"seconds", "cores", "device", "peak_memory_mib",
                                                  "date"}
    del block


# Intervals

@pytest.mark.parametrize("right, n, low, high", [   # Newcombe 1998, table I, method 3
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611),
    (1, 29, 0.0061, 0.1718)])
def test_wilson(right, n, low, high):
    assert records.wilson(right, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("n, t", [(2, 12.706), (3, 4.303), (10, 2.262), (11, 2.228), (16, 2.131),
                                  (31, 2.042), (1001, 1.962)])
def test_mean_interval_uses_students_t(n, t):
    values = np.random.default_rng(n).normal(5, 2, n)
    mean, low, high = records.mean_interval(values)
    half = t * values.std(ddof=1) / math.sqrt(n)
    assert (mean, low, high) == pytest.approx((values.mean(), mean - half, mean + half), rel=1e-3)


def test_one_value_has_no_interval():
    mean, low, high = records.mean_interval([3.0])
    assert mean == 3 and math.isnan(low) and math.isnan(high)


# Studies

class Measure:
    """Counts what is measured; the figure tells rate and seed."""

    def __init__(self):
        self.calls = []

    def __call__(self, seed, rate):
        self.calls.append((rate, seed))
        return {"accuracy": rate + seed / 100, "seconds": 1}


def test_a_study_measures_what_is_missing_and_says_what_is_what(tmp_path, capsys):
    measure = Measure()
    rows = {"as it is": {"rate": 1.0}, "half": {"rate": 0.5}}
    assert records.study(tmp_path, "knobs", rows, measure, (0, 1)) == {} and not measure.calls
    assert "Not measured" in capsys.readouterr().out
    found = records.study(tmp_path, "knobs", rows, measure, (0, 1), run=True)
    assert found["half"]["values"]["accuracy"] == [0.5, 0.51]
    assert found["half"]["settings"] == {"rate": 0.5} and found["half"]["seeds"] == [0, 1]
    assert "Measured now: all rows." in capsys.readouterr().out
    assert not (tmp_path / "metrics.json").exists()
    measure.calls.clear()
    rows["double"] = {"rate": 2.0}
    records.study(tmp_path, "knobs", rows, measure, (0, 1, 2), run=True)
    assert measure.calls == [(1.0, 2), (0.5, 2), (2.0, 0), (2.0, 1), (2.0, 2)]
    capsys.readouterr()
    records.study(tmp_path, "knobs", rows, measure, (0, 1, 2), run=True)
    assert "As recorded" in (said := capsys.readouterr().out)
    assert "all rows" in said and "now" not in said


def test_figures_of_other_settings_are_not_shown(tmp_path, capsys):
    records.study(tmp_path, "knobs", {"as it is": {"rate": 1.0}}, Measure(), run=True,
                  weights_file="model.pth")
    published = (tmp_path / "metrics.json").read_bytes()
    assert records.study(tmp_path, "knobs", {"as it is": {"rate": 3.0}}, Measure()) == {}
    assert "Not measured" in capsys.readouterr().out
    mine = records.study(tmp_path, "knobs", {"as it is": {"rate": 3.0}}, Measure(), run=True)
    assert mine["as it is"]["values"]["accuracy"] == [3.0]
    both = [records.study(tmp_path, "knobs", {"as it is": {"rate": rate}}, Measure())
            for rate in (1.0, 3.0)]
    assert [rows["as it is"]["values"]["accuracy"] for rows in both] == [[1.0], [3.0]]
    assert (tmp_path / "metrics.json").read_bytes() == published


def test_an_interrupted_study_keeps_each_figure(tmp_path):
    measure = Measure()

    def breaks(seed, rate):
        if (rate, seed) == (0.5, 1):
            raise KeyboardInterrupt
        return measure(seed, rate)

    rows = {"as it is": {"rate": 1.0}, "half": {"rate": 0.5}}
    with pytest.raises(KeyboardInterrupt):
        records.study(tmp_path, "knobs", rows, breaks, (0, 1), run=True)
    measure.calls.clear()
    records.study(tmp_path, "knobs", rows, measure, (0, 1), run=True)
    assert measure.calls == [(0.5, 1)]


def test_a_setting_that_measure_does_not_know_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="typo"):
        records.study(tmp_path, "knobs", {"a": {"rate": 1.0, "typo": 2}}, Measure(), run=True)


def test_figures_of_two_machines_are_not_mixed(tmp_path, capsys):
    """A recorded row that lacks a seed stays as it is; yours is measured whole."""
    def slow(seed, rate):
        return {"accuracy": 9.0, "seconds": 100}

    row = {"as it is": {"rate": 1.0}}
    records.study(tmp_path, "time", row, slow, (0, 1), run=True, weights_file="model.pth")
    mine = records.study(tmp_path, "time", row, Measure(), (0, 1, 2), run=True)["as it is"]
    assert mine["values"]["seconds"] == [1, 1, 1] and mine["seeds"] == [0, 1, 2]
    other = records.study(tmp_path, "time", row, Measure(), (5,), run=True)["as it is"]
    assert other["values"] == {"accuracy": [1.05], "seconds": [1.0]}
    one = records.study(tmp_path, "time", row, Measure(), (1,))["as it is"]
    assert one["values"]["accuracy"] == [1.01] and one["seeds"] == [1]
    assert records.load_figures(tmp_path)["studies"]["time"]["as it is"]["seeds"] == [0, 1]


TWO = """
import sys
sys.path.insert(0, sys.argv[1])
import pathlib, records
rows = {f"row {n}": {"rate": n} for n in range(15)}
records.study(pathlib.Path(sys.argv[2]), sys.argv[3], rows, lambda seed, rate: {"a": rate},
              run=True)
"""


def test_two_studies_at_a_time(tmp_path):
    models = str(Path(records.__file__).parent)
    two = [subprocess.Popen([sys.executable, "-c", TWO, models, str(tmp_path), name])
           for name in ("first", "second")]
    assert [one.wait() for one in two] == [0, 0]
    studies = records.load_figures(tmp_path, "my_metrics.json")["studies"]
    assert [len(studies[name]) for name in ("first", "second")] == [15, 15]


ROWS = {"as it is": {"settings": {}, "seeds": [0, 1, 2], "values": {"accuracy": [0.5, 0.6, 0.7]}},
        "better": {"settings": {}, "seeds": [2, 1, 0], "values": {"accuracy": [0.73, 0.62, 0.51]}},
        "once": {"settings": {}, "seeds": [1], "values": {"accuracy": [0.5]}}}


def test_differences_are_paired_by_seed():
    gains = records.differences(ROWS, "accuracy", "as it is", 100)
    mean, low, high, each = gains["better"]
    assert sorted(each) == pytest.approx([1, 2, 3]) and mean == pytest.approx(2)
    assert (low, high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert gains["once"][3] == pytest.approx([-10])


def test_dot_plot_and_tables(capsys):
    records.plot_differences(ROWS, "accuracy", "as it is", "Better gains two points", "points",
                             100)
    axis, = plt.gcf().axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["better", "once"]
    assert axis.get_title() == "Better gains two points"
    means = [line.get_xdata()[0] for line in axis.lines if line.get_color() == "#0072B2"
             and line.get_marker() == "o"]
    assert np.ravel(means) == pytest.approx([2, -10])
    plt.close()
    records.plot_differences({"once": ROWS["once"]}, "accuracy", "as it is", "", "")
    assert not plt.get_fignums() and "as it is" in capsys.readouterr().out
    records.show_study(ROWS, {"validation": ("accuracy", ".1%")})
    assert "Markdown" in capsys.readouterr().out


def test_settings_are_plain():
    assert records.plain({"b": (1, 2), "a": 0.5}) == json.loads('{"a": 0.5, "b": [1, 2]}')
