"""The texts that are kept with images."""
import json

def quote(text):
    """As it is, or in quotes where a reader would take it to pieces."""
    return json.dumps(str(text), ensure_ascii=False) if any(x in str(text) for x in ",:\n") else text
