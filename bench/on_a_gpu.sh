#!/bin/sh
# All that wants a GPU, in about half an hour; what it found goes to docs/benchmarks. The loaders' wheels are taken from
# WHEELS where it is set (made by: pip download --no-deps -d WHEELS -r requirements/peers.txt), else from the network.
#   bench/on_a_gpu.sh FORGE ADETAILER INTO     INTO: a folder for 60 GB of files
set -eu
forge=$1 adetailer=$2 into=$3
cd "$(dirname "$0")/.."
python=$(ls "$forge"/venv/bin/python "$forge"/venv/Scripts/python.exe 2>/dev/null | head -1)
${python:-python3} -m pip install -q --no-deps --target "$into/peers" ${WHEELS:+--no-index --find-links "$WHEELS"} \
    -r requirements/peers.txt || echo "some loaders could not be installed: the table goes without them"
bench() { name=$1; shift; PYTHONPATH=$into/peers "${python:-python3}" -m bench "$@" --json "docs/benchmarks/$name.json"; }
webui() { name=$1; shift; bench "$name" webui --webui "$forge" --make flux --into "$into" --no-hash "$@" || true; }
bench loads loads --into "$into" --peers --cold
bench packed loads --into "$into" --packed --cold --repeats 3
webui cards-bf16 --cards 24,16,12,8 --cases first,prompt,swap,lora,hires --variants ours --reference --budget 600
webui seed-request --adetailer "$adetailer" --cases seed --budget 400
"${python:-python3}" -m bench page
