"""A checkpoint is a folder that Hugging Face's `from_pretrained` opens as it stands."""

import contextlib
import json
import os
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file

import dist_llm
from dist_llm.config import Config, ModelConfig
from dist_llm.data.loader import Loader, TokensInMemory
from dist_llm.interop.export import export
from dist_llm.interop.huggingface import model_files, write
from dist_llm.model.llama import Llama
from dist_llm.text import Tokenizer, save_tokenizer, train_tokenizer
from dist_llm.training.checkpoint import load_weights, save_checkpoint
from dist_llm.training.step import TrainStep
from tests.text.samples import PROSE

GROUPED = ModelConfig(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, max_seq_len=64, tie_embeddings=False,
    norm_eps=3e-5, rope_theta=500.0, init_std=0.3,
)  # fmt: skip
TIED = ModelConfig(dim=32, n_layers=2, n_heads=4, ffn_dim=48, max_seq_len=64, init_std=0.3)


@pytest.fixture
def transformers():
    """Hugging Face's transformers, whose own warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torch")
        yield pytest.importorskip("transformers")


def checkpoint_of(config: ModelConfig, tokenizer: Tokenizer, folder) -> tuple[Llama, object]:
    model = Llama(config, tokenizer.vocab_size)
    model.params.initialize(np.random.default_rng(5))
    model.params["model.norm.weight"].data[...] = np.linspace(0.5, 2, config.dim)
    texts = model_files(config, tokenizer.vocab_size, tokenizer)
    return model, save_checkpoint(folder, {"model": model.state_dict()}, {"step": 1}, texts)


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@pytest.mark.parametrize("config", [GROUPED, TIED], ids=["grouped", "tied"])
def test_a_checkpoint_is_a_hugging_face_model(transformers, tmp_path, config, kind):
    import torch

    tokenizer = train_tokenizer(kind, [PROSE], 400)
    model, folder = checkpoint_of(config, tokenizer, tmp_path)
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = PROSE[1000:1100]
    tokens = tokenizer.encode(text)
    assert their_tokenizer(text)["input_ids"] == tokens.tolist()
    assert their_tokenizer.decode(tokens.tolist()) == text
    assert their_tokenizer.eos_token_id == tokenizer.eot_id
    assert theirs.config.eos_token_id == theirs.generation_config.eos_token_id == tokenizer.eot_id
    ids = torch.tensor(tokens[None, :64].astype(np.int64))
    with torch.no_grad():
        logits = theirs(ids).logits.numpy()
    ours = model.logits(tokens[None, :64])
    assert np.abs(logits - ours).max() < 3e-5 * np.abs(ours).max()
    lm = dist_llm.LanguageModel(model, tokenizer, Config())
    written = theirs.generate(ids[:, :8], max_new_tokens=20, do_sample=False, pad_token_id=0)
    expected = lm.generate(tokenizer.decode(tokens[:8]), 20, temperature=0.0)
    assert their_tokenizer.decode(written[0], skip_special_tokens=True) == expected


def test_a_character_that_is_not_in_the_alphabet_is_an_error_there_too(transformers, tmp_path):
    _, folder = checkpoint_of(TIED, train_tokenizer("char", ["abc"], 0), tmp_path)
    with pytest.raises(Exception, match=r"Missing \[UNK\] token"):
        transformers.AutoTokenizer.from_pretrained(folder)("abd")


def test_weights_come_back_in_every_bit(tmp_path):
    model, folder = checkpoint_of(GROUPED, train_tokenizer("byte", [], 0), tmp_path)
    again = Llama(GROUPED, 257)
    load_weights(folder, again)
    assert np.array_equal(again.params.data, model.params.data)
    name = "model.layers.0.self_attn.k_proj.weight"
    there = load_file(folder / "model.safetensors")[name]
    assert not np.array_equal(there, model.params[name].data)
    assert np.array_equal(there[:4], model.params[name].data[0:8:2])  # the even elements of the first head


@pytest.mark.parametrize("config", [GROUPED, TIED], ids=["grouped", "tied"])
def test_a_step_goes_on_from_its_state_in_every_bit(config):
    whole = Config().replace({"train": {"batch_size": 2}, "parallel": {"threads": 1}})
    whole = dist_llm.Config(config, whole.data, whole.optim, whole.parallel, whole.train).with_vocabulary(257)
    tokens = TokensInMemory(np.arange(2000, dtype=np.int32) % 257, "text", 2000)
    step = TrainStep(whole, Loader.of(tokens, whole))
    step()
    state = {part: {n: a.copy() for n, a in arrays.items()} for part, arrays in step.state_dict().items()}
    other = TrainStep(whole, Loader.of(tokens, whole))
    other.load_state_dict(state, 1)
    assert step().loss == other().loss
    assert np.array_equal(step.model.params.data, other.model.params.data)


def llama(transformers, folder, sharded=False, dtype="float32", **changes):
    """A small random Llama that transformers itself makes and saves."""
    import torch

    torch.manual_seed(3)
    fields = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 256,
        "eos_token_id": 256, "initializer_range": 0.3,
    }  # fmt: skip
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields | changes))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = torch.linspace(0.5, 2, parameter.numel())
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="30KB" if sharded else "1GB")
    save_tokenizer(train_tokenizer("byte", [], 0), folder)
    return model


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sharded": True},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 4, "rms_norm_eps": 3e-3},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
        {"rope_parameters": LLAMA3},
        {"dtype": "bfloat16"},
        {"dtype": "float16", "sharded": True},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_their_models_give_their_logits_and_go_out_as_they_came(transformers, tmp_path, changes):
    import torch

    llama(transformers, tmp_path / "theirs", **changes)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "theirs", dtype=torch.float32)
    lm = dist_llm.load(tmp_path / "theirs")
    tokens = np.random.default_rng(0).integers(0, 257, (2, 100))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(lm.model.logits(tokens), expected, atol=3e-5 * np.abs(expected).max())
    dtype = changes.get("dtype", "float32")
    export(tmp_path / "again", lm.model, lm.tokenizer, "huggingface", dtype)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "again", dtype=getattr(torch, dtype))
    there = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "theirs", dtype=getattr(torch, dtype))
    for name, parameter in there.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name
    for key in ("rms_norm_eps", "rope_parameters", "tie_word_embeddings", "eos_token_id", "max_position_embeddings"):
        assert getattr(again.config, key) == getattr(there.config, key), key


def test_what_a_config_does_not_say_is_transformers_default(transformers, tmp_path):
    import torch

    theirs = llama(transformers, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("rope_parameters", "rms_norm_eps", "head_dim", "tie_word_embeddings"):
        del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokens = np.arange(100)[None]
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(dist_llm.load(tmp_path).model.logits(tokens), expected, atol=1e-3)


@pytest.fixture
def foreign(tmp_path):
    """A folder of Hugging Face's, made without transformers."""
    model = Llama(GROUPED, 300)
    model.params.initialize(np.random.default_rng(5))
    (tmp_path / "foreign").mkdir()
    write(tmp_path / "foreign", model, train_tokenizer("byte", [], 0))
    return tmp_path / "foreign"


def change(folder, **fields):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "qwen2"}, "model_type is qwen2, which is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act is gelu, which is not supported"),
        ({"attention_bias": True}, "attention_bias is True, which is not supported"),
        ({"mlp_bias": True}, "mlp_bias is True, which is not supported"),
        ({"sliding_window": 64}, "sliding_window is 64, which is not supported"),
        ({"head_dim": 16}, "head_dim is 16, which is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type is yarn, which is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is there, which is not supported"),
        ({"hidden_size": "absent"}, "config.json does not say hidden_size"),
        ({"hidden_size": "32"}, "config.json: "),
        ({"num_hidden_layers": -1}, "model.n_layers must be above 0, not -1"),
        ({"num_hidden_layers": 10**12}, "and the weights are "),
        ({"vocab_size": 301}, "and the weights are "),
        ({"num_attention_heads": 0}, "config.json: "),
        ({"num_attention_heads": 3}, "config.json: "),
        ({"rope_parameters": 7}, "config.json: "),
        ({"head_dim": "x" * 1000, "num_attention_heads": 10**9}, "config.json: head_dim is not a whole number"),
        ({"hidden_size": 32, "num_attention_heads": [1]}, "config.json: num_attention_heads is not a whole number"),
        ({"vocab_size": None}, "config.json: vocab_size is null"),
        ({"max_position_embeddings": 10**12}, "a context of 1,000,000,000,000 tokens is too long for so small a model"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(foreign, fields, message):
    change(foreign, **fields)
    with pytest.raises(dist_llm.UserError) as caught:
        dist_llm.load(foreign)
    assert message in str(caught.value)
    assert str(foreign) in str(caught.value)


def test_damaged_weights_are_refused(foreign):
    path = foreign / "model.safetensors"
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    messages = []
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(header)] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            dist_llm.load(foreign)
        except dist_llm.UserError as error:
            messages.append(str(error))
    assert len(messages) > 250  # else the bit was in what nobody reads
    assert all(str(foreign) in message for message in messages)
    for size in (0, 5, 8, 100, header, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(dist_llm.UserError, match=r"cannot read .*model\.safetensors"):
            dist_llm.load(foreign)
    path.write_bytes((2**63).to_bytes(8, "little") + content[8:])
    with pytest.raises(dist_llm.UserError, match=r"cannot read .*model\.safetensors"):
        dist_llm.load(foreign)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_no_damage_to_a_text_file_is_more_than_a_user_error(foreign, name):
    path = foreign / name
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with contextlib.suppress(dist_llm.UserError):
            dist_llm.load(foreign)
    for size in (0, 1, len(content) // 2, len(content) - 2):
        path.write_bytes(content[:size])
        with pytest.raises(dist_llm.UserError, match=name):
            dist_llm.load(foreign)
    for hostile in (b"[" * 100_000, b"null", b"[]", b'"a"', b"1e999", b'{"model": {"type": "BPE"}}', b"{}"):
        path.write_bytes(hostile)
        with contextlib.suppress(dist_llm.UserError):
            dist_llm.load(foreign)


@pytest.mark.parametrize("name", ["..", "", "/etc/passwd", "a\0b", "../model.safetensors", 3, ["a"], None])
def test_an_index_names_no_files_elsewhere(foreign, name):
    (foreign / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(dist_llm.UserError, match=r"model\.safetensors\.index\.json is damaged"):
        dist_llm.load(foreign)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json",
                                  "tokenizer_config.json"])  # fmt: skip
def test_a_fifo_is_told_at_once(foreign, name):
    (foreign / name).unlink(missing_ok=True)
    os.mkfifo(foreign / name)
    with pytest.raises(dist_llm.UserError, match=rf"{name}.*it is not a regular file"):
        dist_llm.load(foreign)


def test_a_vocabulary_that_the_model_has_no_rows_for_is_told(foreign):
    save_tokenizer(train_tokenizer("bpe", [PROSE], 400), foreign)
    with pytest.raises(dist_llm.UserError, match=r"model\.vocab_size=300 is less than the tokenizer's 400"):
        dist_llm.load(foreign)


def test_pickled_weights_are_not_opened(foreign):
    (foreign / "model.safetensors").rename(foreign / "pytorch_model.bin")
    with pytest.raises(dist_llm.UserError, match=r"pytorch_model\.bin is pickled.*convert it to safetensors"):
        dist_llm.load(foreign)
