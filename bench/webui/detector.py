"""Run by the WebUI's own Python: writes a YOLO detector of random numbers that finds one thing everywhere.

usage: detector.py FILE     needs ultralytics; the file is one that ADetailer loads like any other
"""

import sys

import torch
from ultralytics import YOLO

torch.manual_seed(0)
network = YOLO("yolov8n.yaml")
head = network.model.model[-1]
COARSEST = 2
with torch.no_grad():
    for level, (kinds, boxes) in enumerate(zip(head.cv3, head.cv2, strict=True)):
        kinds[-1].weight.zero_()
        kinds[-1].bias.fill_(-20.0)
        boxes[-1].weight.zero_()
        boxes[-1].bias.fill_(-8.0)
        # Every side three cells from the middle: boxes of 192 pixels where a cell has 32.
        boxes[-1].bias.view(4, -1)[:, 3] = 8.0
        if level == COARSEST:
            kinds[-1].bias[0] = 4.0
network.save(sys.argv[1])
