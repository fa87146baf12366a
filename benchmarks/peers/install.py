"""Makes the environment of a peer from its pinned requirements. Knows pip; no library.

    python benchmarks/peers/install.py dalle2_pytorch [--gpu]

Each environment is `.venv-peers/NAME` in the repository's root. Packages come without their dependencies, all of which
the file names: a plain torchvision or torch would bring gigabytes that a CPU never uses. `--gpu` installs torch with
its own dependencies, which are CUDA's libraries.
"""

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).parent / "requirements"
STAMP = "requirements.sha256"


def main() -> None:
    """Install one peer, or all; nothing is done where the requirements have not changed."""
    names = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=[*names, "all"])
    parser.add_argument("--gpu", action="store_true", help="torch with its dependencies, CUDA's libraries")
    options = parser.parse_args()
    for name in names if options.peer == "all" else [options.peer]:
        install(name, options.gpu)


def install(name: str, is_gpu: bool) -> None:
    """Make the environment of a peer; its stamp is written last, so that half of one is never taken for whole."""
    if is_installed(name) and not is_gpu:
        print(f"{name} is installed in {folder(name)}.")
        return
    print(f"installing {name} in {folder(name)}", flush=True)
    venv.create(folder(name), clear=True, with_pip=True)
    file = REQUIREMENTS / f"{name}.txt"
    pip = [str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "-r", str(file)], check=True)
    if is_gpu:
        torch = next(line for line in file.read_text().splitlines() if line.startswith("torch=="))
        subprocess.run([*pip, torch], check=True)
    else:
        silence_torchvision(name)
    (folder(name) / STAMP).write_text(stamp(name))


def silence_torchvision(name: str) -> None:
    """Empty the file that registers shapes of kernels: beside a CPU build of torch they do not exist."""
    for path in folder(name).glob("**/torchvision/_meta_registrations.py"):
        path.write_text("")


def is_installed(name: str) -> bool:
    """Whether the environment is there and made from the requirements as they are now."""
    path = folder(name) / STAMP
    return path.exists() and path.read_text() == stamp(name)


def stamp(name: str) -> str:
    """What an environment was made from."""
    return hashlib.sha256((REQUIREMENTS / f"{name}.txt").read_bytes()).hexdigest()


def folder(name: str) -> Path:
    """The environment of a peer."""
    return ROOT / ".venv-peers" / name


def python(name: str) -> Path:
    """Its interpreter."""
    return folder(name) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


if __name__ == "__main__":
    main()
