"""Runs the preload.py of every extension, then parses the command line."""
import launch
from modules import cmd_args, script_loading
from modules.paths_internal import extensions_dir

parser = cmd_args.parser
_found = launch.list_extensions(launch.args.ui_settings_file)
script_loading.preload_extensions(extensions_dir, parser, _found)
cmd_opts = parser.parse_args()
