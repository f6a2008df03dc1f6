# Fine-tuning: parts of a model, LoRA adapters, more words than it had; and what --plan says of it.
. "$(dirname "$0")/support.sh"
make_tokens --steps 3
config="$configs/micro.json"

train() {
    limn-train --data tokens/train --tokenizer "${vocabulary:-tokenizer}" --vqgan vqgan/model "$@"
}
quietly train --config "$config" --steps 3 --output first

# The section train alone: the model is --init's.
echo '{"train": {"seq2seq": {"batch_size": 4, "steps": 10, "learning_rate": 1e-3, "warmup_steps": 0, "log_every": 1}}}' >tune.json
changed() { compare-weights "$1/model.safetensors" "$2/model.safetensors" | tr '\n' ' '; }

# Named parts are trained, all else stays bit for bit, also with weight decay.
quietly train --config tune.json --init first/model --steps 3 --output embeddings --train embed_tokens,lm_head
got=$(changed first/model embeddings/model)
[ "$got" = "lm_head.weight model.decoder.embed_tokens.weight model.encoder.embed_tokens.weight " ] || fail "changed: $got"
expect 2 "no weight's name holds 'embed_token'" train --config tune.json --init first/model --output typo --train embed_token
expect 2 'inputs.train' train --config tune.json --init first/model --steps 5 --output embeddings --train lm_head

# LoRA: the model's weights stay, the adapters' do not; drawing and converting take both together; a kill changes nothing.
lora='train.seq2seq.lora_rank=4 train.seq2seq.checkpoint_every=2'
quietly train --config tune.json --init first/model --steps 6 --output lora --set $lora
[ -z "$(changed first/model lora/model)" ] || fail "LoRA changed the model's own weights"
[ -s lora/model/adapter_model.safetensors ] || fail "no adapters are saved"
killed_until_done 0.05 limn-train --data tokens/train --tokenizer tokenizer --vqgan vqgan/model --config tune.json \
    --init first/model --steps 6 --output lora-killed --set $lora
cmp lora/model/adapter_model.safetensors lora-killed/model/adapter_model.safetensors || fail "adapters differ after kills"
quietly limn-convert lora/model merged
[ -n "$(changed first/model merged)" ] || fail "merging changed nothing"
echo mine >merged.merging # a second time nothing is merged
quietly limn-convert lora/model merged
[ "$(cat merged.merging)" = mine ] || fail "merges what is converted already"
grep -q '"source": .*merging' merged/conversion.json && fail "the merged copy is recorded as the source"
[ ! -e merged/adapter_config.json ] || fail "a merged model has adapters"
quietly limn-sample --model lora/model --prompt "a red square" --count 1 --seed 3 --output adapted.png
quietly limn-sample --model merged --prompt "a red square" --count 1 --seed 3 --output merged.png
[ -s adapted.png ] && [ -s merged.png ] || fail "nothing is drawn"
expect 2 'lora_targets' train --config tune.json --init first/model --output none \
    --set train.seq2seq.lora_rank=2 train.seq2seq.lora_targets=q_proi
echo '{}' >lora/model/adapter_config.json
expect 1 'adapter_config.json' limn-sample --model lora/model --prompt x --count 1 --output never.png

# A word more than the model knew.
quietly limn-tokenizer add --tokenizer tokenizer --token '<sketch>' --output more
expect 2 'has it already' limn-tokenizer add --tokenizer more --token '<sketch>' --output twice
[ ! -e twice ] || fail "a refused tokenizer is there"
vocabulary=more
quietly train --config tune.json --init first/model --steps 2 --output wider
words() { sed -n 's/.*"encoder_vocab_size": *\([0-9]*\).*/\1/p' "$1/config.json"; }
[ "$(words wider/model)" = $(($(words first/model) + 1)) ] || fail "the wider model has $(words wider/model) words"
ids=$(echo '<sketch>' | limn-tokenizer encode --tokenizer wider/model)
[ "$(echo "$ids" | tr -cd , | wc -c)" = 2 ] || fail "the new word is not one token: $ids"

# --plan needs no data.
limn-train --plan --config "$config" --set train.seq2seq.precision=bf16 >plan.txt || fail "--plan"
grep -q 'largest batch_size here' plan.txt || fail "the plan names no largest batch"
limn-train --plan --config "$config" --json | grep -q '"total_bytes": [1-9]' || fail "--plan --json"
expect 2 'precision' limn-train --plan --config "$config" --set train.seq2seq.precision=fp8
expect 2 'batchsize' limn-train --plan --config "$config" --set train.seq2seq.batchsize=64
limn-train --help | grep -q -- '--json' || fail "the help does not say how the plan is printed as JSON"
