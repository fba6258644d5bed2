"""The page: text to image, settings, and the tabs of extensions."""
import gradio as gr
from modules import processing, script_callbacks
from modules.shared import config_filename, opts, queue_lock, state
from modules_forge import main_entry

def create_ui():
    script_callbacks.ui_settings_callback()
    tabs = script_callbacks.ui_tabs_callback()
    with gr.Blocks(title="Embedded WebUI", analytics_enabled=False) as demo:
        main_entry.make_checkpoint_manager_ui()
        with gr.Tabs(elem_id="tabs"):
            with gr.TabItem("txt2img", id="txt2img"):
                _txt2img()
            for blocks, title, elem_id in tabs:
                with gr.TabItem(title, id=elem_id, elem_id=f"tab_{elem_id}"):
                    blocks.render()
            with gr.TabItem("Settings", id="settings", elem_id="tab_settings"):
                _settings()
    return demo

def _txt2img():
    prompt = gr.Textbox(label="Prompt", elem_id="txt2img_prompt")
    seed = gr.Number(-1, label="Seed", precision=0, elem_id="txt2img_seed")
    button, image = gr.Button("Generate", elem_id="txt2img_generate"), gr.Image(elem_id="txt2img_image")

    def generate(prompt, seed):
        with queue_lock:
            p = processing.StableDiffusionProcessing(prompt, int(seed))
            return processing.process_images(p).images[0]

    button.click(generate, [prompt, seed], image)

def _settings():
    """Every option that has a section, below the section's title."""
    apply, reload, result = gr.Button("Apply settings"), gr.Button("Reload UI"), gr.HTML()
    components, title = {}, None
    for key, info in sorted(opts.data_labels.items(), key=lambda x: x[1].section or ("",)):
        if info.section and info.section != title:
            title = info.section
            gr.Markdown(f"### {title[1]}")
        if info.section:
            kind = info.component or {bool: gr.Checkbox, int: gr.Number}.get(type(info.default), gr.Textbox)
            components[key] = kind(
                label=info.label, elem_id=f"setting_{key}", **info.component_args or {},
                value=info.default if info.do_not_save else lambda key=key: getattr(opts, key))

    def run_settings(*values):
        changed = [key for key, value in zip(components, values, strict=True) if opts.set(key, value)]
        opts.save(config_filename)
        return f"{len(changed)} settings changed: {', '.join(changed)}"

    apply.click(run_settings, list(components.values()), result)
    reload.click(state.request_restart)
