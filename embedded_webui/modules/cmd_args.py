"""The WebUI's own flags, added to the memory manager's."""
from pathlib import Path
from backend.args import parser
from modules.paths_internal import data_path

parser.add_argument("--data-dir", default=data_path)
parser.add_argument("--ui-settings-file", default=str(Path(data_path, "config.json")))
parser.add_argument("--embeddings-dir", default=str(Path(data_path, "embeddings")))
for name in ("--models-dir", "--server-name", "--api-auth"):
    parser.add_argument(name, default=None)
parser.add_argument("--port", type=int, default=None)
for name in ("--api", "--nowebui", "--freeze-settings"):
    parser.add_argument(name, action="store_true")
