"""Settings: what there is, what is chosen, the file they are kept in."""
import json
from pathlib import Path
from modules.shared_cmd_options import cmd_opts

class OptionInfo:
    def __init__(self, default=None, label="", component=None, component_args=None, onchange=None,
                 section=None, refresh=None, comment_before='', comment_after='', infotext=None,
                 restrict_api=False, category_id=None):
        self.default, self.label, self.section, self.onchange = default, label, section, onchange
        self.component, self.component_args, self.do_not_save = component, component_args, False

    def info(self, info):
        self.label += f" ({info})"
        return self

    def needs_restart(self): return self.info("requires restart")
    def needs_reload_ui(self): return self.info("requires Reload UI")

class Options:
    """Values are attributes too: `opts.name`."""

    def __init__(self, data_labels, restricted_opts):
        self.data_labels, self.restricted_opts, self.data = data_labels, restricted_opts, {}

    def __getattr__(self, item):
        if item not in self.data_labels:
            raise AttributeError(item)
        return self.data.get(item, self.data_labels[item].default)

    def set(self, key, value, is_api=False, run_callbacks=True):
        """Sets an option and calls its onchange; True if it changed. Refused under --freeze-settings."""
        if value == getattr(self, key) or self.data_labels[key].do_not_save:
            return False
        assert not cmd_opts.freeze_settings, "changing settings is disabled"
        self.data[key] = value
        if run_callbacks and self.data_labels[key].onchange:
            self.data_labels[key].onchange()
        return True

    def add_option(self, key, info): self.data_labels[key] = info

    def onchange(self, key, func, call=True):
        self.data_labels[key].onchange = func
        if call:
            func()

    def load(self, filename):
        self.data.update(json.loads(Path(filename).read_text("utf8")) if Path(filename).exists() else {})

    def save(self, filename):
        """Saves every option that is to be saved, with its default where nothing else is chosen."""
        assert not cmd_opts.freeze_settings, "saving settings is disabled"
        shown = {key: getattr(self, key) for key, info in self.data_labels.items() if not info.do_not_save}
        Path(filename).write_text(json.dumps(self.data | shown, indent=4), "utf8")
