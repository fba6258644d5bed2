"""How fast FLUX.1-dev's weights reach a GPU: this extension, the machine's plain copies, other loaders.

One command on a machine with a GPU (seconds, GB = 10^9 bytes; ratios within one run are what travels):

    python bench/gpu_load.py --write /path/with/40GB --peers --json gpu.json

and small, without a GPU, to see that it runs:

    python bench/gpu_load.py --write /tmp/flux --scale 0.02 --device cpu
"""

from __future__ import annotations

import json
from typing import Any

from gpu.comparison import our_rows
from gpu.files import write_files
from gpu.forge import forge_loop
from gpu.machine import described, device_named
from gpu.options import arguments
from gpu.rows import Bench
from measure.output import say, write_json
from measure.places import ROOT


def main() -> None:
    options = arguments(__doc__)
    beside = ROOT / "shared" / "data" / "flux_tensors.json"
    tensors = json.loads(
        (options.tensors if options.tensors.exists() else beside).read_text(encoding="utf-8")
    )
    device = device_named(options.device)
    bench = Bench(device, options.repeats)
    machine = described(device, options)
    say(str(machine))
    components = options.components
    if options.forge:
        components = list(dict.fromkeys([*components, "flux", "t5", "clip", "ae"]))
    paths = write_files(options.write, tensors, options.scale, components)
    rows: dict[str, Any] = {"machine": machine}
    if not options.forge_only:
        rows |= our_rows(options, bench, {name: paths[name] for name in options.components})
        write_json(options.json, rows)
    if options.forge:
        bench.empty_cache()
        rows["forge"] = forge_loop(options, tensors, paths)
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
