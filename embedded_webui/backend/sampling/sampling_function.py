"""One step of a sampler: the model's answer to its prompt. Flux has no negative one."""

def calc_cond_uncond_batch(model, cond, uncond, x_in, timestep, model_options):
    return model.apply_model(x_in, timestep, **cond), uncond
