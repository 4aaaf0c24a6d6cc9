"""The files of this program, installed or in a checkout: their digest, and a copy for other machines."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from functools import cache
from pathlib import Path

import pagedbench
from pagedbench.workload.bundled import traces_folder

SUFFIXES = {".py", ".so", ".json", ".csv", ".gz", ".js", ".css", ".html"}
"""Endings of the files that are read or executed at run time."""


def code_files() -> dict[str, Path]:
    """Every file by its name in an installed package: kernels and traces lie in `pagedbench`."""
    kernels = importlib.util.find_spec("pagedbench.kernels")
    places = [
        ("pagedbench", Path(pagedbench.__file__).parent),
        ("pagedbench/traces", Path(str(traces_folder()))),
    ]
    if kernels is not None:  # a checkout, with the kernels that were built from it
        places += [
            ("pagedbench/kernels", Path(place)) for place in kernels.submodule_search_locations or ()
        ]
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in places
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts and path.is_file()
    }


@cache
def code_digest() -> str:
    """The sha256 of all files: programs with equal digests compute the same."""
    digest = hashlib.sha256()
    for name, path in sorted(code_files().items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def copy_code(folder: Path) -> Path:
    """Copy the package into a folder, from which it can be imported. Returns the package's own folder."""
    for name, path in code_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    return folder / "pagedbench"
