#!/bin/sh
# All that wants a GPU, in parts of less than ten minutes each; what it found goes to docs/benchmarks. The loaders' wheels
# are taken from WHEELS where it is set (made by: pip download --no-deps -d WHEELS -r requirements/peers.txt), else from
# the network.
#   bench/on_a_gpu.sh FORGE ADETAILER INTO [PART...]     INTO: a folder for 100 GB of files
#   NEO=DIR bench/on_a_gpu.sh ...                        with Forge Neo, too
set -eu
forge=$1 adetailer=$2 into=$3
shift 3
[ $# -gt 0 ] || set -- loads packed whole small forms seed ${NEO:+neo} page
cd "$(dirname "$0")/.."
found=$(ls "$forge"/venv/bin/python "$forge"/venv/Scripts/python.exe 2>/dev/null | head -1)
python=${found:-python3} peers=$into/peers
bench() { name=$1; shift; PYTHONPATH=$peers${PYTHONPATH:+:$PYTHONPATH} "$python" -m bench "$@" --json "docs/benchmarks/$name.json"; }
webui() { name=$1 dir=$2 kind=$3; shift 3; bench "$name" webui --webui "$dir" --make "$kind" --into "$into" --budget 560 "$@" || true; }
for part; do
    case $part in
    loads)
        [ -d "$peers" ] || "$python" -m pip install -q --no-deps --target "$peers" \
            ${WHEELS:+--no-index --find-links "$WHEELS"} -r requirements/peers.txt ||
            echo "some loaders could not be installed: the table goes without them"
        bench loads loads --into "$into" --peers --cold ;;
    packed) bench packed loads --into "$into" --packed --cold --repeats 3 ;;
    whole) webui whole-card "$forge" flux --cases first,repeat,prompt,pause,switch,lora,unload --variants ours,alone ;;
    small) webui cards-bf16 "$forge" flux --no-hash --cards 24,16,12,8 --cases first,prompt,swap,lora,hires \
        --variants ours --reference ;;
    forms) for kind in flux-fp8 flux-nf4 flux-q8 flux-q4k; do
        webui "card-8-${kind#flux-}" "$forge" "$kind" --no-hash --cards 8 --cases first,prompt,swap,lora,unload --budget 140
    done ;;
    seed) webui seed-request "$forge" flux --no-hash --adetailer "$adetailer" --cases seed ;;
    neo) webui neo-cards-bf16 "$NEO" flux --no-hash --cards all,24,12 --cases first,prompt,swap,lora,switch --variants ours ;;
    page) "$python" -m bench page ;;
    *) echo "no part $part"; exit 2 ;;
    esac
done
