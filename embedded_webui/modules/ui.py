"""The page: text to image, settings, and the tabs of extensions."""
import gradio as gr
from modules import processing, script_callbacks, shared
from modules_forge import main_entry

def create_ui():
    script_callbacks.ui_settings_callback()
    tabs = script_callbacks.ui_tabs_callback()
    with gr.Blocks(title="Embedded WebUI", analytics_enabled=False) as demo:
        main_entry.make_checkpoint_manager_ui()
        with gr.Tabs(elem_id="tabs"):
            with gr.TabItem("txt2img", id="txt2img", elem_id="tab_txt2img"):
                _txt2img()
            for blocks, title, elem_id in tabs:
                with gr.TabItem(title, id=elem_id, elem_id=f"tab_{elem_id}"):
                    blocks.render()
            with gr.TabItem("Settings", id="settings", elem_id="tab_settings"):
                _settings()
    main_entry.refresh_model_loading_parameters()
    return demo

def _txt2img():
    prompt = gr.Textbox(label="Prompt", elem_id="txt2img_prompt")
    seed = gr.Number(-1, label="Seed", precision=0, elem_id="txt2img_seed")
    steps = gr.Slider(1, 20, 2, step=1, label="Steps", elem_id="txt2img_steps")
    button, image = gr.Button("Generate", elem_id="txt2img_generate"), gr.Image(elem_id="txt2img_image")
    button.click(_generate, [prompt, seed, steps], image)

def _generate(prompt, seed, steps):
    with shared.queue_lock:
        p = processing.StableDiffusionProcessing(prompt=prompt, seed=int(seed), steps=int(steps))
        return processing.process_images(p).images[0]

def _settings():
    shown = {key: info for key, info in shared.opts.data_labels.items() if info.section and info.section[0]}
    button, reload = gr.Button("Apply settings", elem_id="settings_submit"), gr.Button("Reload UI")
    result, components = gr.HTML(elem_id="settings_result"), {}
    with gr.Tabs(elem_id="settings"):
        for section in dict.fromkeys(info.section for info in shown.values()):
            with gr.TabItem(section[1], id=section[0], elem_id=f"settings_{section[0]}"):
                components |= {key: _component(key, x) for key, x in shown.items() if x.section == section}
    keys = [key for key in components if not shown[key].do_not_save]

    def run_settings(*values):
        changed = [key for key, value in zip(keys, values, strict=True) if shared.opts.set(key, value)]
        shared.opts.save(shared.config_filename)
        return f"{len(changed)} settings changed: {', '.join(changed)}"

    button.click(run_settings, [components[key] for key in keys], result)
    reload.click(shared.state.request_restart)

def _component(key, info):
    kind = info.component or {bool: gr.Checkbox, int: gr.Number}.get(type(info.default), gr.Textbox)
    args = info.component_args() if callable(info.component_args) else info.component_args or {}
    value = info.default if info.do_not_save else lambda: getattr(shared.opts, key)
    return kind(label=info.label, value=value, elem_id=f"setting_{key}", **args)
