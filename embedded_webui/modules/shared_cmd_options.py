"""Runs the preload.py of every extension, then parses the command line."""
import launch
from modules import cmd_args, script_loading
from modules.paths_internal import extensions_dir

parser = cmd_args.parser
script_loading.preload_extensions(
    extensions_dir, parser, launch.list_extensions(launch.args.ui_settings_file))
cmd_opts = parser.parse_args()
cmd_opts.webui_is_non_local = bool(cmd_opts.server_name)
cmd_opts.disable_extension_access = cmd_opts.webui_is_non_local
