"""Settings: what there is, what is chosen, the file they are kept in."""
import json
import logging
from pathlib import Path
import gradio as gr
from modules.shared_cmd_options import cmd_opts

class OptionInfo:
    def __init__(self, default=None, label="", component=None, component_args=None, onchange=None, section=None,
                 refresh=None, comment_before='', comment_after='', infotext=None, restrict_api=False,
                 category_id=None):
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.onchange, self.section, self.refresh, self.infotext = onchange, section, refresh, infotext
        self.comment_before, self.comment_after = comment_before, comment_after
        self.restrict_api, self.category_id, self.do_not_save = restrict_api, category_id, False

    def html(self, html):
        self.comment_after += html
        return self

    def info(self, info): return self.html(f" ({info})")

    def needs_restart(self): return self.html(" (requires restart)")

    def needs_reload_ui(self): return self.html(" (requires Reload UI)")

class OptionHTML(OptionInfo):
    def __init__(self, text):
        super().__init__(text.strip(), component=lambda label, **kwargs: gr.HTML(**kwargs))
        self.do_not_save = True

def options_section(section_identifier, options_dict):
    for info in options_dict.values():
        info.section, info.category_id = tuple(section_identifier[:2]), (*section_identifier, None)[2]
    return options_dict

class Options:
    """Values are attributes too: `opts.name`; setting one is refused under --freeze-settings."""

    def __init__(self, data_labels, restricted_opts):
        self.__dict__.update(data_labels=data_labels, restricted_opts=restricted_opts)
        self.__dict__["data"] = {key: info.default for key, info in data_labels.items()}

    def __setattr__(self, key, value):
        if key in self.__dict__:
            self.__dict__[key] = value
            return
        assert not cmd_opts.freeze_settings, "changing settings is disabled"
        self.data[key] = value

    def __getattr__(self, item):
        if item in self.data:
            return self.data[item]
        if item in self.data_labels:
            return self.data_labels[item].default
        raise AttributeError(item)

    def set(self, key, value, is_api=False, run_callbacks=True):
        """Sets an option and calls its onchange; True if it changed."""
        info, old = self.data_labels[key], self.data.get(key)
        if old == value or info.do_not_save or (is_api and info.restrict_api):
            return False
        setattr(self, key, value)
        try:
            if run_callbacks and info.onchange:
                info.onchange()
        except Exception:
            logging.getLogger("embedded_webui").exception("changing setting %s failed: put back", key)
            setattr(self, key, old)
            return False
        return True

    def get_default(self, key): return getattr(self.data_labels.get(key), "default", None)

    def add_option(self, key, info):
        self.data_labels[key] = info
        if not info.do_not_save:
            self.data.setdefault(key, info.default)

    def onchange(self, key, func, call=True):
        self.data_labels[key].onchange = func
        if call:
            func()

    def load(self, filename):
        try:
            self.data.update(json.loads(Path(filename).read_text("utf8")))
        except FileNotFoundError:
            pass
        except ValueError as error:
            logging.getLogger("embedded_webui").warning("%s is no JSON (%s): using defaults", filename, error)

    def save(self, filename):
        assert not cmd_opts.freeze_settings, "saving settings is disabled"
        Path(filename).write_text(json.dumps(self.data, indent=4), "utf8")
