"""A stand-in for ADetailer's library: it asks for the same weights at the same time, and detects nothing."""
from pathlib import Path

def hf_download(file, repo_id="Bingsu/adetailer", check_remote=True):
    """The real one asks Hugging Face; here nothing is asked of the network, as where there is none."""
    return "INVALID"

def get_models(*dirs, huggingface=True):
    """Where each detector's weights are, by name."""
    names = "face_yolov8n", "face_yolov8s", "hand_yolov8n", "person_yolov8n-seg", "person_yolov8s-seg"
    found = {f"{name}.pt": hf_download(f"{name}.pt") for name in names}
    found["yolov8x-worldv2.pt"] = hf_download("yolov8x-worldv2.pt", "Bingsu/yolo-world-mirror")
    found |= {path.name: str(path) for folder in dirs for path in Path(folder).glob("*.pt")}
    return {name: path for name, path in found.items() if path != "INVALID"}
