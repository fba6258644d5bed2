"""What everybody shares: command line, options, state, and the lock that makes one image at a time."""
import threading
import time
from modules.options import OptionInfo, Options
from modules.shared_cmd_options import cmd_opts

class State:
    server_command, sampling_step = None, 0

    def wait_for_server_command(self, timeout=None):
        while self.server_command is None:
            time.sleep(0.1)  # in steps, so that Ctrl+C is heard
        self.server_command = None

    def request_restart(self): self.server_command = "restart"

config_filename = cmd_opts.ui_settings_file
_defaults = {
    "sd_model_checkpoint": None, "forge_additional_modules": [], "disabled_extensions": [],
    "sd_checkpoint_hash": "", "emphasis": "Original", "localization": "None",
    "forge_inference_memory": 1024, "forge_async_loading": "Queue", "forge_pin_shared_memory": "CPU"}
opts = Options({key: OptionInfo(default) for key, default in _defaults.items()}, set())
opts.load(config_filename)
state, queue_lock, demo = State(), threading.Lock(), None
