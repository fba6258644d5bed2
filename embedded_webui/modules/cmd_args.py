"""The WebUI's own flags, added to the memory manager's."""
from pathlib import Path
from backend.args import parser
from modules.paths_internal import data_path

parser.add_argument("--data-dir", default=data_path, help="where settings, extensions and models are")
parser.add_argument("--models-dir", default=None, help="where the models are, if not below --data-dir")
parser.add_argument("--ui-settings-file", default=str(Path(data_path, "config.json")))
parser.add_argument("--embeddings-dir", default=str(Path(data_path, "embeddings")))
parser.add_argument("--port", type=int, default=None)
parser.add_argument("--server-name", default=None, help="address to listen on; 127.0.0.1 if not given")
parser.add_argument("--api-auth", default=None, help="user:password,user2:password2 for the API")
parser.add_argument("--gradio-auth", default=None, help="user:password,user2:password2 for the page")
for flag in ("--api", "--nowebui", "--freeze-settings", "--disable-all-extensions", "--skip-install"):
    parser.add_argument(flag, action="store_true")
