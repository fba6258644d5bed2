"""The options of the Settings section, as plain data: the host adapter turns them into its own kind."""

from __future__ import annotations

from dataclasses import dataclass

from ..configuration.config import AS_CONFIGURED
from ..pruning.catalog import GROUPS

SWITCH = (AS_CONFIGURED, "on", "off")
GROUP = (AS_CONFIGURED, "keep", "leave out")
GROUP_INFO = {
    "group_controlnet": "as configured keeps it where models/ControlNet holds a weight",
    "group_ip_adapter": "IP-Adapter, reference, revision, StyleAlign",
    "group_guidance": "FreeU, SAG, PAG, dynamic thresholding, latent modifier",
    "group_hires": "MultiDiffusion, Kohya HRFix, Never OOM, soft inpainting",
    "group_upscalers": "SwinIR, ScuNET, and CodeFormer, GFPGAN, focal crop in the Extras tab",
    "group_batch": "X/Y/Z plot, prompt matrix, loopback, outpainting, SD upscale and others",
}


@dataclass(frozen=True)
class Option:
    """One entry of the section. `key` is the WebUI's name for it, `default` has the type its values have."""

    key: str
    label: str
    choices: tuple[str, ...] = SWITCH
    default: str = AS_CONFIGURED
    restart: bool = False
    info: str = ""


OPTIONS: tuple[Option, ...] = (
    Option(
        "flux_speedup_enabled",
        "Flux Speedup",
        info="off puts every change back at once; as configured leaves it to the configuration file",
    ),
    Option(
        "flux_speedup_tier",
        "Memory tier",
        (*SWITCH, "large", "standard"),
        info="on decides by the card's memory; off leaves the WebUI's own numbers",
    ),
    Option(
        "flux_speedup_streams",
        "Copy streams",
        info="move weights while the card computes, where the card has streams",
    ),
    Option(
        "flux_speedup_pinning",
        "Pinned weights",
        info="keep weights where the card reads them directly; takes RAM that no other program can use",
    ),
    Option(
        "flux_speedup_weights",
        "Weights stay in their files",
        info="loads stream from the file at the speed of the bus, unloads copy nothing",
    ),
    Option(
        "flux_speedup_checkpoints",
        "Checkpoints used before are kept",
        info="switching back takes what its transfer takes",
    ),
    Option(
        "flux_speedup_read_ahead",
        "Read-ahead",
        info="the selected model is read into the page cache while the WebUI starts",
    ),
    Option(
        "flux_speedup_attention_kernels",
        "Attention kernels",
        info="allow PyTorch's flash, memory-efficient and math kernels",
    ),
    Option(
        "flux_speedup_local_models",
        "Local weights for ADetailer and upscalers",
        info="weights that are on this machine are not asked for on the network",
    ),
    Option(
        "flux_speedup_pruning",
        "Leave out scripts that Flux does not need",
        info="off loads all of them; what you use is kept, and LoRA always is",
    ),
    *(
        Option(f"flux_speedup_{key}", f"Scripts: {name}", GROUP, info=GROUP_INFO[key])
        for key, name in GROUPS.items()
    ),
    Option(
        "flux_speedup_fast_callbacks",
        "Fast registration of callbacks",
        info="no source code is read for every callback that an extension registers",
    ),
    Option(
        "flux_speedup_statistics",
        "Statistics",
        info="time every load, move and unload; off keeps no figures and writes no file",
    ),
    Option(
        "flux_speedup_requests",
        "Times of requests",
        info="tell apart where the seconds of every image request go; needs statistics",
    ),
    Option(
        "flux_speedup_load_in_infotext",
        "Loading time in image files",
        info="on adds what loading took to the generation parameters that images carry",
    ),
    Option(
        "flux_speedup_refresh_s",
        "The tab refreshes itself",
        (AS_CONFIGURED, "2 s", "5 s", "30 s", "off"),
        info="how often the figures in the Flux Speedup tab follow, while somebody looks at them",
    ),
    Option(
        "flux_speedup_translations",
        "Texts in the language of the WebUI",
        info="Russian and Chinese, when such a localization is chosen; your own entries win",
    ),
)
