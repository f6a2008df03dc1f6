"""Loads an export with min-dalle's or taming's own code and compares. argv: min-dalle|taming FOLDER GOLDEN, or
make-detoker|detoker FOLDER"""
import json
import sys
import types

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file

kind, folder = sys.argv[1:3]
golden = load_file(sys.argv[3]) if len(sys.argv) > 3 else {}
torch.set_grad_enabled(False)


def compare(name, got, tolerance):
    expected = golden[name]
    error = np.abs(got.numpy().reshape(expected.shape) - expected).max() / np.abs(expected).max()
    print(f"{folder.split('/')[-1]}: {kind}: {name}: largest error {error:.2e} of the largest value")
    if not error <= tolerance:
        sys.exit(f"{name} is over the tolerance of {tolerance}")


if kind == "min-dalle":
    from min_dalle.models import dalle_bart_decoder
    from min_dalle.models.dalle_bart_encoder import DalleBartEncoder

    config = json.load(open(f"{folder}/config.json"))
    dalle_bart_decoder.IMAGE_TOKEN_COUNT = config["image_length"]  # fixed there to the published models' 256
    sizes = dict(embed_count=config["d_model"], device="cpu")
    encoder = DalleBartEncoder(
        layer_count=config["encoder_layers"],
        attention_head_count=config["encoder_attention_heads"],
        text_vocab_count=config["encoder_vocab_size"],
        text_token_count=config["max_text_length"],
        glu_embed_count=config["encoder_ffn_dim"],
        **sizes,
    ).eval()
    decoder = dalle_bart_decoder.DalleBartDecoder(
        layer_count=config["decoder_layers"],
        attention_head_count=config["decoder_attention_heads"],
        image_vocab_count=config["image_vocab_size"],
        glu_embed_count=config["decoder_ffn_dim"],
        **sizes,
    ).eval()
    for module, name in ((encoder, "encoder"), (decoder, "decoder")):
        result = module.load_state_dict(torch.load(f"{folder}/{name}.pt", weights_only=True), strict=False)
        if result.unexpected_keys or any(not key.endswith("weight") for key in result.missing_keys):
            sys.exit(f"{name}.pt: missing {result.missing_keys}, unexpected {result.unexpected_keys}")
    # min-dalle masks token 1 and takes two texts at a time: the golden's padding becomes 1, and no word is.
    ids, mask = torch.from_numpy(golden["input_ids"]).long(), torch.from_numpy(golden["attention_mask"]).bool()
    states, logits = [], []
    for row in range(ids.shape[0]):
        text, seen = ids[row : row + 1].repeat(2, 1), mask[row : row + 1].repeat(2, 1)
        attention = seen[:, None, None, :]
        state = encoder.embed_tokens(text) + encoder.embed_positions(encoder.pose_tokens)
        state = encoder.layernorm_embedding(state)
        for layer in encoder.layers:
            state = layer(state, attention)
        state = encoder.final_ln(state)
        states.append(state[:1])
        tokens = torch.from_numpy(golden["decoder_input_ids"][row : row + 1]).long()
        room = torch.zeros(config["decoder_layers"], 4, config["image_length"], config["d_model"])
        out, _ = decoder(attention, state, room, tokens, torch.arange(config["image_length"]))
        logits.append(out[:1])
    compare("encoder_last_hidden_state", torch.cat(states), 5e-5)
    compare("logits", torch.cat(logits), 5e-5)
elif kind == "taming":
    sys.modules["pytorch_lightning"] = types.SimpleNamespace(LightningModule=torch.nn.Module)
    loss = types.SimpleNamespace(instantiate_from_config=lambda config: torch.nn.Identity())
    sys.modules["main"] = loss  # taming's training script, which its model imports
    from taming.models.vqgan import VQModel

    config = yaml.safe_load(open(f"{folder}/config.yaml"))
    if config["model"]["target"] != "taming.models.vqgan.VQModel":
        sys.exit("another target")
    model = VQModel(**config["model"]["params"]).eval()
    state = torch.load(f"{folder}/model.ckpt", weights_only=True)["state_dict"]
    print(model.load_state_dict(state))
    image = torch.from_numpy(golden["image"])
    quantized, _, (_, _, indices) = model.encode(image)
    if not (indices.numpy().reshape(-1) == golden["indices"].reshape(-1)).all():
        sys.exit("indices differ")
    compare("reconstruction", model.decode(quantized), 5e-5)
elif kind == "make-detoker":
    # What min-dalle publishes: its module of random weights, with a picture that it draws.
    from min_dalle.models.vqgan_detokenizer import VQGanDetokenizer

    torch.manual_seed(1)
    model = VQGanDetokenizer().eval()
    torch.save(model.state_dict(), f"{folder}/detoker.pt")
    tokens = torch.randint(0, 2**14, (1, 256))
    json.dump({"tokens": tokens.tolist()}, open(f"{folder}/tokens.jsonl", "w"))
    picture = model(False, tokens)
    Image.fromarray(picture.round().to(torch.uint8).numpy()).save(f"{folder}/theirs.png")
else:
    # Our drawing of these tokens, and our export loaded again.
    from min_dalle.models.vqgan_detokenizer import VQGanDetokenizer

    ours, theirs = (np.asarray(Image.open(f"{folder}/{name}.png")).astype(int) for name in ("ours", "theirs"))
    print(f"detoker: pictures differ by at most {abs(ours - theirs).max()} of 255")
    if abs(ours - theirs).max() > 1:
        sys.exit("the pictures differ")
    again = torch.load(f"{folder}/again/detoker.pt", weights_only=True)
    print("detoker:", VQGanDetokenizer().load_state_dict(again))
    first = torch.load(f"{folder}/detoker.pt", weights_only=True)
    if any(not torch.equal(first[key], again[key]) for key in first):
        sys.exit("the weights differ")
