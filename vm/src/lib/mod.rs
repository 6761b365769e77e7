//! The Lua-visible library: one file per library, each with its own table of rows beside the code.
//!
//! Natives never call Lua: what may run Lua code (`__tostring`, comparators, loaders, readers) is a
//! call outcome with a resume label, and what the native needs afterwards lies in slots of its frame.

pub mod base;
pub mod bcsave;
pub mod bit;
pub mod buffer;
pub mod catalogue;
pub mod cjson;
pub mod coroutine;
pub mod debug;
pub mod format;
pub mod io;
pub mod jit;
pub mod jit_util;
pub mod lfs;
pub mod math;
pub mod os;
pub mod package;
pub mod pattern;
pub mod profile;
pub mod string;
pub mod sys;
pub mod table;

use crate::bytecode::ops::Mm;
use crate::error::messages as msg;
use crate::function::closure::Func;
use crate::heap::gc_ref::Gc;
use crate::index::NativeId;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Raised};
use crate::table::{Table, TableErr};
use crate::value::Value;

/// Opens every library in a fresh VM.
pub fn open_all(vm: &mut Vm) {
    package::open(vm);
    base::open(vm);
    coroutine::open(vm);
    table::open(vm);
    io::open(vm);
    os::open(vm);
    string::open(vm);
    math::open(vm);
    debug::open(vm);
    bit::open(vm);
    jit::open(vm);
    jit_util::open(vm);
    profile::open(vm);
    cjson::open(vm);
    buffer::open(vm);
    lfs::open(vm);
}

/// Every table of rows, by library.
pub const ALL: &[(&str, &[NativeRow])] = &[
    ("_G", base::FNS),
    ("coroutine", coroutine::FNS),
    ("string", string::FNS),
    ("table", table::FNS),
    ("math", math::FNS),
    ("bit", bit::FNS),
    ("io", io::FNS),
    ("file", io::METHODS),
    ("os", os::FNS),
    ("debug", debug::FNS),
    ("package", package::FNS),
    ("jit", jit::FNS),
    ("jit.profile", profile::FNS),
    ("jit.bcsave", bcsave::FNS),
    ("jit.util", jit_util::FNS),
    ("cjson", cjson::FNS),
    ("lfs", lfs::FNS),
    ("lfs.dir", lfs::METHODS),
    ("string.buffer", buffer::FNS),
    ("buffer", buffer::METHODS),
];

/// Makes a library: a table of functions under a global name and in `package.loaded`.
pub(crate) fn new_library(vm: &mut Vm, name: &str, rows: &[NativeRow]) -> Gc<Table> {
    let t = vm.heap.new_table(0, crate::table::hash_bits(rows.len()));
    vm.register(t, rows);
    set_field(vm, vm.globals, name, Value::obj(t));
    set_loaded(vm, name, Value::obj(t));
    t
}

/// `t[name] = v`, raw. String keys are never refused; a full heap shows at the next safepoint.
pub(crate) fn set_field(vm: &mut Vm, t: Gc<Table>, name: &str, v: Value) {
    let key = vm.heap.str_intern(name.as_bytes());
    let _ = t.sets(&mut vm.heap, key, v);
}

/// Id of the native in a field of a library table.
pub(crate) fn native_id(vm: &Vm, t: Gc<Table>, name: &str) -> Option<NativeId> {
    let f = t.get_bytes(&vm.heap, name.as_bytes()).as_obj::<Func>()?.as_native(&vm.heap)?;
    Some(f.get(&vm.heap).id)
}

/// Replaces a registered function by one with upvalues.
pub(crate) fn give_upvalues(vm: &mut Vm, t: Gc<Table>, name: &str, upvals: &[Value]) {
    if let Some(id) = native_id(vm, t, name) {
        let f = vm.native_func(id, upvals);
        set_field(vm, t, name, Value::obj(f));
    }
}

/// A table in the registry, made at the first use.
pub(crate) fn registry_table(vm: &mut Vm, name: &str) -> Gc<Table> {
    let registry = vm.registry;
    if let Some(t) = registry.get_bytes(&vm.heap, name.as_bytes()).as_obj::<Table>() {
        return t;
    }
    let t = vm.heap.new_table(0, 4);
    set_field(vm, registry, name, Value::obj(t));
    t
}

/// `package.loaded[name] = v`.
pub(crate) fn set_loaded(vm: &mut Vm, name: &str, v: Value) {
    let loaded = registry_table(vm, "_LOADED");
    set_field(vm, loaded, name, v);
}

/// `package.preload[name] = function that returns what `f` makes`: for modules that only `require` shows.
pub(crate) fn set_preload(vm: &mut Vm, name: &str, loader: NativeRow) {
    let preload = registry_table(vm, "_PRELOAD");
    let f = vm.new_native(loader, &[]);
    set_field(vm, preload, name, Value::obj(f));
}

/// A refused table store as an error.
pub(crate) fn table_error(vm: &mut Vm, e: TableErr) -> Raised {
    let text = match e {
        TableErr::NilIndex => msg::INDEX_NIL,
        TableErr::NanIndex => msg::INDEX_NAN,
        TableErr::Overflow => msg::TABLE_OVERFLOW,
        TableErr::Memory => return vm.throw_memory(),
    };
    // The table is a native's own business: no position.
    vm.throw_plain(text.as_bytes())
}

/// Bytes from which on a growing result is measured.
const ROOM_FIRST: usize = 1 << 16;

/// A result in the making has grown to `len` bytes: is there room for it, and for a string of it? Looks when it has
/// doubled since `looked_at`, which starts at 0.
pub(crate) fn has_room(heap: &crate::heap::Heap, len: usize, looked_at: &mut usize) -> bool {
    if len < (2 * *looked_at).max(ROOM_FIRST) {
        return true;
    }
    *looked_at = len;
    len <= crate::limits::STR_LEN_MAX && heap.may_alloc(2 * len).is_ok()
}

/// Makes a string result of bytes that may be long: asks the heap first.
pub(crate) fn new_string(vm: &mut Vm, bytes: &[u8]) -> Result<Value, Raised> {
    if bytes.len() > crate::limits::STR_LEN_MAX {
        return Err(vm.throw_memory());
    }
    if bytes.len() > 65536 && vm.heap.may_alloc(bytes.len()).is_err() {
        return Err(vm.throw_memory());
    }
    Ok(Value::obj(vm.heap.str(bytes)))
}

/// The string results of a boolean-like library answer: `nil, message, number`.
pub(crate) fn push_failure(vm: &mut Vm, text: &[u8], code: i32) -> NativeResult {
    vm.push(Value::NIL);
    let s = vm.heap.str(text);
    vm.push(Value::obj(s));
    vm.push(Value::int(code));
    Ok(crate::state::native::Outcome::top(3))
}

/// The option argument `i` as one of `names`; its index.
pub(crate) fn check_option(
    vm: &mut Vm,
    i: usize,
    default: Option<usize>,
    names: &[&str],
) -> Result<usize, Raised> {
    if vm.arg(i).is_nil()
        && let Some(d) = default
    {
        return Ok(d);
    }
    let s = vm.check_str(i)?;
    let found = names.iter().position(|n| n.as_bytes() == s.bytes(&vm.heap));
    match found {
        Some(at) => Ok(at),
        None => {
            let mut text = b"invalid option '".to_vec();
            text.extend_from_slice(s.bytes(&vm.heap));
            text.push(b'\'');
            Err(vm.arg_error(i, &text))
        }
    }
}

/// What indexing a value comes to.
pub(crate) enum Indexed {
    /// The value.
    Value(Value),
    /// Call this `__index` with this object and the key.
    Call(Value, Value),
}

/// `o[key]` up to the point where a function has to be called.
pub(crate) fn index(vm: &mut Vm, o: Value, key: Value) -> Result<Indexed, Raised> {
    let mut o = o;
    for _ in 0..crate::limits::META_LOOP_MAX {
        let mm;
        if let Some(t) = o.as_obj::<Table>() {
            let v = t.getv(&vm.heap, key);
            if !v.is_nil() {
                return Ok(Indexed::Value(v));
            }
            mm = vm.metamethod(o, Mm::Index);
            if mm.is_nil() {
                return Ok(Indexed::Value(Value::NIL));
            }
        } else {
            mm = vm.metamethod(o, Mm::Index);
            if mm.is_nil() {
                let text = msg::fill(msg::BAD_OPERAND, &[b"index", o.type_name().as_bytes()]);
                return Err(vm.throw_str(&text));
            }
        }
        if mm.is::<Func>() {
            return Ok(Indexed::Call(mm, o));
        }
        o = mm;
    }
    Err(vm.throw_str(msg::LOOP_GET.as_bytes()))
}

/// Body of rows that the interpreter enters by their op; reached only if a host calls it directly.
pub(crate) fn entered_by_op(vm: &mut Vm, _: Entry) -> NativeResult {
    Err(vm.throw_plain(b"this function is an instruction of the interpreter"))
}

/// A row whose entry op does the work.
pub(crate) const fn op_row(name: &'static str, op: crate::bytecode::ops::Op) -> NativeRow {
    NativeRow { op, ..NativeRow::new(name, entered_by_op) }
}

#[cfg(test)]
mod tests;
