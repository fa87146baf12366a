"""The public names are those of golden/public_api.txt, and importing the package imports nothing heavy.

After a wanted change: `python tests/test_public_api.py > tests/golden/public_api.txt`, and a line in the changelog.
"""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import unclip

SOURCE = Path(unclip.__file__).parent
GOLDEN = Path(__file__).parent / "golden" / "public_api.txt"
PARTS = sorted(path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())


def public_names() -> list[str]:
    """Every public name of every part, as `part.name`, sorted; of the face as `unclip.name`."""
    modules = {"unclip": unclip} | {
        part: importlib.import_module(f"unclip.{part}") for part in PARTS if not part.startswith("__")
    }
    return sorted(f"{part}.{name}" for part, module in modules.items() for name in names_of(module))


def names_of(module: ModuleType) -> list[str]:
    """Those of `__all__`; of a part that is a single file, the public functions and classes that it defines."""
    defined = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_") and callable(value)
    ]
    return getattr(module, "__all__", defined)


def test_public_names_are_pinned() -> None:
    assert public_names() == GOLDEN.read_text().splitlines()


def test_dir_shows_what_there_is_and_each_of_it_is_there() -> None:
    names = dir(unclip)
    assert {"UnClip", "Result", "Draft", "UnclipError", "images", "pipelines", "diffusion"} <= set(names)
    assert names == sorted(set(names))
    assert all(getattr(unclip, name) is not None for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'Unclip'"):
        unclip.Unclip  # noqa: B018


def test_parts_are_attributes_without_their_import() -> None:
    code = "import sys, unclip; dir(unclip); assert 'torch' not in sys.modules; print(unclip.images.to_pil.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "to_pil"


def test_public_names_exist() -> None:
    missing = []
    for entry in public_names():
        part, name = entry.split(".")
        module = unclip if part == "unclip" else importlib.import_module(f"unclip.{part}")
        missing += [] if hasattr(module, name) else [entry]
    assert missing == []


@pytest.mark.parametrize("module", ["unclip", "unclip.errors", "unclip.config", "unclip.cli"])
def test_import_is_light(module: str) -> None:
    heavy = "torch transformers diffusers accelerate peft webdataset resvg_py tensorboard huggingface_hub scipy PIL"
    program = f"import sys, {module}; print(*sorted(set(sys.modules) & set({heavy.split()})))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_unknown_attribute_is_named() -> None:
    with pytest.raises(AttributeError, match="no attribute 'UnClipp'"):
        _ = unclip.UnClipp


if __name__ == "__main__":
    print(*public_names(), sep="\n")
