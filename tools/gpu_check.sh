#!/usr/bin/env bash
# Everything to be known on a machine with an NVIDIA GPU, in one command under ten minutes:
#
#   tools/gpu_check.sh DATA OUT [--nerfacc WHEEL] [--tinycudann SOURCE] [--dry]
#
# DATA is a Blender set (transforms_train.json …), such as lego; rows for benchmarks/RESULTS.md, and golden files where
# tinycudann or nerfacc can be loaded, go to OUT. Nothing is installed and no network is used: what is needed is
# torch >= 2.10, Triton >= 3.6, numpy, Pillow, rich and safetensors, and what Triton launches kernels with: a C compiler and
# Python's headers. PYTHON names another interpreter. --dry goes through all of it on a CPU, at sizes that prove nothing but that
# it goes through. Each part runs in a process of its own; --part NAME runs one again.
set -euo pipefail
exec timeout 600 "${PYTHON:-python3}" "$(dirname "$0")/gpu_check.py" "$@"
