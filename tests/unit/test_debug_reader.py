"""Types read from debug information, in every form compilers and tools write it."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.debug.read import Reading
from hotmend.model.errors import InputError
from hotmend.model.types import Enumeration, Member, Record, Types

_SOURCE = """
#include <stddef.h>
enum color { RED, GREEN = 5, BLUE, NEGATIVE = -3 };
typedef enum { IDLE, BUSY } state_t;
typedef struct { int x, y; } point_t;
union either { int number; char text[12]; };
struct node {
    const char *name;
    unsigned low : 3, high : 7;
    signed far_away : 20;
    struct node *next;
    union either value;
    struct { short a; char b; };
    point_t place;
    enum color color;
    state_t state;
    int (*call)(struct node *, const void *);
    long grid[2][3];
    _Alignas(32) char aligned;
};
int numbers[7];
static struct node nodes[3];
static __thread short mine;
const int constant = 3;
int use(struct node *n, int i)
{
    static long calls[4];
    struct local { char c; long l; } inner = {1, i};
    calls[i & 3]++; mine++; numbers[i]++;
    if (n) nodes[i & 1] = *n;
    return (int)(calls[i & 1] + nodes[i & 1].low + inner.l) + mine + n->call(n, &nodes) + n->state + n->place.x;
}
"""
_FORMS = {
    "gcc DWARF 5": ["gcc", "-gdwarf-5"],
    "gcc DWARF 4": ["gcc", "-gdwarf-4"],
    "gcc DWARF 3": ["gcc", "-gdwarf-3", "-gstrict-dwarf"],
    "gcc -O0": ["gcc", "-g", "-O0"],
    "gcc LTO": ["gcc", "-g", "-flto"],
    "gcc type units": ["gcc", "-g", "-fdebug-types-section"],
    "gcc type units DWARF 4": ["gcc", "-gdwarf-4", "-fdebug-types-section"],
    "gcc compressed": ["gcc", "-g", "-gz=zlib"],
    "gcc compressed GNU": ["gcc", "-g", "-gz=zlib-gnu"],
    "clang DWARF 5": ["clang", "-gdwarf-5"],
    "clang DWARF 4": ["clang", "-gdwarf-4"],
}


def _build(folder: Path, command: list[str], source: str, suffix: str = ".c") -> Path:
    path = folder / f"types{suffix}"
    path.write_text(source)
    library = folder / "types.so"
    subprocess.run([*command[:1], "-O2", *command[1:], "-fPIC", "-shared", "-Wl,--build-id", "-o", library, path],
                   check=True)  # fmt: skip
    return library


def _read(path: Path, supplement: Path | None = None) -> Types:
    return Reading(path, path.name, "", supplement).types()


def _record(types: Types, name: str) -> Record:
    (record,) = [r for r in types.records if r.name == name]
    return record


@cache
def _reference() -> Types:
    """The types as gcc writes them in DWARF 5, checked in full by the first test."""
    with tempfile.TemporaryDirectory() as folder:
        return _read(_build(Path(folder), ["gcc", "-gdwarf-5"], _SOURCE))


def test_every_kind_of_member_has_its_place() -> None:
    node = _record(_reference(), "node")
    assert (node.kind, node.file, node.size, node.alignment) == ("struct", "types.c", 160, 32)
    assert node.members == (
        Member("name", 0, 0, "int8 *"),
        Member("low", 64, 3, "int32"),
        Member("high", 67, 7, "int32"),
        Member("far_away", 74, 20, "int32"),
        Member("next", 128, 0, "struct node *"),
        Member("value", 192, 0, "union either"),
        Member("", 288, 0, "struct of 4 bytes {a @0 int16; b @2 int8}"),
        Member("place", 320, 0, "struct point_t"),
        Member("color", 384, 0, "enum color"),
        Member("state", 416, 0, "int32"),
        Member("call", 448, 0, "int32 (struct node *, void *) *"),
        Member("grid", 512, 0, "int64 [2][3]"),
        Member("aligned", 1024, 0, "int8"),
    )


def test_enumerations_unions_and_aliases() -> None:
    types = _reference()
    colors = Enumeration("color", "types.c", 4, (("RED", 0), ("GREEN", 5), ("BLUE", 6), ("NEGATIVE", -3)))
    assert colors in types.enumerations
    assert Enumeration("", "types.c", 4, (("IDLE", 0), ("BUSY", 1))) in types.enumerations
    either = _record(types, "either")
    assert (either.kind, either.size, [m.bit_offset for m in either.members]) == ("union", 12, [0, 0])
    assert [m.name for m in _record(types, "point_t").members] == ["x", "y"]
    assert _record(types, "local").size == 16


def test_variables_have_addresses_and_types() -> None:
    variables = {v.name: v for v in _reference().variables}
    assert variables["numbers"].type == "int32 [7]"
    assert variables["nodes"].type == "struct node [3]"
    assert variables["use::calls"].type == "int64 [4]"
    assert (variables["mine"].type, variables["mine"].thread_local) == ("int16", True)
    assert variables["constant"].address > 0


def _essence(types: Types) -> tuple[object, ...]:
    """What every form has to agree on; clang leaves out the alignment that the type does not have itself."""
    records = {(r.kind, r.name, r.size, tuple(m for m in r.members)) for r in types.records if r.name != "local"}
    enumerations = {(e.name, e.enumerators) for e in types.enumerations}
    variables = {(v.name, v.type) for v in types.variables if v.name != "constant"}
    return records, enumerations, variables


@pytest.mark.parametrize("form", list(_FORMS))
def test_every_form_says_the_same(form: str, tmp_path: Path) -> None:
    types = _read(_build(tmp_path, _FORMS[form], _SOURCE))
    assert _essence(types) == _essence(_reference())
    assert types.covered
    assert sum(end - start for start, end in types.covered) > 50


def test_a_separate_debug_file_is_as_good(tmp_path: Path) -> None:
    library = _build(tmp_path, ["gcc", "-g"], _SOURCE)
    debug = tmp_path / "types.debug"
    subprocess.run(["objcopy", "--only-keep-debug", library, debug], check=True)
    assert _essence(_read(debug)) == _essence(_reference())


def test_files_that_share_their_entries(tmp_path: Path) -> None:
    """Debian's debug packages are deduplicated by dwz, into partial units and into a supplementary file."""
    paths = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        other = "".join(f"struct filler{n} {{ struct filler{n} *p; long v[{n + 2}]; }} f{n};\n" for n in range(40))
        more = f"int only{number}(struct node *n) {{ return n->high; }}\n"
        paths.append(_build(folder, ["gcc", "-g"], other + _SOURCE + more))
    before = [_read(path) for path in paths]
    subprocess.run(["dwz", "-m", tmp_path / "shared.debug", *paths], check=True)
    for path, types in zip(paths, before, strict=True):
        after = _read(path, tmp_path / "shared.debug")
        assert _essence(after) == _essence(types)
        assert after.covered == types.covered
    (tmp_path / "shared.debug").unlink()
    with pytest.raises(InputError, match="damaged"):
        _read(paths[0])


def test_partial_units_of_one_file(tmp_path: Path) -> None:
    parts = []
    for number in range(3):
        part = tmp_path / f"part{number}.c"
        names = {f"{n}(": f"{n}{number}(" for n in ("use",)} | {f"{n}[": f"{n}{number}[" for n in ("numbers",)}
        text = _SOURCE.replace("const int constant", f"const int constant{number}")
        for name, other in names.items():
            text = text.replace(name, other)
        part.write_text(text)
        parts.append(part)
    library = tmp_path / "parts.so"
    subprocess.run(["gcc", "-g", "-O2", "-fPIC", "-shared", "-o", library, *parts], check=True)
    before = _read(library)
    subprocess.run(["dwz", library], check=True)
    assert _essence(_read(library)) == _essence(before)


def test_split_debug_information_is_not_judged(tmp_path: Path) -> None:
    for flags in (["-g", "-gsplit-dwarf"], ["-gdwarf-4", "-gsplit-dwarf"]):
        with pytest.raises(InputError, match="split"):
            _read(_build(tmp_path, ["gcc", *flags], _SOURCE))


@pytest.mark.parametrize("flags", [["gcc", "-g1"], ["gcc", "-g1", "-flto"], ["clang", "-g1"], ["clang", "-gmlt"]])
def test_line_numbers_alone_cover_no_code(flags: list[str], tmp_path: Path) -> None:
    """With -g1 a unit has functions and lines; that no type of it differs would mean nothing."""
    types = _read(_build(tmp_path, flags, _SOURCE))
    assert (types.covered, types.records) == ((), ())


def test_assembler_covers_no_code(tmp_path: Path) -> None:
    text = ".text\n.globl f\n.type f, @function\nf: mov 8(%rdi), %eax\n ret\n.size f, .-f\n.section .note.GNU-stack\n"
    assert _read(_build(tmp_path, ["gcc", "-g"], text, ".s")).covered == ()


def test_what_is_no_debug_information(tmp_path: Path) -> None:
    stripped = _build(tmp_path, ["gcc"], _SOURCE)
    with pytest.raises(InputError, match="no DWARF"):
        _read(stripped)
    (tmp_path / "text").write_text("not an ELF file" * 20)
    with pytest.raises(InputError, match="text: damaged"):
        _read(tmp_path / "text")
    with pytest.raises(InputError, match="No such file"):
        _read(tmp_path / "nothing")


_CLASSES = """
namespace web { namespace {
struct hidden { int x; };
}
class base {
public:
    virtual ~base();
    virtual int first(int);
    virtual int second(int);
    static int shared;
    struct inner { char c; long l; };
    inner part;
protected:
    hidden h;
};
int base::shared = 4;
class derived : public base {
public:
    int first(int) override;
    virtual int third();
    int own;
};
template <class T> struct box { T value; int count; };
enum class mode : unsigned char { off, on };
box<derived> *the_box; mode the_mode;
base::~base() {}
int base::first(int x) { return x + part.c + h.x + shared; }
int base::second(int x) { return x; }
int derived::first(int x) { struct in_function { int q; } f{x}; return own + f.q; }
int derived::third() { return the_box->count + (the_mode == mode::on); }
}
"""


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_classes_have_scopes_bases_and_virtual_functions(compiler: str, tmp_path: Path) -> None:
    types = _read(_build(tmp_path, [compiler, "-g"], _CLASSES, ".cc"))
    base = _record(types, "web::base")
    assert [m.name for m in base.members] == ["_vptr.base" if compiler == "g++" else "_vptr$base", "part", "h"]
    assert [name for _, name in base.slots][-2:] == ["_ZN3web4base5firstEi", "_ZN3web4base6secondEi"]
    derived = _record(types, "web::derived")
    assert derived.members[0].name == "base struct web::base"
    assert [place for place, _ in derived.slots][-2:] == [2, 4]  # clang declares the destructor as well
    assert _record(types, "web::base::inner").size == 16
    assert [m.type for m in _record(types, "web::box<web::derived>").members] == ["struct web::derived", "int32"]
    modes = [e for e in types.enumerations if e.name == "web::mode"]
    assert [e.enumerators for e in modes] == [(("off", 0), ("on", 1))]
    assert any(r.name.endswith("::in_function") for r in types.records)
    assert any(v.name.endswith("shared") for v in types.variables)


_RUST = """
#![crate_type = "cdylib"]
pub struct Inner { pub a: u8, pub b: u64 }
pub enum Shape { Circle(f64), Square { side: f64, id: u16 }, Nothing }
pub trait Area { fn area(&self) -> f64; fn name(&self) -> u32; }
impl Area for Inner { fn area(&self) -> f64 { self.b as f64 } fn name(&self) -> u32 { 7 } }
static mut TABLE: [u32; 9] = [0; 9];
#[no_mangle] pub extern "C" fn measure(s: &Shape, i: &Inner, n: usize) -> f64 {
    unsafe { TABLE[n] += 1; }
    let d: &dyn Area = i;
    match s { Shape::Circle(r) => *r, Shape::Square { side, id } => side * (*id as f64), Shape::Nothing => d.area() }
}
"""


def test_rust_enumerations_have_their_variants(tmp_path: Path) -> None:
    source = tmp_path / "shapes.rs"
    source.write_text(_RUST)
    library = tmp_path / "libshapes.so"
    subprocess.run(["rustc", "-g", "-O", "-o", library, source], check=True)
    types = _read(library)
    shape = _record(types, "shapes::Shape")
    assert shape.size == 16
    labels = [m.name for m in shape.members]
    assert "discriminant" in labels
    assert len([name for name in labels if name.startswith("variant ")]) == 3
    assert {m.name for m in _record(types, "shapes::Inner").members} == {"a", "b"}
    assert any(v.name.endswith("TABLE") and v.type == "int32 [9]" for v in types.variables)
