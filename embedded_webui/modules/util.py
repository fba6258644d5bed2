"""Files from elsewhere."""
from pathlib import Path

def load_file_from_url(url, *, model_dir, progress=True, file_name=None, hash_prefix=None, re_download=False):
    """The file where it is; FileNotFoundError where it is not: this WebUI opens no connection."""
    path = Path(model_dir, file_name or url.rsplit("/", 1)[-1])
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there, and nothing is downloaded here")
    return str(path)
