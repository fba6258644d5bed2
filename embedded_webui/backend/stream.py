"""Copy streams: one for computing, one for moving weights; both None where there is no CUDA."""
import torch
from backend.args import args

current_stream = torch.cuda.current_stream() if torch.cuda.is_available() else None
mover_stream = torch.cuda.Stream() if torch.cuda.is_available() else None
stream_activated = args.cuda_stream

def should_use_stream(): return stream_activated and None not in (current_stream, mover_stream)
