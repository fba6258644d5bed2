"""Test extension: what is loaded and registered, a snapshot of the configuration, and a script with an argument."""

import sys

import gradio as gr
from modules import script_callbacks, scripts

NAME = "Probe"


class ProbeScript(scripts.Script):
    """Writes its argument into the image's parameters."""

    def title(self):
        return NAME

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox("", label="Probe text", visible=False)]

    def process(self, p, text, *_):
        if text:
            p.extra_generation_params["Probe"] = text


def loaded():
    """Every file of a script that was executed, and of every module of an extension."""
    from modules import script_loading

    files = [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
    files += list(getattr(script_loading, "loaded_scripts", {}))
    return sorted({file for file in files if "/scripts/" in file or "/extensions-builtin/" in file})


def on_app_started(_demo, app):
    @app.get("/probe/listing")
    def listing():
        from modules import config_states, extensions, ui_gradio_extensions

        runners = (scripts.scripts_txt2img, scripts.scripts_img2img)
        return {
            "loaded": loaded(),
            "callbacks": {
                category: [callback.name for callback in registered]
                for category, registered in script_callbacks.enumerate_callbacks()
            },
            "order": {
                category: [callback.name for callback in script_callbacks.ordered_callbacks(category)]
                for category, _ in script_callbacks.enumerate_callbacks()
            },
            "titles": sorted({script.title() for runner in runners for script in runner.scripts}),
            "status": {each.name: each.status for each in extensions.extensions},
            "enabled": {each.name: each.enabled for each in extensions.extensions},
            "page": ui_gradio_extensions.javascript_html(),
            "snapshot": config_states.get_config(),
        }

    @app.post("/probe/disable-left-out")
    def disable_left_out():
        from flux_speedup import app as ours

        return {"said": ours._running._acts.disable_left_out()}

    @app.post("/probe/undo-disabled")
    def undo_disabled():
        from flux_speedup import app as ours

        return {"said": ours._running._acts.undo_disabled()}

    @app.post("/probe/list-extensions")
    def list_extensions():
        from modules import extensions

        extensions.list_extensions()
        return {}


script_callbacks.on_app_started(on_app_started)
