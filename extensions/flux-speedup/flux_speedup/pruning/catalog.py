"""What is known of every script that can be left out: its group, its names, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass

KEEP, LEAVE_OUT = "keep", "leave out"
"""What can be chosen for a group, besides auto."""
# Configuration key of a group -> what users call it.
GROUPS = {
    "group_controlnet": "ControlNet and its preprocessors",
    "group_ip_adapter": "IP-Adapter and style",
    "group_guidance": "Guidance experiments",
    "group_hires": "Hires and tiling helpers",
    "group_upscalers": "Extra upscalers and face restoration",
    "group_batch": "Batch scripts",
}


@dataclass(frozen=True)
class Entry:
    """One script file by its stem.

    titles: names that requests and the page's "Script" list use. upscalers: first words of the names it adds;
    weights: its folder below `models`, whose files are upscalers too. postprocessing: its name among the
    operations of the Extras tab. routes: first part of the API addresses it serves. switches: labels of what
    turns it on, beside its titles and "Enabled". infotext: keys of image parameters that turn it on.
    any_switch: each of its arguments turns it on by itself, else the first does.
    part_of: another stem without which it is of no use, and which is not whole without it.
    """

    stem: str
    group: str
    titles: tuple[str, ...] = ()
    upscalers: tuple[str, ...] = ()
    weights: str = ""
    postprocessing: str = ""
    routes: str = ""
    switches: tuple[str, ...] = ()
    infotext: tuple[str, ...] = ()
    any_switch: bool = False
    part_of: str = ""

    @property
    def shown(self) -> str:
        """What people call it."""
        names = (
            self.titles or (self.postprocessing,) if self.titles or self.postprocessing else self.upscalers
        )
        return names[0] if names else self.stem


def _control(stem: str, group: str = "group_controlnet") -> Entry:
    return Entry(stem, group, part_of="controlnet")


ENTRIES = (
    Entry(
        "controlnet",
        "group_controlnet",
        ("ControlNet",),
        routes="/controlnet",
        switches=("ControlNet Unit",),
        infotext=("ControlNet ",),
    ),
    Entry("forge_dynamic_thresholding", "group_guidance", ("DynamicThresholding (CFG-Fix) Integrated",)),
    Entry(
        "forge_freeu",
        "group_guidance",
        ("FreeU Integrated (SD 1.x, SD 2.x, SDXL)", "FreeU Integrated"),
        infotext=("freeu_enabled",),
    ),
    Entry("forge_multidiffusion", "group_hires", ("MultiDiffusion Integrated",)),
    Entry("forge_never_oom", "group_hires", ("Never OOM Integrated",), any_switch=True),
    Entry(
        "forge_perturbed_attention",
        "group_guidance",
        ("PerturbedAttentionGuidance Integrated",),
        infotext=("pagi_enabled",),
    ),
    Entry(
        "forge_sag",
        "group_guidance",
        ("SelfAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)", "SelfAttentionGuidance Integrated"),
        infotext=("sag_enabled",),
    ),
    Entry("forge_stylealign", "group_ip_adapter", ("StyleAlign Integrated",), switches=("Share attention",)),
    Entry("soft_inpainting", "group_hires", ("Soft Inpainting",), infotext=("Soft inpainting enabled",)),
    Entry("postprocessing_codeformer", "group_upscalers", postprocessing="CodeFormer"),
    Entry("postprocessing_gfpgan", "group_upscalers", postprocessing="GFPGAN"),
    Entry("postprocessing_focal_crop", "group_upscalers", postprocessing="Auto focal point crop"),
    Entry("scunet_model", "group_upscalers", upscalers=("ScuNET",), weights="ScuNET"),
    Entry("swinir_model", "group_upscalers", upscalers=("SwinIR",), weights="SwinIR"),
    _control("legacy_preprocessors"),
    _control("preprocessor_inpaint"),
    _control("preprocessor_marigold"),
    _control("preprocessor_normalbae"),
    _control("preprocessor_recolor"),
    _control("forge_reference", "group_ip_adapter"),
    _control("preprocessor_revision", "group_ip_adapter"),
    _control("preprocessor_tile"),
    _control("forge_controllllite"),
    _control("xyz_grid_support"),
    _control("forge_fooocus_inpaint"),
    _control("forge_ipadapter", "group_ip_adapter"),
    Entry("kohya_hrfix", "group_hires", ("Kohya HRFix Integrated",), infotext=("kohya_hrfix_enabled",)),
    Entry(
        "forge_latent_modifier",
        "group_guidance",
        ("LatentModifier Integrated",),
        infotext=("latent_modifier_enabled",),
    ),
    Entry("prompt_matrix", "group_batch", ("Prompt matrix",)),
    Entry("prompts_from_file", "group_batch", ("Prompts from file or textbox",)),
    Entry("xyz_grid", "group_batch", ("X/Y/Z plot",)),
    Entry("img2imgalt", "group_batch", ("img2img alternative test",)),
    Entry("loopback", "group_batch", ("Loopback",)),
    Entry("outpainting_mk_2", "group_batch", ("Outpainting mk2",)),
    Entry("poor_mans_outpainting", "group_batch", ("Poor man's outpainting",)),
    Entry("sd_upscale", "group_batch", ("SD upscale",)),
)
LEFT_OUT = tuple(entry.stem for entry in ENTRIES)
BY_STEM = {entry.stem: entry for entry in ENTRIES}

# LoRA is what Flux users use, and we are what leaves out the others.
NEVER = ("lora_script", "flux_speedup")


def entry(stem: str) -> Entry:
    """What is known of a script; of one that is not in the catalogue, its stem."""
    return BY_STEM.get(stem.lower()) or Entry(stem, "")
