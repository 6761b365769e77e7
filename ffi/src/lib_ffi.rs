//! The `ffi` library as Lua sees it.

use std::rc::Rc;

use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::userdata::Userdata;
use moonlit_vm::value::Value;

use crate::callback;
use crate::cdata::{access, as_cdata, new_pointer, new_type_object, place, raw_place, type_object};
use crate::clib::{self, Library};
use crate::convert::{self, compatible_pointees};
use crate::cparse;
use crate::ctype::{BitRange, CTypeId, CTypeTable, Kind, Member, Symbol};
use crate::lib_new::{
    cast, check_int, check_pointer, check_type, construct, own_size, params, set_finalizer,
};
use crate::meta::{self, Hooks, ffi_of};
use crate::ops::index;
use crate::state::Ffi;

/// A library handle as Lua holds it.
struct Namespace(Rc<Library>);

fn field(vm: &mut Vm, t: Gc<Table>, name: &str, v: Value) {
    t.set_bytes(&mut vm.heap, name.as_bytes(), v).expect("a short string is a valid key");
}

fn check_cdata(vm: &mut Vm, i: usize) -> Result<Gc<moonlit_vm::cdata::Cdata>, Raised> {
    match as_cdata(vm.arg(i)) {
        Some(cd) => Ok(cd),
        None => Err(vm.type_error(i, "cdata")),
    }
}

/// `ffi.cdef(declarations, ...)`: each `$` takes the next of the further arguments.
fn cdef(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let source = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let params = params(vm, 1)?;
    let done = cparse::declare(&mut ffi.types.borrow_mut(), &source, &params);
    match done {
        Ok(()) => Ok(Outcome::none()),
        Err(e) => Err(crate::lib_new::refused(vm, &e)),
    }
}

/// `ffi.new(ct [, n] [, init...])`
fn new(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let ty = check_type(vm, &ffi, 0, None)?;
    construct(vm, &ffi, ty).map(Outcome::one)
}

/// `ffi.cast(ct, value)`
fn ffi_cast(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let ty = check_type(vm, &ffi, 0, None)?;
    let v = vm.check_any(1)?;
    let scalar = matches!(
        ffi.types.borrow().kind(ty),
        Kind::Bool
            | Kind::Int { .. }
            | Kind::Float { .. }
            | Kind::Ptr { .. }
            | Kind::Ref { .. }
            | Kind::Enum(_)
    );
    if !scalar {
        return Err(vm.arg_error(0, b"invalid C type"));
    }
    if as_cdata(v).is_some_and(|cd| raw_place(vm, cd).ty == ty) {
        return Ok(Outcome::one(v));
    }
    cast(vm, &ffi, ty, v).map(Outcome::one)
}

/// `ffi.typeof(ct, ...)`
fn type_of(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let ty = check_type(vm, &ffi, 0, Some(1))?;
    Ok(Outcome::one(new_type_object(vm, ty)))
}

/// `ffi.istype(ct, obj)`
fn istype(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let want = check_type(vm, &ffi, 0, None)?;
    let v = vm.check_any(1)?;
    let Some(cd) = as_cdata(v) else { return Ok(Outcome::one(Value::FALSE)) };
    let types = ffi.types.borrow();
    let a = types.deref(want);
    let b = types.deref(type_object(vm, cd).unwrap_or(raw_place(vm, cd).ty));
    let same = match (types.kind(a), types.kind(b)) {
        _ if a == b => true,
        (Kind::Ptr { to: x, bytes: m }, Kind::Ptr { to: y, bytes: n }) => {
            m == n && compatible_pointees(&types, x, y, true)
        }
        (Kind::Array { elem: x, .. }, Kind::Array { elem: y, .. }) => {
            types.size(a) == types.size(b) && compatible_pointees(&types, x, y, true)
        }
        (Kind::Record(x), Kind::Ptr { to, .. }) => types.kind(to) == Kind::Record(x),
        (x, y) => x == y,
    };
    Ok(Outcome::one(Value::bool(same)))
}

/// `ffi.sizeof(ct [, n])`
fn sizeof(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let ty = check_type(vm, &ffi, 0, None)?;
    let (size, variable, ty) = {
        let types = ffi.types.borrow();
        let ty = types.deref(ty);
        (types.size(ty), types.is_variable(ty), ty)
    };
    let size = if variable {
        match as_cdata(vm.arg(0)) {
            Some(cd) if raw_place(vm, cd).ty == ty => Some(own_size(vm, cd)),
            _ => {
                let n = check_int(vm, &ffi, 1)?;
                u32::try_from(n).ok().and_then(|n| ffi.types.borrow().variable_size(ty, n).ok())
            }
        }
    } else {
        size
    };
    Ok(Outcome::one(size.map_or(Value::NIL, |n| Value::num(f64::from(n)))))
}

/// `ffi.alignof(ct)`
fn alignof(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let ty = check_type(vm, &ffi, 0, None)?;
    let types = ffi.types.borrow();
    Ok(Outcome::one(Value::int(1 << types.layout(types.deref(ty)).align_log2)))
}

/// `ffi.offsetof(ct, field)`: offset, and for a bit field its position and width. Nothing if there is no such field.
fn offsetof(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let ty = check_type(vm, &ffi, 0, None)?;
    let name = vm.check_str(1)?;
    let member = {
        let types = ffi.types.borrow();
        types.member(types.deref(ty), name.bytes(&vm.heap))
    };
    let Some(Member::Field { offset, bits, .. }) = member else { return Ok(Outcome::none()) };
    vm.push(Value::num(f64::from(offset)));
    let Some(BitRange { pos, width }) = bits else { return Ok(Outcome::top(1)) };
    vm.push(Value::int(i32::from(pos)));
    vm.push(Value::int(i32::from(width)));
    Ok(Outcome::top(3))
}

/// `ffi.addressof(cdata)`: a pointer to the object. Not in LuaJIT.
fn addressof(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let cd = check_cdata(vm, 0)?;
    let p = place(vm, &ffi.types.borrow(), cd);
    let ty = ffi.types.borrow_mut().ptr_to(p.ty);
    Ok(Outcome::one(new_pointer(vm, ty, p.addr)))
}

/// `ffi.errno([new])`: the value before.
fn errno(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let old = ffi.errno.get();
    if vm.nargs() > 0 {
        ffi.errno.set(check_int(vm, &ffi, 0)?);
    }
    Ok(Outcome::one(Value::int(old)))
}

/// `ffi.string(ptr [, len])`
fn string(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    vm.check_any(0)?;
    let (addr, len) = if vm.arg(1).is_nil() {
        let addr = check_pointer(vm, &ffi, 0, CTypeId::P_CCHAR)?;
        if addr == 0 {
            return Err(vm.arg_error(0, b"NULL pointer"));
        }
        (addr, access::string_length(addr))
    } else {
        let len = check_int(vm, &ffi, 1)? as u32 as usize;
        (check_pointer(vm, &ffi, 0, CTypeId::P_CVOID)?, len)
    };
    if len > moonlit_vm::limits::STR_LEN_MAX || vm.heap.may_alloc(len).is_err() {
        return Err(vm.throw_memory());
    }
    let s = access::with_bytes(addr, len, |bytes| vm.heap.str(bytes));
    Ok(Outcome::one(Value::obj(s)))
}

/// `ffi.copy(dst, src, len)`, `ffi.copy(dst, str)`
fn copy(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let to = check_pointer(vm, &ffi, 0, CTypeId::P_VOID)?;
    let from = check_pointer(vm, &ffi, 1, CTypeId::P_CVOID)?;
    let len = match (vm.arg(1).as_obj::<Str>(), vm.nargs()) {
        (Some(s), 0..=2) => s.bytes(&vm.heap).len() + 1,
        _ => check_int(vm, &ffi, 2)? as u32 as usize,
    };
    access::copy(to, from, len);
    Ok(Outcome::none())
}

/// `ffi.fill(dst, len [, byte])`
fn fill(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let to = check_pointer(vm, &ffi, 0, CTypeId::P_VOID)?;
    let len = check_int(vm, &ffi, 1)? as u32 as usize;
    let byte = if vm.nargs() > 2 { check_int(vm, &ffi, 2)? as u8 } else { 0 };
    access::fill(to, len, byte);
    Ok(Outcome::none())
}

/// `ffi.gc(cdata, finalizer)`: returns the object.
fn gc(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let cd = check_cdata(vm, 0)?;
    let f = vm.check_any(1)?;
    let fit = matches!(
        ffi.types.borrow().kind(raw_place(vm, cd).ty),
        Kind::Ptr { .. } | Kind::Ref { .. } | Kind::Record(_) | Kind::Array { .. }
    );
    if !fit {
        return Err(vm.arg_error(0, b"invalid C type"));
    }
    set_finalizer(vm, &ffi, cd, f);
    Ok(Outcome::one(vm.arg(0)))
}

/// `ffi.metatype(ct, metatable)`: the type object. A metatype is for ever.
fn metatype(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let ty = check_type(vm, &ffi, 0, None)?;
    let t = vm.check_tab(1)?;
    let key = {
        let mut types = ffi.types.borrow_mut();
        match types.kind(ty) {
            Kind::Record(_) => types.record(ty).map(|r| r.id),
            Kind::Complex { .. } | Kind::Vector { .. } => Some(types.unqualified(ty)),
            _ => None,
        }
    };
    let Some(key) = key else { return Err(vm.arg_error(0, b"invalid C type")) };
    if !ffi.set_metatype(key, t) {
        return Err(vm.throw_str(b"cannot change a protected metatable"));
    }
    Ok(Outcome::one(new_type_object(vm, ty)))
}

/// `ffi.abi(name)`
fn abi(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?;
    let yes = matches!(name.bytes(&vm.heap), b"64bit" | b"le" | b"fpu" | b"hardfp" | b"gc64");
    Ok(Outcome::one(Value::bool(yes)))
}

/// `ffi.typeinfo(id)`: what is known about a type by number, as a table.
fn typeinfo(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let id = check_int(vm, &ffi, 0)?;
    let id = CTypeId::from_raw(id as u32);
    let (size, name) = {
        let types = ffi.types.borrow();
        if !types.contains(id) || id == CTypeId::NONE {
            return Ok(Outcome::none());
        }
        let tag = types.record(id).and_then(|r| r.tag.clone());
        (types.size(id), tag.or_else(|| types.enumeration(id).and_then(|e| e.tag.clone())))
    };
    let t = vm.heap.new_table(0, 2);
    field(vm, t, "info", Value::num(f64::from(type_info_word(&ffi.types.borrow(), id))));
    if let Some(size) = size {
        field(vm, t, "size", Value::num(f64::from(size)));
    }
    if let Some(name) = name {
        let name = vm.heap.str(&name);
        field(vm, t, "name", Value::obj(name));
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// Kind, flags, alignment and child of a type in LuaJIT's packing.
fn type_info_word(types: &CTypeTable, id: CTypeId) -> u32 {
    const UNSIGNED: u32 = 0x0080_0000;
    const LONG: u32 = 0x0040_0000;
    let ty = types.get(id);
    let mut word = match ty.kind {
        Kind::Bool => 0x0800_0000 | UNSIGNED,
        Kind::Int { bytes, unsigned } => {
            (if unsigned { UNSIGNED } else { 0 }) | (if bytes == 8 { LONG } else { 0 })
        }
        Kind::Float { .. } => 0x0400_0000,
        Kind::Record(_) => {
            1 << 28 | if types.record(id).is_some_and(|r| r.is_union) { 0x0080_0000 } else { 0 }
        }
        Kind::Ptr { to, .. } => 2 << 28 | to.raw() & 0xffff,
        Kind::Ref { to } => 2 << 28 | 0x0080_0000 | to.raw() & 0xffff,
        Kind::Array { elem, .. } => 3 << 28 | elem.raw() & 0xffff,
        Kind::Complex { .. } => 3 << 28 | 0x0400_0000,
        Kind::Vector { elem, .. } => 3 << 28 | 0x0800_0000 | elem.raw() & 0xffff,
        Kind::Void => 4 << 28,
        Kind::Enum(_) => 5 << 28 | types.enumeration(id).map_or(0, |e| e.base.raw()),
        Kind::Func(_) => 6 << 28,
    };
    word |= u32::from(types.layout(id).align_log2) << 16;
    if ty.quals.is_const() {
        word |= 0x0200_0000;
    }
    if ty.quals.is_volatile() {
        word |= 0x0100_0000;
    }
    word
}

/// `ffi.load(name [, global])`
fn load(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let global = vm.arg(1).truthy();
    match Library::open(&name, global) {
        Ok(library) => {
            let v = namespace(vm, Rc::new(library));
            Ok(Outcome::one(v))
        }
        Err(text) => Err(vm.throw_str(&text)),
    }
}

/// What a symbol of a namespace is.
enum Resolved {
    /// A function object or a constant; may be remembered.
    Fixed(Value),
    /// A variable.
    Variable(CTypeId, usize),
}

fn resolve(vm: &mut Vm, ffi: &Ffi, library: &Library, key: Value) -> Result<Resolved, Raised> {
    let Some(s) = key.as_obj::<Str>() else { return Err(vm.type_error(1, "string")) };
    let name = s.bytes(&vm.heap).to_vec();
    let symbol = ffi.types.borrow().symbol(&name).cloned();
    let (ty, link_name) = match symbol {
        Some(Symbol::Const(c)) => return Ok(Resolved::Fixed(index::constant_value(c))),
        Some(Symbol::Extern { ty, link_name }) => (ty, link_name),
        Some(Symbol::Type(_)) | None => {
            let mut message = b"missing declaration for symbol '".to_vec();
            message.extend_from_slice(&name);
            message.push(b'\'');
            return Err(vm.throw_str(&message));
        }
    };
    let address = match library.symbol(link_name.as_deref().unwrap_or(&name)) {
        Ok(address) => address,
        Err(text) => return Err(vm.throw_str(&text)),
    };
    let is_function = matches!(ffi.types.borrow().kind(ty), Kind::Func(_));
    if is_function && clib::writes_stdout(&name) && !ffi.shares_stdout.replace(true) {
        clib::unbuffer_stdout();
    }
    Ok(if is_function {
        Resolved::Fixed(new_pointer(vm, ty, address))
    } else {
        Resolved::Variable(ty, address)
    })
}

fn library_of(vm: &Vm, v: Value) -> Option<Rc<Library>> {
    Some(v.as_obj::<Userdata>()?.downcast::<Namespace>(&vm.heap)?.0.clone())
}

/// A name that the namespace's cache does not have. Argument 0 is the cache; the namespace is an upvalue.
fn clib_index(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let owner = vm.upvalue(0);
    let Some(library) = library_of(vm, owner) else { return Err(vm.type_error(0, "userdata")) };
    let key = vm.arg(1);
    match resolve(vm, &ffi, &library, key)? {
        Resolved::Fixed(v) => {
            if let Some(cache) = vm.arg(0).as_obj::<Table>()
                && cache.setv(&mut vm.heap, key, v).is_err()
            {
                return Err(vm.throw_memory());
            }
            Ok(Outcome::one(v))
        }
        Resolved::Variable(ty, address) => Ok(Outcome::one(convert::from_c(vm, &ffi, ty, address))),
    }
}

fn clib_newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let owner = vm.arg(0);
    let Some(library) = library_of(vm, owner) else { return Err(vm.type_error(0, "userdata")) };
    let (key, value) = (vm.arg(1), vm.arg(2));
    if let Resolved::Variable(ty, address) = resolve(vm, &ffi, &library, key)? {
        let types = ffi.types.borrow();
        if !types.quals(ty).is_const() {
            let stored = index::store(vm, &ffi, &types, (ty, address, None), value);
            drop(types);
            return match stored {
                Ok(()) => Ok(Outcome::none()),
                Err(e) => Err(vm.throw_str(e.message())),
            };
        }
    }
    Err(vm.throw_str(b"attempt to write to constant location"))
}

/// The Lua object of a library.
///
/// Functions and constants are remembered in a table that the object's `__index` names, so that using them again costs a table
/// access; only variables and new names reach `clib_index`.
fn namespace(vm: &mut Vm, library: Rc<Library>) -> Value {
    let mt = vm.heap.new_table(0, 2);
    let object = Value::obj(vm.heap.new_udata(Namespace(library), Some(mt)));
    let cache = vm.heap.new_table(0, 3);
    let cache_mt = vm.heap.new_table(0, 1);
    let index = vm.new_native(NativeRow::new("ffi.clib.__index", clib_index), &[object]);
    let newindex = vm.new_native(NativeRow::new("ffi.clib.__newindex", clib_newindex), &[]);
    field(vm, cache_mt, "__index", Value::obj(index));
    vm.heap.set_metatable(cache, Some(cache_mt));
    field(vm, mt, "__index", Value::obj(cache));
    field(vm, mt, "__newindex", Value::obj(newindex));
    object
}

fn callback_address(vm: &mut Vm, ffi: &Ffi) -> Result<usize, Raised> {
    let cd = check_cdata(vm, 0)?;
    let types = ffi.types.borrow();
    let p = place(vm, &types, cd);
    Ok(match types.kind(p.ty) {
        Kind::Ptr { bytes, .. } => access::load_pointer(p.addr, bytes),
        _ => 0,
    })
}

/// `cb:free()`
fn callback_free(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let address = callback_address(vm, &ffi)?;
    if callback::replace(&ffi, address, Value::NIL) {
        return Ok(Outcome::none());
    }
    Err(vm.throw_str(b"bad callback"))
}

/// `cb:set(function)`
fn callback_set(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let address = callback_address(vm, &ffi)?;
    let f = vm.check_func(1)?;
    if callback::replace(&ffi, address, Value::obj(f)) {
        return Ok(Outcome::none());
    }
    Err(vm.throw_str(b"bad callback"))
}

/// The library's functions.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("ffi.abi", abi),
    NativeRow::new("ffi.addressof", addressof),
    NativeRow::new("ffi.alignof", alignof),
    NativeRow::new("ffi.cast", ffi_cast),
    NativeRow::new("ffi.cdef", cdef),
    NativeRow::new("ffi.copy", copy),
    NativeRow::new("ffi.errno", errno),
    NativeRow::new("ffi.fill", fill),
    NativeRow::new("ffi.gc", gc),
    NativeRow::new("ffi.istype", istype),
    NativeRow::new("ffi.load", load),
    NativeRow::new("ffi.metatype", metatype),
    NativeRow::new("ffi.new", new),
    NativeRow::new("ffi.offsetof", offsetof),
    NativeRow::new("ffi.sizeof", sizeof),
    NativeRow::new("ffi.string", string),
    NativeRow::new("ffi.typeinfo", typeinfo),
    NativeRow::new("ffi.typeof", type_of),
];

/// Methods of callbacks.
const CALLBACK_FNS: &[NativeRow] =
    &[NativeRow::new("ffi.callback.free", callback_free), NativeRow::new("ffi.callback.set", callback_set)];

const OS: &str = if cfg!(target_os = "linux") {
    "Linux"
} else if cfg!(target_os = "macos") {
    "OSX"
} else {
    "POSIX"
};
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };

/// `package.preload.ffi`: the library's table, made when the VM was.
fn loader(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(vm.upvalue(0)))
}

/// Opens the ffi in `vm` with `library` as the default namespace; returns the table that `require "ffi"` gives.
pub fn open(vm: &mut Vm, library: Library) -> Gc<Table> {
    let ffi = Rc::new(Ffi::new(library));
    ffi.make_callback.set(Some(callback::make));
    vm.cdata = Some(Box::new(Hooks(ffi.clone())));
    vm.cdata_call = Some(meta::call_directly);

    let mt = vm.heap.new_table(0, 5);
    vm.register(mt, meta::METHODS);
    let name = vm.heap.str(b"ffi");
    field(vm, mt, Mm::NAMES[Mm::Metatable as usize], Value::obj(name));
    let sample = new_type_object(vm, CTypeId::VOID);
    vm.set_base_metatable(sample, Some(mt));

    let methods = vm.heap.new_table(0, 1);
    vm.register(methods, CALLBACK_FNS);
    let callback_mt = vm.heap.new_table(0, 1);
    field(vm, callback_mt, "__index", Value::obj(methods));
    ffi.set_metatype(Ffi::FUNCTION_POINTERS, callback_mt);

    let lib = vm.heap.new_table(0, 5);
    vm.register(lib, FNS);
    let c = namespace(vm, ffi.default_library.clone());
    field(vm, lib, "C", c);
    for (key, text) in [("os", OS), ("arch", ARCH)] {
        let text = vm.heap.str(text.as_bytes());
        field(vm, lib, key, Value::obj(text));
    }
    if let Some(preload) = vm.registry.get_bytes(&vm.heap, b"_PRELOAD").as_obj::<Table>() {
        let f = vm.new_native(NativeRow::new("ffi.loader", loader), &[Value::obj(lib)]);
        field(vm, preload, "ffi", Value::obj(f));
    }
    lib
}
