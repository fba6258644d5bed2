"""What everybody shares: command line, options, state, and the lock that makes one image at a time."""
import queue
import threading
from modules import options, shared_cmd_options
from modules.options import OptionHTML, OptionInfo, options_section  # noqa: F401

class State:
    def __init__(self): self._commands = queue.SimpleQueue()

    def wait_for_server_command(self, timeout=None): return self._commands.get(timeout=timeout)

    def request_restart(self): self._commands.put("restart")

cmd_opts, parser = shared_cmd_options.cmd_opts, shared_cmd_options.parser
config_filename = cmd_opts.ui_settings_file
options_templates = options_section((None, "Hidden options"), {key: OptionInfo(default) for key, default in {
    "sd_model_checkpoint": None, "forge_additional_modules": [], "emphasis": "Original",
    "forge_unet_storage_dtype": "Automatic", "forge_inference_memory": 1024, "forge_async_loading": "Queue",
    "forge_pin_shared_memory": "CPU", "disabled_extensions": []}.items()})
opts = options.Options(options_templates, set())
opts.load(config_filename)
state, queue_lock, demo, sd_model = State(), threading.Lock(), None, None
