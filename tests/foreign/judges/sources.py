"""Fetches the tests of a suite from PyPI."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import urllib.request
from pathlib import Path
from urllib.parse import urldefrag, urljoin

from filelock import FileLock

from deploy import bootstrap
from tests.foreign.judges.suites import Suite

CACHE = bootstrap.VENV / "judges"
INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
TIMEOUT_S = 300.0


def unpacked(suite: Suite, model: str) -> Path:
    """Return the folder with the suite's tests, made anew, in which `model` replaces the names of other models."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f"{suite.package}.lock"):
        archive = _archive(suite)
    target = CACHE / f"{suite.package}-run"
    shutil.rmtree(target, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = member.name.partition("/")[2]
            if member.isfile() and inside.startswith(tuple(f"{suite.folder}/{part}" for part in suite.kept)):
                tar.extract(member, target, filter="data")
    folder = next(target.iterdir()) / suite.folder
    for file in folder.rglob("*.py"):
        _edit(file, suite, model)
    return folder


def _edit(file: Path, suite: Suite, model: str) -> None:
    text = file.read_text("utf-8")
    for before, after in suite.edits:
        text = re.sub(before, after.replace("{model}", model), text)
    file.write_text(text, "utf-8")


def _archive(suite: Suite) -> Path:
    """Return the package's source archive. pip would run its build program before it downloads it."""
    file = CACHE / f"{suite.package.replace('-', '_')}-{suite.version}.tar.gz"
    if not file.exists():
        data = _read(_address(suite.package, file.name))
        if (found := hashlib.sha256(data).hexdigest()) != suite.sha256:
            raise ValueError(f"{file.name} has the hash {found} instead of {suite.sha256}")
        part = file.with_suffix(".part")
        part.write_bytes(data)
        part.rename(file)
    return file


def _address(package: str, name: str) -> str:
    page = f"{INDEX.rstrip('/')}/{package}/"
    links = re.findall(r'href="([^"]+)"', _read(page).decode())
    found = next((link for link in links if urldefrag(link).url.endswith(f"/{name}")), None)
    if found is None:
        raise FileNotFoundError(f"{page} has no {name}")
    return urldefrag(urljoin(page, found)).url


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        data: bytes = answer.read()
    return data
