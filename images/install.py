"""Runs inside of an image's build: installs what is locked, or the project, and takes away what no process reads.

Called by the Containerfile with the environment's own Python, and it must do with the standard library alone.
"""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

_BUILD = Path("/build")
_CERTIFICATES = Path("/run/secrets/certificates")
_PROJECT = Path("/opt/project")
#: What the sidecar's image alone has of the project: its live process, and the list of the crates in it.
_LIVE = Path("/opt/live")
_LIVE_FOLDERS = ("modelcanary_sidecar/bin", "modelcanary-*.dist-info/sboms")
#: Of packages: what only their developers and compilers read.
_UNUSED_FOLDERS = ("tests", "include", "__pycache__")
_UNUSED_FILES = (".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pyi", ".pyx")
#: Of a new environment: what installs packages, and the shells' ways in.
_INSTALLERS = ("pip*", "setuptools*", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
_SCRIPTS = ("pip*", "activate*", "Activate*", "f2py*", "numpy-config*")


def main() -> None:
    (what,) = sys.argv[1:]
    if what == "locked":
        _pip("--require-hashes", "--requirement", str(_BUILD / "lock.txt"))
        _without_installers(Path(sys.prefix))
        packages = Path(sysconfig.get_path("purelib"))
    else:
        # There may be one for each processor: pip knows which runs here.
        _pip("--prefix", str(_PROJECT), "--no-index", "--find-links", str(_BUILD), "modelcanary")
        packages = Path(sysconfig.get_path("platlib", vars={"platbase": str(_PROJECT)}))
        _apart(packages)
    _slim(packages)
    # By content: the build sets every file's time anew, and nobody in the image could write them again.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(packages, quiet=1, invalidation_mode=unchecked):
        sys.exit("a module does not compile")


def _pip(*arguments: str) -> None:
    trusted = ["--cert", str(_CERTIFICATES)] if _CERTIFICATES.is_file() and _CERTIFICATES.stat().st_size else []
    always = ("--no-deps", "--no-compile", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore", *always, *trusted]
    subprocess.run([*command, *arguments], check=True, env={**os.environ, "PIP_NO_INPUT": "1"})


def _apart(packages: Path) -> None:
    for pattern in _LIVE_FOLDERS:
        found = list(packages.glob(pattern))
        if not found:
            sys.exit(f"the project's wheel has no {pattern}: it must be built on Linux, with Rust")
        for folder in found:
            target = _LIVE / folder.relative_to(_PROJECT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, target)


def _without_installers(environment: Path) -> None:
    packages = Path(sysconfig.get_path("purelib"))
    for folder, patterns in ((packages, _INSTALLERS), (environment / "bin", _SCRIPTS)):
        for pattern in patterns:
            for path in folder.glob(pattern):
                _remove(path)


def _slim(packages: Path) -> None:
    for path in sorted(packages.rglob("*"), reverse=True):
        if path.name in _UNUSED_FOLDERS or (path.suffix in _UNUSED_FILES and path.is_file()):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    main()
