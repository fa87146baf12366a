#!/bin/sh
# Makes the environment of torch-fidelity: sh benchmarks/peers/torch_fidelity/setup.sh [FOLDER]; Python 3.11.
# FOLDER is .venv-torch-fidelity of the repository unless given. PIP_ARGS go to pip: PIP_ARGS="--extra-index-url URL".
set -eu
peer=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$peer/../../../.venv-torch-fidelity}

python3 -m venv "$folder"
"$folder/bin/pip" install ${PIP_ARGS:-} torch==2.13.0
# Without dependencies: torchvision asks for a torch of its own kind.
"$folder/bin/pip" install ${PIP_ARGS:-} --no-deps -r "$peer/requirements.txt"
# torchvision registers kernels that it does not have beside a CPU torch, which fails at its import; no metric uses them.
: > "$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torchvision/_meta_registrations.py"
"$folder/bin/python" -c 'import torch_fidelity; print("torch-fidelity", torch_fidelity.__version__)'
