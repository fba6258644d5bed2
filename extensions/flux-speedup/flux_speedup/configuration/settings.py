"""The one table of settings. To add one: one entry in `Config`, then `python -m flux_speedup.configuration`.

The entry is the field that code reads (`config.streams`), and all that is known of it. From it come the flag
(`--flux-speedup-streams`), the environment variable (`FLUX_SPEEDUP_STREAMS`), the entry of the Settings page
where it has a `label`, the row of `GET config`, and, written by the command above and checked by the tests,
`config.json` and `docs/settings.md`. A label, help or choice on the Settings page wants its translations in
`ui/languages/*.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..pruning.catalog import LEFT_OUT
from .kinds import Choice, Kind, Names, Number, Seconds, Switch
from .setting import FORGE, FORGE_AND_NEO, THE_FOUR, Setting, setting

GROUP_WORDS = ("auto", "keep", "leave out")
_GROUP = Choice(GROUP_WORDS)
_KEEP = ("keep", "leave out")

GENERAL = "General"
TIERS = "Memory tiers"
WEIGHTS = "Weights and checkpoints"
TORCH = "PyTorch"
START = "Starting"
SCRIPTS = "Scripts that are not loaded"
FIGURES = "Figures"
ACCESS = "Access"


@dataclass(frozen=True)
class Config:
    """Every setting with its default. GiB = 2^30 bytes, as card makers count."""

    enabled: bool = setting(
        True,
        Switch(),
        GENERAL,
        "off puts every change back at once; as configured leaves it to the configuration file",
        label="Flux Speedup",
    )
    tier: str = setting(
        "auto",
        Choice(("auto", "large", "standard", "off")),
        TIERS,
        "on decides by the card's memory; off leaves the WebUI's own numbers",
        more="`on` is another word for `auto`; `large` and `standard` choose",
        label="Memory tier",
        choices=("on", "off", "large", "standard"),
        hosts=FORGE_AND_NEO,
    )
    large_tier_over_gib: float = setting(
        50.0, Number(0, 4096), TIERS, "cards with more VRAM than this are large", hosts=FORGE_AND_NEO
    )
    large_tier_inference_share: float = setting(
        0.25, Number(0.05, 0.95), TIERS, "share of VRAM kept for inference", hosts=FORGE_AND_NEO
    )
    large_tier_swap_divisor: float = setting(
        1.15, Number(1, 4), TIERS, "a model that does not fit keeps free / this on the card ...", hosts=FORGE
    )
    large_tier_swap_reserve_gib: float = setting(
        2.0, Number(0, 64), TIERS, "... or free less this, whichever is more", hosts=FORGE
    )
    large_tier_low_vram_below_gib: float = setting(
        -1.0,
        Number(-64, 0),
        TIERS,
        "swapping starts when the estimate of what remains is below this",
        hosts=FORGE,
    )
    large_tier_process_share: float = setting(
        0.95, Number(0.5, 1), TIERS, "share of the card this process may take", hosts=FORGE_AND_NEO
    )
    standard_tier_inference_share: float | None = setting(
        None,
        Number(0.05, 0.95, optional=True),
        TIERS,
        "the same split for other cards; null leaves the WebUI's numbers",
        hosts=FORGE_AND_NEO,
    )
    pinning: bool = setting(
        True,
        Switch(),
        TIERS,
        "keep weights where the card reads them directly; takes RAM that no other program can use",
        more="large tier",
        label="Pinned weights",
        hosts=FORGE,
    )
    streams: bool = setting(
        True,
        Switch(),
        TIERS,
        "move weights while the card computes, where the card has streams",
        label="Copy streams",
        hosts=FORGE,
    )
    attention_kernels: bool = setting(
        True,
        Switch(),
        TORCH,
        "allow PyTorch's flash, memory-efficient and math kernels",
        label="Attention kernels",
    )
    allocator: bool = setting(
        True, Switch(), TORCH, "expandable segments in PyTorch's allocator", more="Linux", restart=True
    )
    cudnn_benchmark: bool = setting(
        False,
        Switch(),
        TORCH,
        "let cuDNN time its algorithms; results may differ in the last bit between runs",
    )
    weights: bool = setting(
        True,
        Switch(),
        WEIGHTS,
        "loads stream from the file at the speed of the bus, unloads copy nothing",
        label="Weights stay in their files",
        hosts=THE_FOUR,
    )
    direct: str = setting(
        "auto",
        Choice(("on", "auto", "off")),
        WEIGHTS,
        "weight files are registered with CUDA, and the GPU reads them without the CPU's help; they then take "
        "their size of RAM that nothing else can use",
        more="`auto`: files of what streams; `on`: whatever is loaded, too, once nobody makes an image (where it "
        "was measured, no load was faster); half of the free RAM at most; `off`: never; Linux, with `weights`",
        hosts=FORGE_AND_NEO,
    )
    streaming: bool = setting(
        True,
        Switch(),
        WEIGHTS,
        "a model that does not fit on the card is run from its files: layers come while others compute",
        more="CUDA, with `weights`",
        label="Models that do not fit are streamed",
        hosts=FORGE_AND_NEO,
    )
    overlap: bool = setting(
        True,
        Switch(),
        WEIGHTS,
        "the transformer comes to the card while the text is encoded, where there is room for both",
        more="with `weights`",
        label="Loading while the text is encoded",
        hosts=FORGE,
    )
    checkpoints: bool = setting(
        True,
        Switch(),
        WEIGHTS,
        "switching back takes what its transfer takes",
        more="with `weights`",
        label="Checkpoints used before are kept",
        hosts=FORGE_AND_NEO,
    )
    checkpoints_kept: int = setting(
        4, Number(1, 64, whole=True), WEIGHTS, "how many are kept besides the one in use", hosts=FORGE_AND_NEO
    )
    checkpoints_ram_gib: float = setting(
        8.0,
        Number(0, 4096),
        WEIGHTS,
        "RAM that all kept ones may hold; what lies in their files does not count",
        hosts=FORGE_AND_NEO,
    )
    needless_unloads: bool = setting(
        True,
        Switch(),
        WEIGHTS,
        "models are unloaded, and the prompt is encoded anew, only where something changed",
        hosts=FORGE_AND_NEO,
    )
    read_ahead: bool = setting(
        True,
        Switch(),
        START,
        "the selected model is read into the page cache while the WebUI starts",
        label="Read-ahead",
        hosts=THE_FOUR,
    )
    digest: bool = setting(
        True,
        Switch(),
        START,
        "model hashes are computed in the background, once in a file's life",
        hosts=THE_FOUR,
    )
    hash_wait: str = setting(
        "when needed",
        Choice(("when needed", "never")),
        START,
        "the text of an image waits for the hash of a file used for the first time; with never it goes without",
        more="needs `digest`",
        label="Waiting for hashes",
        choices=("when needed", "never"),
        hosts=THE_FOUR,
    )
    fast_callbacks: bool = setting(
        True,
        Switch(),
        START,
        "no source code is read for every callback that an extension registers",
        label="Fast registration of callbacks",
    )
    local_models: bool = setting(
        True,
        Switch(),
        START,
        "weights that are on this machine are not asked for on the network",
        label="Local weights for ADetailer and upscalers",
    )
    fetch_at_start: bool = setting(
        False,
        Switch(),
        START,
        "weights of the catalog that are missing are fetched before the WebUI starts",
        restart=True,
    )
    lazy_apps: bool = setting(
        True,
        Switch(),
        START,
        "web apps of inner pages, of which gradio 4 makes two each, are made only when used",
    )
    garbage: bool = setting(
        True,
        Switch(),
        START,
        "what the start has made is left out of garbage collection, which the first build waits for",
        hosts=FORGE,
    )
    pruning: bool = setting(
        True,
        Switch(),
        SCRIPTS,
        "off loads all of them; what you use is kept, and LoRA always is",
        label="Leave out scripts that Flux does not need",
    )
    left_out: tuple[str, ...] = setting(
        LEFT_OUT, Names(), SCRIPTS, "which: file names of scripts without `.py`, or shell patterns"
    )
    keep: tuple[str, ...] = setting((), Names(), SCRIPTS, "names or patterns that are loaded all the same")
    group_controlnet: str = setting(
        "auto",
        _GROUP,
        SCRIPTS,
        "as configured keeps it where models/ControlNet holds a weight",
        more="`auto` goes by `left_out`; `keep` and `leave out` choose",
        label="Scripts: ControlNet and its preprocessors",
        choices=_KEEP,
    )
    group_ip_adapter: str = setting(
        "auto",
        _GROUP,
        SCRIPTS,
        "IP-Adapter, reference, revision, StyleAlign",
        label="Scripts: IP-Adapter and style",
        choices=_KEEP,
    )
    group_guidance: str = setting(
        "auto",
        _GROUP,
        SCRIPTS,
        "FreeU, SAG, PAG, dynamic thresholding, latent modifier",
        label="Scripts: Guidance experiments",
        choices=_KEEP,
    )
    group_hires: str = setting(
        "auto",
        _GROUP,
        SCRIPTS,
        "MultiDiffusion, Kohya HRFix, Never OOM, soft inpainting",
        label="Scripts: Hires and tiling helpers",
        choices=_KEEP,
    )
    group_upscalers: str = setting(
        "auto",
        _GROUP,
        SCRIPTS,
        "SwinIR, ScuNET, and CodeFormer, GFPGAN, focal crop in the Extras tab",
        label="Scripts: Extra upscalers and face restoration",
        choices=_KEEP,
    )
    group_batch: str = setting(
        "auto",
        _GROUP,
        SCRIPTS,
        "X/Y/Z plot, prompt matrix, loopback, outpainting, SD upscale and others",
        label="Scripts: Batch scripts",
        choices=_KEEP,
    )
    statistics: bool = setting(
        True,
        Switch(),
        FIGURES,
        "time every load, move and unload; off keeps no figures and writes no file",
        label="Statistics",
    )
    statistics_rows: int = setting(
        10_000,
        Number(100, 10_000, whole=True),
        FIGURES,
        "how many events, and how many requests, the database keeps",
    )
    requests: bool = setting(
        True,
        Switch(),
        FIGURES,
        "tell apart where the seconds of every image request go; needs statistics",
        label="Times of requests",
    )
    load_in_infotext: bool = setting(
        False,
        Switch(),
        FIGURES,
        "on adds what loading took to the generation parameters that images carry",
        more="as `Load: 0.40 s`",
        label="Loading time in image files",
    )
    refresh_s: float = setting(
        5.0,
        Seconds(0, 3600),
        FIGURES,
        "how often the figures in the Flux Speedup tab follow, while somebody looks at them",
        more="seconds; `off` or 0 for never",
        label="The tab refreshes itself",
        choices=("2 s", "5 s", "30 s", "off"),
    )
    translations: bool = setting(
        True,
        Switch(),
        GENERAL,
        "Russian and Chinese, when such a localization is chosen; your own entries win",
        label="Texts in the language of the WebUI",
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        Names(),
        ACCESS,
        "names under which a reverse proxy is asked for this WebUI, such as `webui.example.org`; "
        "`*` for whatever name",
        more="the names and addresses of this machine, `--server-name`, `--share` and `--cors-allow-origins` "
        "need no entry",
        private=True,
    )


SETTINGS: dict[str, Setting] = {
    each.name: Setting(each.name, default=getattr(Config, each.name), **each.metadata)
    for each in fields(Config)
}
KINDS: dict[str, Kind] = {key: each.kind for key, each in SETTINGS.items()}
