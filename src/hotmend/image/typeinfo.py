"""C++ type descriptions (`typeinfo`) of an image, by what they say: kind, name, bases."""

from __future__ import annotations

from hotmend.image.image import R_COPY, Image

_VTABLES = "_ZTVN10__cxxabiv1"
_NAME_BYTES_MAX = 65_536
_BASES_MAX = 256
_DEPTH_MAX = 64
_VTABLE_HEAD_BYTES = 16

Signature = tuple[object, ...]
"""Kind, name and bases of a type: equal for the same type in two builds."""


class Types:
    """The type descriptions of one image. Their kind is the runtime's vtable that their first word names."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._copies = {
            address: slot.name
            for address, slot in image.slots.items()
            if slot.kind == R_COPY and slot.name.startswith(_VTABLES)
        }
        self._by_name: dict[str, list[int]] | None = None

    def kind(self, address: int) -> str:
        """Return the name of the vtable of the description at `address`, or "" where none stands there."""
        slot = self._image.slots.get(address)
        if slot is not None:
            return slot.name if slot.name.startswith(_VTABLES) else ""
        return self._copies.get(self._image.pointers.get(address, 0) - _VTABLE_HEAD_BYTES, "")

    def name(self, address: int) -> str:
        """Return the mangled name of the type described at `address`, or ""."""
        text = self._image.pointers.get(address + 8)
        if text is None or not self.kind(address):
            return ""
        raw = self._image.read(text, _NAME_BYTES_MAX)
        end = raw.find(b"\0")
        return raw[:end].decode("latin-1") if end > 0 else ""

    def named(self, name: str) -> list[int]:
        """Return where types of that name are described; several with names that one file of source owns."""
        if self._by_name is None:
            self._by_name = {}
            candidates = [a for a, s in self._image.slots.items() if s.name.startswith(_VTABLES) and s.kind != R_COPY]
            if self._copies:
                candidates += [a for a in self._image.pointers if self.kind(a)]
            for address in candidates:
                if found := self.name(address):
                    self._by_name.setdefault(found, []).append(address)
        return self._by_name.get(name, [])

    def signature(self, address: int, depth: int = 0) -> Signature | None:
        """Return what the description at `address` says; None where it cannot be read."""
        slot = self._image.slots.get(address)
        kind, name = self.kind(address), self.name(address)
        if not kind or not name or depth > _DEPTH_MAX:
            return None
        plain: Signature = (kind, name, slot.addend if slot is not None else _VTABLE_HEAD_BYTES)
        if "__si_class" in kind:
            return self._with(plain, [address + 16], depth)
        if "__vmi_class" in kind:
            flags = self._image.read(address + 16, 8)
            count = int.from_bytes(flags[4:], "little")
            if count > _BASES_MAX:
                return None
            bases = [address + 24 + 16 * n for n in range(count)]
            offsets = tuple(self._image.read(base + 8, 8) for base in bases)
            return self._with((*plain, flags, offsets), bases, depth)
        if "pointer_type" in kind or "pointer_to_member" in kind:
            return self._with((*plain, self._image.read(address + 16, 4)), [address + 24], depth)
        return plain

    def _with(self, plain: Signature, words: list[int], depth: int) -> Signature | None:
        """Return `plain` with the types that `words` point to."""
        parts: list[object] = []
        for word in words:
            slot = self._image.slots.get(word)
            if slot is not None and not slot.symbol_defined:
                parts.append(slot.identity)
                continue
            target = self._image.pointers.get(word)
            if slot is not None:
                symbol = self._image.own(slot)
                target = symbol.value if symbol is not None else None
            found = self.signature(target, depth + 1) if target is not None else None
            if found is None:
                return None
            parts.append(found)
        return (*plain, *parts)
