"""The page: text to image, settings, and the tabs of extensions."""
import inspect
import gradio as gr
from modules import localization, processing, script_callbacks, scripts
from modules.shared import config_filename, opts, queue_lock, state
from modules_forge import main_entry

# What the real ones have in a file: each text of the page that the localisation knows, in its words.
_TRANSLATE = """setInterval(() => { const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
while (texts.nextNode()) { const found = localization[texts.currentNode.data.trim()]
if (found) texts.currentNode.data = found } }, 500)"""

def create_ui():
    script_callbacks.ui_settings_callback()
    tabs = [tab for answer in script_callbacks.ui_tabs_callback() for tab in answer or ()]
    head = f"<script>{localization.localization_js(opts.localization)}\n{_TRANSLATE}</script>"
    newer = {"head": head} if "head" in inspect.signature(gr.Blocks).parameters else {}
    with gr.Blocks(title="Embedded WebUI", analytics_enabled=False, **newer) as demo:
        main_entry.make_checkpoint_manager_ui()
        with gr.Tabs(elem_id="tabs"):
            with gr.TabItem("txt2img", id="txt2img"):
                prompt = gr.Textbox(label="Prompt", elem_id="txt2img_prompt")
                seed = gr.Number(-1, label="Seed", precision=0, elem_id="txt2img_seed")
                titles = ["None", *(x.title() for x in scripts.scripts_txt2img.selectable_scripts)]
                script = gr.Dropdown(titles, value="None", type="index", label="Script", elem_id="script_list")
                script_callbacks.after_component_callback(script, elem_id="script_list")
                button = gr.Button("Generate", elem_id="txt2img_generate")
                button.click(_generate, [prompt, seed, script], gr.Image(elem_id="txt2img_image"))
            for blocks, title, elem_id in tabs:
                with gr.TabItem(title, id=elem_id, elem_id=f"tab_{elem_id}"):
                    blocks.render()
            with gr.TabItem("Settings", id="settings", elem_id="tab_settings"):
                _settings()
        main_entry.forge_main_entry()
    return demo

def _generate(prompt, seed, script):
    with queue_lock:
        p = processing.StableDiffusionProcessingTxt2Img(prompt, int(seed))
        return (scripts.scripts_txt2img.run(p, script) or processing.process_images(p)).images[0]

def _settings():
    """Every option that has a section."""
    apply, reload, result, components = gr.Button("Apply settings"), gr.Button("Reload UI"), gr.HTML(), {}
    for key, info in opts.data_labels.items():
        if info.section:
            kind = info.component or {bool: gr.Checkbox, int: gr.Number}.get(type(info.default), gr.Textbox)
            components[key] = kind(
                label=f"{info.section[1]}: {info.label}", elem_id=f"setting_{key}",
                value=info.default if info.do_not_save else lambda key=key: getattr(opts, key),
                **info.component_args or {})

    def run_settings(*values):
        changed = [key for key, value in zip(components, values, strict=True) if opts.set(key, value)]
        opts.save(config_filename)
        return f"{len(changed)} settings changed: {', '.join(changed)}"

    apply.click(run_settings, list(components.values()), result)
    reload.click(state.request_restart)
