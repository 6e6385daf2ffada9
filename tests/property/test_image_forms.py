"""What is remembered of instructions is what the decoder says of each of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from iced_x86 import Decoder

from hotmend.image.forms import form_of, forms_of

_HEADS = (
    "488b05", "488d0d", "8b4710", "8b8710", "81bf", "c745", "c7442408", "48c7c0", "b8", "48b8", "83c0",
    "81c1", "e8", "e9", "0f84", "74", "eb", "c2", "c8", "6a", "68", "69c0", "6bc0", "0fa4c2", "c4e3794a05",
    "c4e369480d", "0f0fc1", "0f0f05", "66c705", "6683", "f20f1005", "0fc205", "0fc2c1", "660f3a0f05",
    "64488b0425", "a1", "48a3", "62f17c481005", "c7f8",
)  # fmt: skip
"""Beginnings of instructions with displacements, immediates and both, in all encodings."""

_instructions = st.tuples(st.sampled_from(_HEADS), st.binary(min_size=12, max_size=12)).map(
    lambda pair: bytes.fromhex(pair[0]) + pair[1]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_instructions | st.binary(min_size=1, max_size=15), min_size=1, max_size=12))
def test_a_form_learnt_elsewhere_is_that_of_the_instruction(parts: list[bytes]) -> None:
    for text in (*parts, b"".join(parts)):
        instructions = list(Decoder(64, text, ip=0x401000))
        assert forms_of(instructions, text) == [form_of(i) for i in instructions]
