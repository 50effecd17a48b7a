"""Every command of the parser keeps the same rules: options, help, exit statuses, JSON alone."""

import argparse
import errno
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from metal_jax.cli import main
from metal_jax.cli._common import json_text, write_csv
from metal_jax.cli._completion import parsers
from metal_jax.cli._main import parser
from metal_jax.task_tree import TaskTree, write_json

WHOLE = parser()
COMMANDS = {
    one.prog.removeprefix("metal-jax "): one for one in parsers(WHOLE) if one.get_default("run")
}
RANDOM = {
    "analyze",
    "label",
    "train",
    "exhaust fit",
    "report votes",
    "reproduce metal",
    "reproduce exhaust",
}
"""Commands that draw random numbers."""

# Enough arguments to get to a file that is not there.
MISSING = {
    "apply": "nothing.py texts.jsonl --tree tree.json --out v.npz",
    "analyze": "nothing.csv",
    "label": "nothing.npz --out p.npz",
    "train": "--votes votes.npz --features nothing.jsonl --out model",
    "predict": "nothing texts.jsonl --out p.csv",
    "evaluate": "nothing texts.jsonl --gold gold.npz",
    "export": "nothing --out f.bin",
    "exhaust import": "nothing --out runs.jsonl",
    "exhaust fit": "nothing.jsonl --out predictor",
    "exhaust predict": "nothing runs.jsonl --out p.csv",
    "exhaust search": "nothing runs.jsonl",
    "report votes": "nothing.csv --out r.html",
    "report network": "nothing --out r.html",
    "report exhaust": "nothing.jsonl --out r.html",
    "reproduce": None,
    "reproduce metal": "--data nothing",
    "reproduce exhaust": "--data nothing",
    "completion": None,
}

# In an order in which each finds what it reads; those that take seconds are slow.
WORK = {
    "apply": "lfs.py texts.jsonl --tree tree.json --out applied.npz",
    "label": "votes.npz --method majority --out probs.npz",
    "exhaust import": "logs --out runs.jsonl",
    "report exhaust": "runs.jsonl --out exhaust.html",
    "analyze": "votes.npz",
    "report votes": "votes.npz --method dawid_skene --out votes.html",
    "train": "--labels probs.npz --features texts.jsonl --out model --steps 20 "
    "--evaluate-every 10 --widths 8",
    "predict": "model texts.jsonl --out labels.csv",
    "evaluate": "model texts.jsonl --gold gold.npz",
    "export": "model --out model.bin --platforms cpu",
    "report network": "model texts.jsonl --gold gold.npz --out network.html",
    "exhaust fit": "runs.jsonl --members 2 --steps 20 --out predictor",
    "exhaust predict": "predictor runs.jsonl --out preds.csv",
    "exhaust search": "predictor runs.jsonl",
}
QUICK = ("apply", "label", "exhaust import", "report exhaust")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("consistency")
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=60)
    votes = np.where(rng.random((60, 4)) < 0.8, truth[:, None], 1 - truth[:, None])
    votes[rng.random(votes.shape) < 0.3] = -1
    np.savez(path / "votes.npz", L=votes)
    np.savez(path / "gold.npz", Y=truth)
    write_json(TaskTree.single(["sport", "trade"], name="topic"), path / "tree.json")
    texts = [json.dumps({"text": f"{('goal', 'price')[t]} {i}"}) for i, t in enumerate(truth)]
    (path / "texts.jsonl").write_text("\n".join(texts) + "\n")
    (path / "lfs.py").write_text(
        "from metal_jax.labeling import keyword_lf\n"
        'lfs = [keyword_lf("goal", "topic", "sport", ["goal"])]\n'
    )
    (path / "logs").mkdir()
    for i in range(12):
        rows = [f"{e},{0.5 + 0.01 * i + 0.01 * e}" for e in range(3)]
        text = "\n".join(["epoch,val_accuracy", *rows])
        (path / "logs" / f"run{i}.csv").write_text(text + "\n")
    return path


@pytest.fixture
def folder(data, monkeypatch):
    monkeypatch.chdir(data)
    return data


def options_of(command):
    """Option name -> action."""
    return {
        name: action
        for action in COMMANDS[command]._actions
        for name in action.option_strings
        if name.startswith("--")
    }


def test_the_tables_name_every_command():
    assert set(MISSING) == set(COMMANDS)
    assert set(WORK) == set(COMMANDS) - {"completion"} - {c for c in COMMANDS if "reprod" in c}


@pytest.mark.parametrize("command", COMMANDS)
def test_options(command):
    options = options_of(command)
    assert COMMANDS[command].description.endswith(".")
    assert "Example" in (COMMANDS[command].epilog or "")
    assert "--debug" in options
    assert command == "completion" or {"--json", "--quiet"} <= set(options)
    assert ("--seed" in options) == (command in RANDOM)
    for action in COMMANDS[command]._actions:
        assert action.help, action
        assert action.help == argparse.SUPPRESS or not action.help.endswith("."), action.help
        if action.option_strings:
            assert all(n.islower() and "_" not in n for n in action.option_strings)
            if action.nargs != 0 and action.choices is None and not action.required:
                assert action.metavar or action.default is not None, action
    text = COMMANDS[command].format_help()
    assert "==SUPPRESS==" not in text
    assert "None" not in text


def test_an_option_of_one_name_is_one_thing():
    of_name = {}
    for command in COMMANDS:
        for name, action in options_of(command).items():
            if name not in ("--out", "--target", "--method"):
                kind = (action.type, action.metavar, action.nargs, type(action))
                of_name.setdefault(name, {}).setdefault(kind, []).append(command)
    assert {name: kinds for name, kinds in of_name.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize("command", [c for c, arguments in MISSING.items() if arguments])
def test_a_file_that_is_not_there_is_status_2_and_one_line(folder, command, capsys):
    before = sorted(os.listdir(folder))
    assert main([*command.split(), *MISSING[command].split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("metal-jax: ")
    assert captured.err.endswith(f"(see metal-jax {command} --help)\n")
    assert captured.err.count("\n") == 1
    assert "nothing" in captured.err
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_is_not_there_is_status_2_and_one_line(command, capsys):
    assert main([*command.split(), "--nonsense"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "--help)" in captured.err


def test_debug_shows_where(folder, capsys):
    with pytest.raises(FileNotFoundError):
        main(["analyze", "nothing.csv", "--debug"])
    assert capsys.readouterr().err == ""


def check_json(command, capsys):
    arguments = [*command.split(), *WORK[command].split()]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    about = json.loads(captured.out, parse_constant=pytest.fail)
    assert isinstance(about, dict)
    if "--out" in arguments:
        assert about["out" if command != "train" else "model"].startswith(
            arguments[arguments.index("--out") + 1]
        )
    return arguments


@pytest.mark.parametrize("command", QUICK)
def test_json_is_all_of_stdout(folder, command, capsys):
    arguments = check_json(command, capsys)
    assert main([*arguments, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.slow
def test_json_of_all(folder, capsys):
    """One after the other: each needs what those before it wrote."""
    for command in WORK:
        check_json(command, capsys)


def test_an_interruption_is_status_130(folder, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("metal_jax.labeling.read_votes", interrupt)
    assert main(["label", "votes.npz", "--out", "never.npz"]) == 130
    assert capsys.readouterr().err == "metal-jax: interrupted; nothing was written\n"


def test_every_command_that_fits_a_label_model_takes_a_class_balance(folder, capsys, monkeypatch):
    commands = ("analyze", "label", "train", "report votes")
    assert {c for c in COMMANDS if "--class-balance" in options_of(c)} == set(commands)
    seen = []

    def stop(votes, tree, class_balance=None, **options):
        seen.append(np.asarray(class_balance).tolist())
        raise KeyboardInterrupt

    monkeypatch.setattr("metal_jax.label_model.fit", stop)
    np.savez("named.npz", x=np.zeros((60, 2)))
    for command, arguments in zip(
        commands,
        ("votes.npz", "votes.npz --out p.npz", "--votes votes.npz --features named.npz --out m",
         "votes.npz --out r.html"),
        strict=True,
    ):  # fmt: skip
        assert main([*command.split(), *arguments.split(), "--class-balance", "0.7,0.3"]) == 130
    assert seen == [[0.7, 0.3]] * 4
    capsys.readouterr()
    train = "train --labels probs.npz --features named.npz --out m --class-balance 0.7,0.3"
    assert main(train.split()) == 2
    assert "--class-balance: is for the label model" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["99999999999999999999", "-1", "4294967296", "1.5"])
def test_a_seed_out_of_range_is_named(folder, capsys, seed):
    assert main(["label", "votes.npz", "--out", "never.npz", f"--seed={seed}"]) == 2
    assert f"--seed: got '{seed}', expected a whole number from 0 to" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_full_disk_is_status_1_and_names_the_output(folder, capsys, monkeypatch, json):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["label", *WORK["label"].split()[:-1], "full.npz", *json]) == 1
        full.write("Python's last words go nowhere")
    assert capsys.readouterr().err == (
        "metal-jax: failed: standard output: No space left on device; make room on the disk, or "
        "write elsewhere\n"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_disk_that_takes_no_more_names_the_file(folder, capsys, monkeypatch, number):
    def refuse(file, arrays):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("metal_jax.cli._label.save_arrays", refuse)
    assert main(["label", *WORK["label"].split()[:-1], "never.npz"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"metal-jax: failed: never.npz: {os.strerror(number)}; ")
    assert error.endswith(" write elsewhere\n")
    assert not list(folder.glob("never.npz*"))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_half_characters_and_control_characters_of_data_do_no_harm(
    folder, capsys, monkeypatch, encoding
):
    lines = ["item,worker,label", "a,w1,\x1b[31mred", "a,w2,blue", "b\x07\u202e,w1,blue"]
    (folder / "escapes.csv").write_text("\n".join(lines) + "\n")
    command = ["label", "escapes.csv", "--method", "majority", "--out", "escapes.npz"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "\ufffd[31mred" in out
    assert all(c.isprintable() or c == "\n" for c in out)
    np.savez("half.npz", L=[[0, 1], [1, 1]], lf_names=["\ud83d", "\U0001f600"])
    bytes_out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(bytes_out, encoding=encoding))
    command = ["label", "half.npz", "--method", "majority", "--out", "half_probs.npz"]
    assert main([*command, "--json"]) == 0
    about = json.loads(bytes_out.getvalue().decode(encoding))
    assert set(about["lf_accuracy"]) == {"\ud83d", "\U0001f600"}
    assert main(command) == 0
    assert b"(LF " in bytes_out.getvalue()


def test_csv_and_json_of_what_utf8_has_not(tmp_path):
    write_csv(tmp_path / "a.csv", ["item"], [["\ud83d é"]])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "item\n\\ud83d é\n"
    written = json_text({"\ud83d": [float("inf"), float("nan"), 1.0]})
    assert json.loads(written.encode()) == {"\ud83d": [None, None, 1.0]}
    assert json_text("é") == '"é"'


# ---- completion ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripts():
    pytest.importorskip("shtab")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for shell in ("bash", "zsh", "fish"):
            parts = []
            patch.setattr("sys.stdout.write", parts.append)
            assert main(["completion", shell]) == 0
            found[shell] = "".join(parts)
            patch.undo()
    return found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_hold_every_option_and_are_valid(scripts, shell, tmp_path):
    script = scripts[shell]
    for command in COMMANDS:
        assert command.split()[-1] in script
        for name in options_of(command):
            assert (f"-l {name[2:]}" if shell == "fish" else name) in script, name
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        subprocess.run([shell, "-n", str(path)], check=True)


COMPLETED = [
    (["metal-jax", "ex"], {"export", "exhaust"}),
    (["metal-jax", "exhaust", "s"], {"search"}),
    (["metal-jax", "label", "--meth"], {"--method"}),
    (["metal-jax", "label", "--method", "ma"], {"majority", "mace"}),
    (["metal-jax", "completion", ""], {"bash", "zsh", "fish"}),
    (["metal-jax", "analyze", "vo"], {"votes.npz"}),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(("words", "expected"), COMPLETED)
def test_bash_completes(folder, scripts, words, expected):
    line = "\n".join(
        [
            "shopt -s extglob",
            scripts["bash"],
            f"COMP_WORDS=({' '.join(repr(word) for word in words)})",
            f"COMP_CWORD={len(words) - 1}",
            "function_name=$(complete -p metal-jax | sed 's/.*-F \\([^ ]*\\).*/\\1/')",
            "$function_name",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
@pytest.mark.parametrize(("words", "expected"), COMPLETED)
def test_fish_completes(folder, scripts, words, expected, tmp_path):
    path = tmp_path / "script.fish"
    path.write_text(scripts["fish"])
    line = f"source '{path}'; complete -C '{' '.join(words)}'"
    env = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        ["fish", "-c", line], capture_output=True, text=True, check=True, env=env, cwd=folder
    )
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} == expected


def test_completion_without_its_extra_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'metal-jax[completion]'" in capsys.readouterr().err
