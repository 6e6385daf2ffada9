"""The numbers of DWARF that are looked at (DWARF 5, chapter 7), by their names there."""

from __future__ import annotations

from enum import IntEnum


class Tag(IntEnum):
    """`DW_TAG_*`."""

    ARRAY = 0x01
    CLASS = 0x02
    ENUMERATION = 0x04
    LEXICAL_BLOCK = 0x0B
    MEMBER = 0x0D
    POINTER = 0x0F
    REFERENCE = 0x10
    COMPILE_UNIT = 0x11
    STRING = 0x12
    STRUCTURE = 0x13
    SUBROUTINE = 0x15
    TYPEDEF = 0x16
    UNION = 0x17
    VARIANT = 0x19
    INHERITANCE = 0x1C
    MODULE = 0x1E
    POINTER_TO_MEMBER = 0x1F
    SUBRANGE = 0x21
    BASE = 0x24
    CONST = 0x26
    ENUMERATOR = 0x28
    PACKED = 0x2D
    SUBPROGRAM = 0x2E
    VARIANT_PART = 0x33
    VARIABLE = 0x34
    VOLATILE = 0x35
    RESTRICT = 0x37
    NAMESPACE = 0x39
    FORMAL_PARAMETER = 0x05
    UNSPECIFIED_PARAMETERS = 0x18
    IMPORTED_UNIT = 0x3D
    UNSPECIFIED = 0x3B
    PARTIAL_UNIT = 0x3C
    SHARED = 0x40
    RVALUE_REFERENCE = 0x42
    ATOMIC = 0x47
    IMMUTABLE = 0x4B


class Attribute(IntEnum):
    """`DW_AT_*`."""

    LOCATION = 0x02
    NAME = 0x03
    BYTE_SIZE = 0x0B
    BIT_OFFSET = 0x0C
    BIT_SIZE = 0x0D
    DISCRIMINANT = 0x15
    DISCRIMINANT_VALUE = 0x16
    IMPORT = 0x18
    CONST_VALUE = 0x1C
    UPPER_BOUND = 0x2F
    COUNT = 0x37
    DATA_MEMBER_LOCATION = 0x38
    DECLARATION = 0x3C
    ENCODING = 0x3E
    EXTERNAL = 0x3F
    SPECIFICATION = 0x47
    TYPE = 0x49
    VTABLE_ELEM_LOCATION = 0x4D
    SIGNATURE = 0x69
    DATA_BIT_OFFSET = 0x6B
    LINKAGE_NAME = 0x6E
    DWO_NAME = 0x76
    ALIGNMENT = 0x88
    GNU_VECTOR = 0x2107
    GNU_DWO_NAME = 0x2130


class Encoding(IntEnum):
    """`DW_ATE_*`."""

    ADDRESS = 0x01
    BOOLEAN = 0x02
    COMPLEX_FLOAT = 0x03
    FLOAT = 0x04
    SIGNED = 0x05
    SIGNED_CHAR = 0x06
    UNSIGNED = 0x07
    UNSIGNED_CHAR = 0x08
    IMAGINARY_FLOAT = 0x09
    DECIMAL_FLOAT = 0x0F
    UTF = 0x10


class Language(IntEnum):
    """`DW_LANG_*` that matter here: assembler has no types, and C has no scopes for the names of types."""

    NONE = 0
    C89 = 0x01
    C = 0x02
    C99 = 0x0C
    C11 = 0x1D
    C17 = 0x2C
    ASSEMBLER = 0x8001
