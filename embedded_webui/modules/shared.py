"""What everybody shares: command line, options, state, and the lock that makes one image at a time."""
import queue
import threading
from modules import options, shared_cmd_options
from modules.options import OptionHTML, OptionInfo, options_section  # noqa: F401

class State:
    """What the server was asked to do."""

    def __init__(self): self._commands = queue.Queue()

    def wait_for_server_command(self, timeout=None): return self._commands.get(timeout=timeout)

    def request_restart(self): self._commands.put("restart")

cmd_opts, parser = shared_cmd_options.cmd_opts, shared_cmd_options.parser
config_filename = cmd_opts.ui_settings_file
restricted_opts = set()
options_templates = options_section((None, "Hidden options"), {key: OptionInfo(default) for key, default in {
    "sd_model_checkpoint": None, "sd_checkpoint_hash": "", "forge_additional_modules": [], "emphasis": "Original",
    "forge_unet_storage_dtype": "Automatic", "forge_inference_memory": 1024, "forge_async_loading": "Queue",
    "forge_pin_shared_memory": "CPU", "disabled_extensions": [], "disable_all_extensions": "none"}.items()})
opts = options.Options(options_templates, restricted_opts)
opts.load(config_filename)
state, queue_lock = State(), threading.Lock()
demo = sd_model = None
