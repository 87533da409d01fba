#!/usr/bin/env bash
# A backend's module of llama.cpp, by the compiler of the container that this runs in:
#     FLAGS="-DGGML_HIP=ON" build_module.sh SOURCE OUTPUT
# FLAGS are cmake's, separated by spaces.
set -euo pipefail
source=$1 output=$2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq cmake g++ ninja-build ocl-icd-opencl-dev opencl-headers python3
read -ra flags <<< "$FLAGS"
# as a part of a project, as ggml is in llama.cpp: by itself it would build tests that are not here
mkdir -p /tmp/lists
printf 'cmake_minimum_required(VERSION 3.14)\nproject(module C CXX)\nadd_subdirectory("%s" ggml)\n' "$(realpath "$source")/ggml" > /tmp/lists/CMakeLists.txt
cmake -S /tmp/lists -B /tmp/module -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON \
    -DGGML_CPU=OFF -DGGML_NATIVE=OFF -DCMAKE_SKIP_RPATH=ON -DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON "${flags[@]}"
cmake --build /tmp/module
mkdir -p "$output"
find /tmp/module -name 'libggml-*.so' -exec cp -v {} "$output" \;
cp "$source/LICENSE" "$output"
