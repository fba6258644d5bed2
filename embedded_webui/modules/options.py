"""Settings: what there is, what is chosen, the file they are kept in."""
import json
import logging
from pathlib import Path
import gradio as gr
from modules.shared_cmd_options import cmd_opts

class OptionInfo:
    def __init__(self, default=None, label="", component=None, component_args=None, onchange=None,
                 section=None, refresh=None, comment_before='', comment_after='', infotext=None,
                 restrict_api=False, category_id=None):
        given = locals().copy()
        vars(self).update({name: given[name] for name in given if name != "self"}, do_not_save=False)

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
        info.section = tuple(section_identifier[:2])
    return options_dict

class Options:
    """Values are attributes too: `opts.name`; setting one is refused under --freeze-settings."""

    def __init__(self, data_labels, restricted_opts):
        data = {key: info.default for key, info in data_labels.items()}
        vars(self).update(data_labels=data_labels, restricted_opts=restricted_opts, data=data)

    def __setattr__(self, key, value):
        assert not cmd_opts.freeze_settings, "changing settings is disabled"
        (vars(self) if key in vars(self) else self.data)[key] = value

    def __getattr__(self, item):
        if item not in self.data and item not in self.data_labels:
            raise AttributeError(item)
        return self.data.get(item, self.get_default(item))

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
        return getattr(self, key) == value

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
        if Path(filename).exists():
            self.data.update(json.loads(Path(filename).read_text("utf8")))

    def save(self, filename):
        assert not cmd_opts.freeze_settings, "saving settings is disabled"
        Path(filename).write_text(json.dumps(self.data, indent=4), "utf8")
