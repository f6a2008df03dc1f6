"""Loads an export with dalle-mini's or vqgan-jax's own code and compares with golden data. argv: seq2seq|vqgan FOLDER GOLDEN"""
import sys
import types

sys.modules["wandb"] = types.SimpleNamespace(run=None)  # dalle-mini imports it and needs it for downloads alone
import jax

jax.config.update("jax_platforms", "cpu")
import jax.numpy as jnp
import jax.experimental
import numpy as np
from safetensors.numpy import load_file

kind, folder, golden = sys.argv[1:]
golden = load_file(golden)
jnp.DeviceArray = jax.Array  # names that older jax had, and that the original's imports ask for
jax.experimental.PartitionSpec = jax.sharding.PartitionSpec


def compare(name, got, tolerance):
    expected = golden[name]
    error = np.abs(np.asarray(got).reshape(expected.shape) - expected).max() / np.abs(expected).max()
    print(f"{folder.split('/')[-1]}: {name}: largest error {error:.2e} of the largest value")
    if not error <= tolerance:
        sys.exit(f"{name} is over the tolerance of {tolerance}")


if kind == "seq2seq":
    from dalle_mini.model.configuration import DalleBartConfig
    from dalle_mini.model.modeling import DalleBart

    config = DalleBartConfig.from_pretrained(folder)
    model, params = DalleBart.from_pretrained(folder, config=config, _do_init=False)
    out = model(
        input_ids=jnp.asarray(golden["input_ids"]),
        attention_mask=jnp.asarray(golden["attention_mask"]),
        decoder_input_ids=jnp.asarray(golden["decoder_input_ids"]),
        params=params,
    )
    compare("encoder_last_hidden_state", out.encoder_last_hidden_state, 5e-5)
    compare("logits", out.logits, 5e-5)
else:
    from vqgan_jax.modeling_flax_vqgan import VQModel

    model = VQModel.from_pretrained(folder)
    image = jnp.asarray(golden["image"])
    if image.shape[1] == 3:
        image = image.transpose(0, 2, 3, 1)
    _, indices = model.encode(image)
    if not (np.asarray(indices).reshape(-1) == golden["indices"].reshape(-1)).all():
        sys.exit("indices differ")
    picture = model.decode_code(jnp.asarray(golden["indices"]).reshape(image.shape[0], -1))
    compare("reconstruction", np.asarray(picture).transpose(0, 3, 1, 2) if golden["reconstruction"].shape[1] == 3 else picture, 5e-5)
