"""What the source must not do: run strings, unpickle, reach for the network, start programs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "metal_jax").rglob("*.py"))

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"),
    *("socket", "ssl", "http", "urllib", "ftplib", "smtplib", "requests", "httpx", "aiohttp"),
    *("subprocess", "pty", "yaml", "xml"),
}


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_run_unpickled_or_fetched(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module]
        for module in modules:
            assert module.split(".")[0] not in FORBIDDEN_MODULES, f"line {node.lineno}"
    for call in calls(tree):
        name = ast.unparse(call.func)
        assert name not in FORBIDDEN_CALLS, f"line {call.lineno}: {name}"
        assert name not in ("os.system", "os.popen", "os.fork"), f"line {call.lineno}: {name}"
        assert not name.startswith(("os.exec", "os.spawn")), f"line {call.lineno}: {name}"
        # NumPy unpickles where it may: what reads arrays says that it may not.
        if name in ("np.load", "numpy.load", "np.lib.format.read_array"):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert given.get("allow_pickle") == "False", f"line {call.lineno}: {name}"


def test_the_writers_of_arrays_are_one():
    """`np.savez` pickles where it may, and takes names for keywords; `save_arrays` does neither."""
    for path in FILES:
        names = {ast.unparse(call.func) for call in calls(ast.parse(path.read_text()))}
        assert not names & {"np.savez", "np.savez_compressed", "np.save"}, path


def test_the_readers_of_arrays_are_one():
    """`np.load` takes memory for whatever a file says: `load_arrays` reads others' files."""
    own = {"_streams.py"}  # maps a file whose header was compared with its size
    for path in FILES:
        loads = [c for c in calls(ast.parse(path.read_text())) if ast.unparse(c.func) == "np.load"]
        assert not loads or path.name in own, path


OFFLINE = """
import ctypes, os, sys
if hasattr(ctypes.CDLL(None), "unshare"):
    ctypes.CDLL(None).unshare(0x40000000)  # a network without interfaces, where one may have it

def refuse(event, arguments):
    names = ("connect", "bind", "sendto", "sendmsg", "getaddrinfo", "gethostbyname")
    if event in {f"socket.{name}" for name in names} or event == "urllib.Request":
        os.write(2, f"{event} {arguments}".encode())
        os._exit(9)

sys.addaudithook(refuse)
import importlib, pkgutil
import metal_jax, metal_jax.cli
for module in pkgutil.walk_packages(metal_jax.__path__, "metal_jax."):
    if module.name != "metal_jax.__main__":
        importlib.import_module(module.name)
"""
JOB = """
status = metal_jax.cli.main(["label", "votes.csv", "--method", "majority", "--out", "probs.npz"])
assert status == 0
import numpy as np
from metal_jax import checkpoint
checkpoint.save("params", {"w": np.zeros(3)})
assert checkpoint.load("params", {"w": np.zeros(3)})["w"].shape == (3,)
"""


def offline(code, folder):
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_nothing_reaches_for_the_network(tmp_path):
    (tmp_path / "votes.csv").write_text("item,worker,label\na,u,x\nb,u,y\na,v,x\nb,v,y\na,w,y\n")
    assert offline(OFFLINE + JOB, tmp_path) == (0, "")
    assert (tmp_path / "probs.npz").exists()


def test_reaching_for_the_network_would_be_seen(tmp_path):
    code = OFFLINE.partition("import importlib")[0]
    code += "import socket; socket.socket().connect(('127.0.0.1', 9))"
    status, error = offline(code, tmp_path)
    assert status == 9
    assert error.startswith("socket.connect")
