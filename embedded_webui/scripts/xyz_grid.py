"""X/Y/Z plot, as far as it goes: the same prompt with three seeds, side by side."""
from copy import copy
from PIL import Image
from modules import processing, scripts

class Script(scripts.Script):
    def title(self): return "X/Y/Z plot"

    def run(self, p, *args):
        made = []
        for seed in range(3):
            (one := copy(p)).seed = seed
            made.append(processing.process_images(one))
        width, height = made[0].images[0].size
        grid = Image.new("RGB", (width * 3, height))
        for at, each in enumerate(made):
            grid.paste(each.images[0], (at * width, 0))
        return processing.Processed(p, [grid], 0, made[0].info)
