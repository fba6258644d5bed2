"""The WebUI's own flags, added to the memory manager's."""
from pathlib import Path
from backend.args import parser
from modules.paths_internal import data_path

parser.add_argument("--ui-settings-file", default=str(Path(data_path, "config.json")))
parser.add_argument("--server-name", default="127.0.0.1")
parser.add_argument("--embeddings-dir", default=str(Path(data_path, "embeddings")))
parser.add_argument("--port", type=int)
parser.add_argument("--api-auth")
for name in ("--api", "--nowebui", "--freeze-settings", "--no-hashing"):
    parser.add_argument(name, action="store_true")
