"""Runs the preload.py of every extension, then parses the command line."""
from launch import args, list_extensions
from modules import cmd_args, script_loading
from modules.paths_internal import extensions_dir

parser = cmd_args.parser
script_loading.preload_extensions(extensions_dir, parser, list_extensions(args.ui_settings_file))
cmd_opts = parser.parse_args()
