"""Compile the agent and the modules that it imports, and copy them from ROOT to TREE.

    freeze.py ROOT TREE

The Python of the guest runs this program during the build. To compile the modules at each boot would take seconds.
"""

import os
import shutil
import sys

sys.modules["_hashlib"] = None  # hashlib does not need OpenSSL
import runpy  # noqa: F401  python -m uses it

import agent.__main__  # noqa: F401  the program

paths = (getattr(module, "__file__", None) for module in sys.modules.values())
files = [path for path in paths if path not in (None, __file__)]

import pathlib
import py_compile

root, tree = sys.argv[1:]
for file in files:
    target = os.path.join(tree, os.path.relpath(file, root))
    pathlib.Path(os.path.dirname(target)).mkdir(exist_ok=True, parents=True)
    if file.endswith(".py"):
        py_compile.compile(file, target + "c", dfile=os.path.relpath(file, root), doraise=True)
    else:
        shutil.copy(file, target)
pathlib.Path(os.path.join(tree, os.path.relpath(os.path.dirname(os.__file__), root), "lib-dynload")).mkdir(
    exist_ok=True, parents=True
)
