"""The one table of settings. To add one: one entry in `Config`, then `python -m flux_speedup.configuration`.

The entry is the field that code reads (`config.streams`); flag, environment variable, `GET config`, `config.json`,
`docs/settings.md` and, with a `label`, the Settings page (whose words want translations) come from it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..pruning.catalog import GROUPS, KEEP, LEAVE_OUT, LEFT_OUT
from .kinds import Choice, Names, Number, Seconds
from .setting import FORGE, FORGE_AND_NEO, THE_FOUR, Group, Setting

GENERAL = Group("General")
TIERS = Group("Memory tiers")
WEIGHTS = Group("Weights and checkpoints")
TORCH = Group("PyTorch")
START = Group("Starting")
SCRIPTS = Group("Scripts that are not loaded")
FIGURES = Group("Figures")
ACCESS = Group("Access")


def _scripts(key: str, help: str, more: str = "") -> str:
    """What becomes of one of the groups that users know scripts by."""
    kind, label = Choice(("auto", KEEP, LEAVE_OUT)), f"Scripts: {GROUPS[key]}"
    return SCRIPTS("auto", help, kind, more=more, label=label, choices=(KEEP, LEAVE_OUT))


@dataclass(frozen=True)
class Config:
    """Every setting with its default. GiB = 2^30 bytes, as card makers count."""

    enabled: bool = GENERAL(
        True,
        "off puts every change back at once; as configured leaves it to the configuration file",
        label="Flux Speedup",
    )
    tier: str = TIERS(
        "auto",
        "on decides by the card's memory; off leaves the WebUI's own numbers",
        Choice(("auto", "large", "standard", "off")),
        more="`on` is another word for `auto`; `large` and `standard` choose",
        label="Memory tier",
        choices=("on", "off", "large", "standard"),
        hosts=FORGE_AND_NEO,
    )
    large_tier_over_gib: float = TIERS(
        50.0, "cards with more VRAM than this are large", Number(0, 4096), hosts=FORGE_AND_NEO
    )
    large_tier_inference_share: float = TIERS(
        0.25, "share of VRAM kept for inference", Number(0.05, 0.95), hosts=FORGE_AND_NEO
    )
    large_tier_swap_divisor: float = TIERS(
        1.15, "a model that does not fit keeps free / this on the card ...", Number(1, 4), hosts=FORGE
    )
    large_tier_swap_reserve_gib: float = TIERS(
        2.0, "... or free less this, whichever is more", Number(0, 64), hosts=FORGE
    )
    large_tier_low_vram_below_gib: float = TIERS(
        -1.0, "swapping starts when the estimate of what remains is below this", Number(-64, 0), hosts=FORGE
    )
    large_tier_process_share: float = TIERS(
        0.95, "share of the card this process may take", Number(0.5, 1), hosts=FORGE_AND_NEO
    )
    standard_tier_inference_share: float | None = TIERS(
        None,
        "the same split for other cards; null leaves the WebUI's numbers",
        Number(0.05, 0.95, optional=True),
        hosts=FORGE_AND_NEO,
    )
    pinning: bool = TIERS(
        True,
        "keep weights where the card reads them directly; takes RAM that no other program can use",
        more="large tier",
        label="Pinned weights",
        hosts=FORGE,
    )
    streams: bool = TIERS(
        True,
        "move weights while the card computes, where the card has streams",
        label="Copy streams",
        hosts=FORGE,
    )
    attention_kernels: bool = TORCH(
        True, "allow PyTorch's flash, memory-efficient and math kernels", label="Attention kernels"
    )
    allocator: bool = TORCH(True, "expandable segments in PyTorch's allocator", more="Linux", restart=True)
    cudnn_benchmark: bool = TORCH(
        False, "let cuDNN time its algorithms; results may differ in the last bit between runs"
    )
    weights: bool = WEIGHTS(
        True,
        "loads stream from the file at the speed of the bus, unloads copy nothing",
        label="Weights stay in their files",
        hosts=THE_FOUR,
    )
    direct: str = WEIGHTS(
        "auto",
        "weight files are registered with CUDA, and the GPU reads them without the CPU's help; they then take "
        "their size of RAM that nothing else can use",
        Choice(("on", "auto", "off")),
        more="half of the free RAM at most; `auto`: files of what streams and, while nobody makes an image, of "
        "what is loaded and, from the start on, what is selected, where RAM is plenty: twice the file's size stays "
        "free, and it goes where what streams has no room; `on`: of whatever is; `off`: never; Linux and CUDA, "
        "with `weights`",
        hosts=FORGE_AND_NEO,
    )
    streaming: bool = WEIGHTS(
        True,
        "a model that does not fit on the card is run from its files: layers come while others compute",
        more="CUDA, with `weights`",
        label="Models that do not fit are streamed",
        hosts=FORGE_AND_NEO,
    )
    overlap: bool = WEIGHTS(
        True,
        "text encoders and transformer come to the card while the model is built and the text is encoded, "
        "where there is room for both",
        more="with `weights`",
        label="Loading ahead of need",
        hosts=FORGE_AND_NEO,
    )
    packed: bool = WEIGHTS(
        False,
        "loads read a quarter less of bf16 files, bit for bit; their packed form takes room on the disk",
        more="made while nobody makes an image, or by `pack.py`; read from registered pages or a disk; CUDA",
        label="Packed weights",
        hosts=THE_FOUR,
    )
    packed_gib: float = WEIGHTS(
        64.0,
        "what all packed files may take on the disk, of which 8 GiB stay free; those used longest ago go first",
        Number(0, 65536),
        hosts=THE_FOUR,
    )
    checkpoints: bool = WEIGHTS(
        True,
        "switching back takes what its transfer takes",
        more="with `weights`",
        label="Checkpoints used before are kept",
        hosts=FORGE_AND_NEO,
    )
    checkpoints_kept: int = WEIGHTS(
        4, "how many are kept besides the one in use", Number(1, 64, whole=True), hosts=FORGE_AND_NEO
    )
    checkpoints_ram_gib: float = WEIGHTS(
        8.0,
        "RAM that all kept ones may hold; what lies in their files does not count",
        Number(0, 4096),
        hosts=FORGE_AND_NEO,
    )
    needless_unloads: bool = WEIGHTS(
        True,
        "models are unloaded, and the prompt is encoded anew, only where something changed",
        hosts=FORGE_AND_NEO,
    )
    read_ahead: bool = START(
        True,
        "the selected model is read into the page cache while the WebUI starts",
        label="Read-ahead",
        hosts=THE_FOUR,
    )
    digest: bool = START(
        True, "model hashes are computed in the background, once in a file's life", hosts=THE_FOUR
    )
    hash_wait: str = START(
        "when needed",
        "the text of an image waits for the hash of a file used for the first time; with never it goes without",
        Choice(("when needed", "never")),
        more="needs `digest`",
        label="Waiting for hashes",
        choices=("when needed", "never"),
        hosts=THE_FOUR,
    )
    fast_callbacks: bool = START(
        True,
        "no source code is read for every callback that an extension registers",
        label="Fast registration of callbacks",
    )
    local_models: bool = START(
        True,
        "weights that are on this machine are not asked for on the network",
        label="Local weights for ADetailer and upscalers",
    )
    fetch_at_start: bool = START(
        False, "weights of the catalog that are missing are fetched before the WebUI starts", restart=True
    )
    lazy_apps: bool = START(
        True, "web apps of inner pages, of which gradio 4 makes two each, are made only when used"
    )
    garbage: bool = START(
        True,
        "what the start has made is left out of garbage collection, which the first build waits for",
        hosts=FORGE_AND_NEO,
    )
    pruning: bool = SCRIPTS(
        True,
        "off loads all of them; what you use is kept, and LoRA always is",
        label="Leave out scripts that Flux does not need",
    )
    left_out: tuple[str, ...] = SCRIPTS(
        LEFT_OUT, "which: file names of scripts without `.py`, or shell patterns", Names()
    )
    keep: tuple[str, ...] = SCRIPTS((), "names or patterns that are loaded all the same", Names())
    group_controlnet: str = _scripts(
        "group_controlnet",
        "as configured keeps it where models/ControlNet holds a weight",
        more="`auto` goes by `left_out`; `keep` and `leave out` choose",
    )
    group_ip_adapter: str = _scripts("group_ip_adapter", "IP-Adapter, reference, revision, StyleAlign")
    group_guidance: str = _scripts("group_guidance", "FreeU, SAG, PAG, dynamic thresholding, latent modifier")
    group_hires: str = _scripts("group_hires", "MultiDiffusion, Kohya HRFix, Never OOM, soft inpainting")
    group_upscalers: str = _scripts(
        "group_upscalers", "SwinIR, ScuNET, and CodeFormer, GFPGAN, focal crop in the Extras tab"
    )
    group_batch: str = _scripts(
        "group_batch", "X/Y/Z plot, prompt matrix, loopback, outpainting, SD upscale and others"
    )
    statistics: bool = FIGURES(
        True, "time every load, move and unload; off keeps no figures and writes no file", label="Statistics"
    )
    statistics_rows: int = FIGURES(
        10_000, "how many events, and how many requests, the database keeps", Number(100, 10_000, whole=True)
    )
    requests: bool = FIGURES(
        True,
        "tell apart where the seconds of every image request go; needs statistics",
        label="Times of requests",
    )
    load_in_infotext: bool = FIGURES(
        False,
        "on adds what loading took to the generation parameters that images carry",
        more="as `Load: 0.40 s`",
        label="Loading time in image files",
    )
    refresh_s: float = FIGURES(
        5.0,
        "how often the figures in the Flux Speedup tab follow, while somebody looks at them",
        Seconds(0, 3600),
        more="seconds; `off` or 0 for never",
        label="The tab refreshes itself",
        choices=("2 s", "5 s", "30 s", "off"),
    )
    translations: bool = GENERAL(
        True,
        "Russian and Chinese, when such a localization is chosen; your own entries win",
        label="Texts in the language of the WebUI",
    )
    allowed_hosts: tuple[str, ...] = ACCESS(
        (),
        "names under which a reverse proxy is asked for this WebUI, such as `webui.example.org`; "
        "`*` for whatever name",
        Names(),
        more="the names and addresses of this machine, `--server-name`, `--share` and `--cors-allow-origins` "
        "need no entry",
        private=True,
    )


SETTINGS: dict[str, Setting] = {
    each.name: Setting(each.name, default=getattr(Config, each.name), **each.metadata)
    for each in fields(Config)
}
