"""Where upscalers look for their weights."""
from modules.util import load_file_from_url  # noqa: F401
