"""Folders, known before anything heavy is imported."""
from pathlib import Path
from backend.args import parser

script_path = str(Path(__file__).resolve().parent.parent)
parser.add_argument("--data-dir", default=Path(script_path).parent / ".cache" / "embedded")
parser.add_argument("--models-dir")
cmd_opts_pre = parser.parse_known_args()[0]
data_path = str(Path(cmd_opts_pre.data_dir).absolute())
models_path = str(Path(cmd_opts_pre.models_dir or Path(data_path, "models")).absolute())
extensions_dir = str(Path(data_path, "extensions"))
extensions_builtin_dir = str(Path(script_path, "extensions-builtin"))
Path(extensions_dir).mkdir(parents=True, exist_ok=True)
