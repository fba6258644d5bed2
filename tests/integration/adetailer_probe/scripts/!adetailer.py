"""Test extension: asks for its models while it is imported, as ADetailer's script does."""

import time
from pathlib import Path

from adetailer import ADETAILER, get_models
from modules import paths, script_callbacks, scripts, shared

started = time.perf_counter()
model_mapping = get_models(
    Path(paths.models_path, "adetailer"),
    *shared.opts.data.get("ad_extra_models_dir", "").split("|"),
    huggingface=not shared.cmd_opts.ad_no_huggingface,
)
seconds = time.perf_counter() - started
at_import = list(model_mapping)


class Script(scripts.Script):
    def title(self):
        return ADETAILER

    def show(self, is_img2img):
        return False


def on_app_started(_demo, app):
    @app.get("/probe/adetailer")
    def adetailer():
        from flux_speedup import app as ours

        return {
            "seconds": seconds,
            "at_import": at_import,
            "mapping": model_mapping,
            "order": list(model_mapping),
            "weights": [
                {"name": w.name, "state": w.state, "path": w.path, "why": w.why}
                for w in ours._running.seen.local_weights()
            ],
        }


script_callbacks.on_app_started(on_app_started)
