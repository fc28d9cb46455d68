"""Two-layer Llamas of random weights: written as real servers load them, and computed by numpy beside them.

`real_servers` has them served; the tests ask `TinyLlama.loss` what a text costs. It knows the model's mathematics and
the two file formats (GGUF for llama.cpp, config + safetensors + tokenizer for Hugging Face's), and no server.
"""

import json
import math
import re
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CORPUS = (
    "The capital of France is Paris, and it rains there. The capital of Italy is Rome. "
    "Q: What is the capital of France? A: Paris. Q: What is the capital of Italy? A: Rome. "
    "Über den Wolken ist die Freiheit grenzenlos; ça va très bien, merci. 東京は日本の首都です。 "
)
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% if not loop.last or m['role'] != 'assistant' %}"
    "<|end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
HIDDEN, HEADS, FEED, LAYERS, CONTEXT = 128, 2, 192, 2, 512
HEAD = HIDDEN // HEADS
EPSILON, THETA = 1e-5, 10_000.0
BOS = "<|begin|>"

#: As GPT-2 cuts a text before it merges: words and punctuation with the space in front of them.
_CUT = re.compile(r"'(?:[stmd]|re|ve|ll)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

Floats = NDArray[np.float64]


def _shown() -> list[str]:
    """A printable character for each byte, as GPT-2's vocabulary writes them."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    strange = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(strange)) for byte in range(256)]


SHOWN = _shown()


class TinyLlama:
    """`seed` makes the weights, `merges` the tokenizer; `begins`: a text is given a first token by the tokenizer."""

    def __init__(self, seed: int, merges: int = 60, *, begins: bool = True, corpus: str = CORPUS) -> None:
        self.begins = begins
        words = [tuple(SHOWN[byte] for byte in word.encode()) for word in _CUT.findall(corpus)]
        self.merges: list[tuple[str, str]] = []
        for _ in range(merges):
            counts = Counter(pair for word in words for pair in pairwise(word))
            best = max(counts, key=lambda pair: (counts[pair], pair))
            self.merges.append(best)
            words = [_merged(word, best) for word in words]
        self.vocabulary = [BOS, *SHOWN, *(left + right for left, right in self.merges)]
        self.index = {piece: number for number, piece in enumerate(self.vocabulary)}
        self.weights = _weights(np.random.default_rng(seed), len(self.vocabulary))

    def encode(self, text: str, *, begins: bool | None = None) -> list[int]:
        pieces: list[str] = []
        for cut in _CUT.findall(text):
            word = tuple(SHOWN[byte] for byte in cut.encode())
            for pair in self.merges:
                word = _merged(word, pair)
            pieces += word
        return [*([0] if (self.begins if begins is None else begins) else []), *(self.index[piece] for piece in pieces)]

    def logprobs(self, tokens: list[int]) -> list[float | None]:
        """Of each token given those before it."""
        logits = self._logits(tokens)
        top = logits.max(axis=-1, keepdims=True)
        normed = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
        return [None, *(float(normed[place, token]) for place, token in enumerate(tokens[1:]))]

    def loss(self, prompt: str, reference: str, *, chat: bool = False) -> tuple[float, int]:
        """Nats of the reference behind the prompt, and its tokens: from the first that the prompt alone has not.

        In front of a chat is what the template says, which is no first token here.
        """
        begins = False if chat else None
        whole, alone = self.encode(prompt + reference, begins=begins), self.encode(prompt, begins=begins)
        start = next((i for i, (a, b) in enumerate(zip(whole, alone, strict=False)) if a != b), len(alone))
        return -math.fsum(x for x in self.logprobs(whole)[start:] if x is not None), len(whole) - start

    def _logits(self, tokens: list[int]) -> Floats:
        w = {name: array.astype(np.float64) for name, array in self.weights.items()}
        x = w["model.embed_tokens.weight"][tokens]
        count = len(tokens)
        angles = np.arange(count)[:, None] * THETA ** (-np.arange(0, HEAD, 2) / HEAD)
        cos, sin = np.cos(angles)[None], np.sin(angles)[None]
        future = np.triu(np.full((count, count), -np.inf), 1)

        def heads(of: Floats) -> Floats:
            return of.reshape(count, HEADS, HEAD).transpose(1, 0, 2)

        def turned(of: Floats) -> Floats:
            left, right = np.split(of, 2, axis=-1)
            return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)

        for layer in range(LAYERS):
            at = f"model.layers.{layer}."
            h = _normed(x, w[at + "input_layernorm.weight"])
            q, k, v = (heads(h @ w[f"{at}self_attn.{name}_proj.weight"].T) for name in "qkv")
            scores = turned(q) @ turned(k).transpose(0, 2, 1) / math.sqrt(HEAD) + future
            weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed = (weight / weight.sum(axis=-1, keepdims=True)) @ v
            x = x + mixed.transpose(1, 0, 2).reshape(count, HIDDEN) @ w[at + "self_attn.o_proj.weight"].T
            h = _normed(x, w[at + "post_attention_layernorm.weight"])
            gate = h @ w[at + "mlp.gate_proj.weight"].T
            x = (
                x
                + (gate / (1 + np.exp(-gate)) * (h @ w[at + "mlp.up_proj.weight"].T)) @ w[at + "mlp.down_proj.weight"].T
            )
        logits: Floats = _normed(x, w["model.norm.weight"]) @ w["lm_head.weight"].T
        return logits

    # as files

    def save_gguf(self, path: Path) -> Path:
        """GGUF version 3: header, metadata, where each tensor is, and the tensors, each at a multiple of 32 bytes."""
        kinds = [3, *[1] * (len(self.vocabulary) - 1)]  # control, then normal
        metadata = {
            "general.architecture": "llama",
            "general.name": "tiny",
            "llama.context_length": CONTEXT,
            "llama.embedding_length": HIDDEN,
            "llama.block_count": LAYERS,
            "llama.feed_forward_length": FEED,
            "llama.attention.head_count": HEADS,
            "llama.attention.head_count_kv": HEADS,
            "llama.attention.layer_norm_rms_epsilon": EPSILON,
            "llama.rope.dimension_count": HEAD,
            "llama.rope.freq_base": THETA,
            "llama.vocab_size": len(self.vocabulary),
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": self.vocabulary,
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": [" ".join(pair) for pair in self.merges],
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 0,
            "tokenizer.ggml.add_bos_token": self.begins,
            "tokenizer.chat_template": CHAT_TEMPLATE,
        }
        tensors = {_gguf_name(name): _gguf_order(name, array) for name, array in self.weights.items()}
        head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
        head += b"".join(_gguf_text(name) + _gguf_value(value) for name, value in metadata.items())
        data = b""
        for name, array in tensors.items():
            shape = array.shape[::-1]
            head += _gguf_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
            data += _padded(array.tobytes())
        path.write_bytes(_padded(head) + data)
        return path

    def save_hugging_face(self, folder: Path) -> Path:
        folder.mkdir()
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": HIDDEN,
            "intermediate_size": FEED,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": HEAD,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": EPSILON,
            "rope_theta": THETA,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "vocab_size": len(self.vocabulary),
            "bos_token_id": 0,
            "eos_token_id": 0,
            "torch_dtype": "float32",
        }
        cut = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        begin = {"SpecialToken": {"id": BOS, "type_id": 0}}
        sequence = [{"Sequence": {"id": "A", "type_id": 0}}]
        first = {
            "type": "TemplateProcessing",
            "single": [begin, *sequence],
            "pair": [begin, *sequence],
            "special_tokens": {BOS: {"id": BOS, "ids": [0], "tokens": [BOS]}},
        }
        added = {"id": 0, "content": BOS, "special": True}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        tokenizer = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [added | flags],
            "normalizer": None,
            "pre_tokenizer": cut,
            "post_processor": first if self.begins else cut,
            "decoder": cut,
            "model": {"type": "BPE", "vocab": self.index, "merges": [list(pair) for pair in self.merges]},
        }
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": BOS,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
        }
        for name, content in (("config", config), ("tokenizer", tokenizer), ("tokenizer_config", about)):
            (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False))
        header: dict[str, Any] = {}
        data = b""
        for name, array in self.weights.items():
            end = len(data) + array.nbytes
            header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), end]}
            data += array.tobytes()
        said = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        said += b" " * (-len(said) % 8)
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(said)) + said + data)
        return folder


def in_chat(question: str) -> str:
    """What the template makes of it, up to where the answer begins."""
    return f"<|user|>\n{question}<|end|>\n<|assistant|>\n"


def _weights(draw: np.random.Generator, tokens: int) -> dict[str, NDArray[np.float32]]:
    def matrix(rows: int, columns: int, gain: float = 1.0) -> NDArray[np.float32]:
        return (draw.standard_normal((rows, columns)) * gain / math.sqrt(columns)).astype(np.float32)

    def around_one() -> NDArray[np.float32]:
        return (1 + 0.1 * draw.standard_normal(HIDDEN)).astype(np.float32)

    found = {"model.embed_tokens.weight": matrix(tokens, HIDDEN, 4.0)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        found[at + "input_layernorm.weight"] = around_one()
        for name in "qkvo":
            found[f"{at}self_attn.{name}_proj.weight"] = matrix(HIDDEN, HIDDEN)
        found[at + "post_attention_layernorm.weight"] = around_one()
        found[at + "mlp.gate_proj.weight"] = matrix(FEED, HIDDEN)
        found[at + "mlp.up_proj.weight"] = matrix(FEED, HIDDEN)
        found[at + "mlp.down_proj.weight"] = matrix(HIDDEN, FEED)
    found["model.norm.weight"] = around_one()
    found["lm_head.weight"] = matrix(tokens, HIDDEN, 1.5)  # far from uniform: a wrong token is a wrong loss
    return found


def _normed(x: Floats, weight: Floats) -> Floats:
    normed: Floats = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON) * weight
    return normed


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    result: list[str] = []
    for piece in word:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return tuple(result)


_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def _gguf_name(name: str) -> str:
    bare = name.removesuffix(".weight")
    layered = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", bare)
    return (f"blk.{layered[1]}.{_GGUF_NAMES[layered[2]]}" if layered else _GGUF_NAMES[bare]) + ".weight"


def _gguf_order(name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Llama's GGUF turns neighbours where Hugging Face turns the halves of a head."""
    if not re.search(r"\.[qk]_proj\.", name):
        return array
    return np.ascontiguousarray(array.reshape(HEADS, 2, HEAD // 2, HIDDEN).swapaxes(1, 2).reshape(HIDDEN, HIDDEN))


def _gguf_text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _gguf_value(value: object) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _gguf_text(value)
    if isinstance(value, list):
        # Numbers of a list (the tokens' types) are signed there, those alone are not.
        items = [struct.pack("<Ii", 5, item) if isinstance(item, int) else _gguf_value(item) for item in value]
        return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(i[4:] for i in items)
    raise TypeError(f"{type(value).__name__} has no form in GGUF here")


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 32)
