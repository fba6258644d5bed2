"""What everybody shares: command line, options, state."""
import threading
from modules import options, shared_cmd_options, shared_options
from modules.options import OptionHTML, OptionInfo, options_section  # noqa: F401
from modules.shared_state import State

cmd_opts, parser = shared_cmd_options.cmd_opts, shared_cmd_options.parser
config_filename = cmd_opts.ui_settings_file
opts = options.Options(shared_options.options_templates, shared_options.restricted_opts)
opts.load(config_filename)
state = State()
demo = sd_model = None
