//! `require`, `module` and the package table. Loaders are Lua values that `require` calls one after another.

use super::{registry_table, set_field};
use crate::function::closure::Func;
use crate::heap::gc_ref::Gc;
use crate::limits::LIBRARY_PATH_MAX;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use crate::string::Str;
use crate::table::Table;
use crate::value::Value;

/// Functions of this library: fields of `package`.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("package.loadlib", loadlib),
    NativeRow::new("package.searchpath", searchpath),
    NativeRow::new("package.seeall", seeall),
];

/// Its global functions.
pub const GLOBALS: &[NativeRow] = &[NativeRow::new("module", module), NativeRow::new("require", require)];

/// Elements of `package.loaders`, in order.
const LOADERS: &[NativeRow] = &[
    NativeRow::new("package.loader_preload", loader_preload),
    NativeRow::new("package.loader_lua", loader_lua),
    NativeRow::new("package.loader_c", loader_c),
    NativeRow::new("package.loader_croot", loader_croot),
];

/// Where Lua modules are looked for.
pub const DEFAULT_PATH: &str = "./?.lua;/usr/local/share/luajit-2.1/?.lua;/usr/local/share/lua/5.1/?.lua;\
                                /usr/local/share/lua/5.1/?/init.lua;/usr/share/lua/5.1/?.lua;\
                                /usr/share/lua/5.1/?/init.lua";
/// Where C modules would be.
pub const DEFAULT_CPATH: &str = "./?.so;/usr/local/lib/lua/5.1/?.so;/usr/lib/lua/5.1/?.so;\
                                 /usr/local/lib/lua/5.1/loadall.so";

/// `package.loaded[name]` while a module is being loaded.
const SENTINEL: Value = Value::lightud_raw(0x5e47);

/// `package.preload.ffi` of a VM without an ffi: says what is missing.
fn no_ffi(vm: &mut Vm, _: Entry) -> NativeResult {
    Err(vm.throw_str(
        b"module 'ffi' is not part of this VM (built without the feature 'ffi', or not installed)",
    ))
}

/// Opens the library.
pub fn open(vm: &mut Vm) {
    let loaded = registry_table(vm, "_LOADED");
    let preload = registry_table(vm, "_PRELOAD");
    let p = super::new_library(vm, "package", FNS);
    let g = vm.globals;
    vm.register(g, GLOBALS);
    for row in GLOBALS {
        super::give_upvalues(vm, g, row.name, &[Value::obj(p)]);
    }
    set_field(vm, p, "loaded", Value::obj(loaded));
    set_field(vm, p, "preload", Value::obj(preload));
    // Replaced by the ffi itself where it is there.
    let f = vm.new_native(NativeRow::new("package.no_ffi", no_ffi), &[]);
    set_field(vm, preload, "ffi", Value::obj(f));
    let loaders = vm.heap.new_table(LOADERS.len() as u32 + 1, 0);
    for (i, row) in LOADERS.iter().enumerate() {
        let f = vm.new_native(*row, &[Value::obj(p)]);
        let _ = loaders.seti(&mut vm.heap, i as i64 + 1, Value::obj(f));
    }
    set_field(vm, p, "loaders", Value::obj(loaders));
    if vm.compat52 {
        set_field(vm, p, "searchers", Value::obj(loaders));
    }
    let path = path_from("LUA_PATH", DEFAULT_PATH);
    let path = vm.heap.str(&path);
    set_field(vm, p, "path", Value::obj(path));
    let cpath = path_from("LUA_CPATH", DEFAULT_CPATH);
    let cpath = vm.heap.str(&cpath);
    set_field(vm, p, "cpath", Value::obj(cpath));
    let config = vm.heap.str(b"/\n;\n?\n!\n-\n");
    set_field(vm, p, "config", Value::obj(config));
}

/// A search path from the environment; `;;` stands for the default.
fn path_from(variable: &str, default: &str) -> Vec<u8> {
    let Some(v) = std::env::var_os(variable) else { return default.as_bytes().to_vec() };
    let mut out = Vec::new();
    let mut rest = v.as_encoded_bytes();
    while let Some(at) = memchr::memmem::find(rest, b";;") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(format!(";{default};").as_bytes());
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    out
}

/// Sets the search paths to their defaults, whatever the environment says (`-E`).
pub fn use_default_paths(vm: &mut Vm) {
    let loaded = super::base::loaded_table(vm);
    let Some(p) = loaded.get_bytes(&vm.heap, b"package").as_obj::<Table>() else { return };
    for (name, default) in [("path", DEFAULT_PATH), ("cpath", DEFAULT_CPATH)] {
        let s = vm.heap.str(default.as_bytes());
        set_field(vm, p, name, Value::obj(s));
    }
    let registry = vm.registry;
    set_field(vm, registry, "LUA_NOENV", Value::TRUE);
}

fn package_table(vm: &mut Vm) -> Result<Gc<Table>, Raised> {
    match vm.upvalue(0).as_obj() {
        Some(t) => Ok(t),
        None => Err(vm.throw_plain(b"the package library has lost its table")),
    }
}

/// Slots of a running `require` above the name: number of the loader, messages so far.
const LOADER_AT: usize = 1;
const MESSAGES: usize = 2;

/// `require(name)`: what `package.loaded` holds in the end. May call Lua (loaders and the module).
/// Raises `module 'x' not found:...`, `loop or previous error loading module 'x'`.
fn require(vm: &mut Vm, e: Entry) -> NativeResult {
    let name = vm.check_str(0)?;
    let name_value = Value::obj(name);
    let loaded = registry_table(vm, "_LOADED");
    match e.label() {
        0 => {
            let v = loaded.getv(&vm.heap, name_value);
            if v == SENTINEL {
                let text = [b"loop or previous error loading module '", name.bytes(&vm.heap), b"'"].concat();
                return Err(vm.throw_str(&text));
            }
            if v.truthy() {
                return Ok(Outcome::one(v));
            }
            vm.set_top(1);
            vm.push(Value::int(0));
            let empty = vm.heap.str(b"");
            vm.push(Value::obj(empty));
        }
        1 => {
            let r = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
            vm.set_top(MESSAGES + 1);
            if r.is::<Func>() {
                loaded.setv(&mut vm.heap, name_value, SENTINEL).map_err(|e| super::table_error(vm, e))?;
                vm.prepare_call(r);
                vm.push(name_value);
                return Ok(Outcome::call(1, 2));
            }
            let r = if r.is_num() { Value::obj(vm.tostring_raw(r)) } else { r };
            if let (Some(more), Some(all)) = (r.as_obj::<Str>(), vm.slot(MESSAGES).as_obj::<Str>()) {
                let text = [all.bytes(&vm.heap), more.bytes(&vm.heap)].concat();
                let text = vm.heap.str(&text);
                vm.set_slot(MESSAGES, Value::obj(text));
            }
        }
        _ => {
            let r = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
            let r = match loaded.getv(&vm.heap, name_value) {
                _ if !r.is_nil() => r,
                SENTINEL => Value::TRUE,
                v => return Ok(Outcome::one(v)),
            };
            loaded.setv(&mut vm.heap, name_value, r).map_err(|e| super::table_error(vm, e))?;
            return Ok(Outcome::one(r));
        }
    }
    let p = package_table(vm)?;
    let Some(loaders) = p.get_bytes(&vm.heap, b"loaders").as_obj::<Table>() else {
        return Err(vm.throw_str(b"'package.loaders' must be a table"));
    };
    let i = vm.slot(LOADER_AT).as_num().unwrap_or(0.0) as i64 + 1;
    vm.set_slot(LOADER_AT, Value::num(i as f64));
    let loader = loaders.geti(&vm.heap, i);
    if loader.is_nil() {
        let messages = vm.raw_text(vm.slot(MESSAGES));
        let text = [b"module '", name.bytes(&vm.heap), b"' not found:", &messages[..]].concat();
        return Err(vm.throw_str(&text));
    }
    vm.prepare_call(loader);
    vm.push(name_value);
    Ok(Outcome::call(1, 1))
}

fn loader_preload(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?;
    let p = package_table(vm)?;
    let Some(preload) = p.get_bytes(&vm.heap, b"preload").as_obj::<Table>() else {
        return Err(vm.throw_str(b"'package.preload' must be a table"));
    };
    let f = preload.getv(&vm.heap, Value::obj(name));
    if !f.is_nil() {
        return Ok(Outcome::one(f));
    }
    let text = [b"\n\tno field package.preload['", name.bytes(&vm.heap), b"']"].concat();
    Ok(Outcome::one(Value::obj(vm.heap.str(&text))))
}

/// Replaces every `from` in `s`.
fn replace(s: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(s.len());
    let mut rest = s;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Looks for a readable file; answers its name, or the list of what was tried.
fn search(name: &[u8], path: &[u8], sep: &[u8], rep: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
    let name = if sep.is_empty() { name.to_vec() } else { replace(name, sep, rep) };
    let mut tried = Vec::new();
    for template in path.split(|&c| c == b';').filter(|t| !t.is_empty()) {
        let file = replace(template, b"?", &name);
        let readable = super::sys::path(&file).and_then(std::fs::File::open).is_ok();
        if readable {
            return Ok(file);
        }
        tried.extend_from_slice(b"\n\tno file '");
        tried.extend_from_slice(&file);
        tried.push(b'\'');
    }
    Err(tried)
}

/// Looks for a module along a field of `package`. Raises `'package.path' must be a string`.
fn search_field(vm: &mut Vm, name: &[u8], field: &str) -> Result<Result<Vec<u8>, Vec<u8>>, Raised> {
    let p = package_table(vm)?;
    match p.get_bytes(&vm.heap, field.as_bytes()) {
        v if v.is::<Str>() || v.is_num() => Ok(search(name, &vm.raw_text(v), b".", b"/")),
        _ => {
            let text = format!("'package.{field}' must be a string");
            Err(vm.throw_str(text.as_bytes()))
        }
    }
}

fn load_failure(vm: &mut Vm, name: &[u8], file: &[u8], why: &[u8]) -> Raised {
    let text = [b"error loading module '", name, b"' from file '", file, b"':\n\t", why].concat();
    vm.throw_str(&text)
}

fn loader_lua(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let file = match search_field(vm, &name, "path")? {
        Ok(f) => f,
        Err(tried) => return Ok(Outcome::one(Value::obj(vm.heap.str(&tried)))),
    };
    let chunk = [b"@", &file[..]].concat();
    let env = Some(vm.globals_of_running());
    let loaded =
        super::base::read_source(vm, Some(&file)).and_then(|code| vm.load(&code, &chunk, b"bt", env));
    match loaded {
        Ok(f) => Ok(Outcome::one(Value::obj(f))),
        Err(why) => Err(load_failure(vm, &name, &file, &why)),
    }
}

const NO_C: &[u8] = b"C modules need the C API of Lua, which this VM does not have";

fn loader_c(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    match search_field(vm, &name, "cpath")? {
        Ok(file) => Err(load_failure(vm, &name, &file, NO_C)),
        Err(tried) => Ok(Outcome::one(Value::obj(vm.heap.str(&tried)))),
    }
}

fn loader_croot(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let Some(dot) = memchr::memchr(b'.', &name) else { return Ok(Outcome::none()) };
    match search_field(vm, &name[..dot], "cpath")? {
        Ok(file) => Err(load_failure(vm, &name, &file, NO_C)),
        Err(tried) => Ok(Outcome::one(Value::obj(vm.heap.str(&tried)))),
    }
}

/// `package.loadlib(path, name)`: always nil, the reason and `absent`.
fn loadlib(vm: &mut Vm, _: Entry) -> NativeResult {
    // C strings end at a zero.
    let path = vm.check_str(0)?.bytes(&vm.heap).iter().take_while(|&&b| b != 0).count();
    vm.check_str(1)?;
    let (text, place) = match path > LIBRARY_PATH_MAX {
        true => (&b"path too long"[..], &b"open"[..]),
        false => (NO_C, &b"absent"[..]),
    };
    vm.push(Value::NIL);
    for t in [text, place] {
        let t = vm.heap.str(t);
        vm.push(Value::obj(t));
    }
    Ok(Outcome::top(3))
}

/// `package.searchpath(name, path, sep, rep)`: a file name, or nil and what was tried.
fn searchpath(vm: &mut Vm, _: Entry) -> NativeResult {
    // The last wrong argument is the one that is told of.
    let rep = vm.opt_str(3)?.map_or(b"/".to_vec(), |s| s.bytes(&vm.heap).to_vec());
    let sep = vm.opt_str(2)?.map_or(b".".to_vec(), |s| s.bytes(&vm.heap).to_vec());
    let path = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    match search(&name, &path, &sep, &rep) {
        Ok(file) => Ok(Outcome::one(Value::obj(vm.heap.str(&file)))),
        Err(tried) => {
            vm.push(Value::NIL);
            let s = vm.heap.str(&tried);
            vm.push(Value::obj(s));
            Ok(Outcome::top(2))
        }
    }
}

/// `package.seeall(module)`: lets a module see the globals.
fn seeall(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let meta = match t.get(&vm.heap).meta {
        Some(m) => m,
        None => {
            let m = vm.heap.new_table(0, 1);
            vm.heap.set_metatable(t, Some(m));
            m
        }
    };
    let g = vm.globals;
    set_field(vm, meta, "__index", Value::obj(g));
    Ok(Outcome::none())
}

/// The table at a dotted name below the globals, made where it is missing; `None` if something else is there.
fn find_table(vm: &mut Vm, name: &[u8]) -> Option<Gc<Table>> {
    let mut t = vm.globals;
    for part in name.split(|&c| c == b'.') {
        let v = t.get_bytes(&vm.heap, part);
        t = match v.as_obj::<Table>() {
            Some(t) => t,
            None if v.is_nil() => {
                let new = vm.heap.new_table(0, 1);
                let _ = t.set_bytes(&mut vm.heap, part, Value::obj(new));
                new
            }
            None => return None,
        };
    }
    Some(t)
}

/// `module(name, ...)`: makes a module and its table the environment of the caller; the other arguments are
/// functions to call with it. Raises `name conflict for module 'x'`. May call Lua.
fn module(vm: &mut Vm, e: Entry) -> NativeResult {
    let name = vm.check_str(0)?;
    // Above the arguments: how many there are, the module, number of the next function.
    if e.label() == 0 {
        let n = e.count();
        let loaded = registry_table(vm, "_LOADED");
        let known = loaded.getv(&vm.heap, Value::obj(name)).as_obj::<Table>();
        let text = name.bytes(&vm.heap).to_vec();
        let t = match known {
            Some(t) => t,
            None => {
                let Some(t) = find_table(vm, &text) else {
                    let text = [b"name conflict for module '", &text[..], b"'"].concat();
                    return Err(vm.throw_str(&text));
                };
                loaded
                    .setv(&mut vm.heap, Value::obj(name), Value::obj(t))
                    .map_err(|e| super::table_error(vm, e))?;
                t
            }
        };
        if t.get_bytes(&vm.heap, b"_NAME").is_nil() {
            set_field(vm, t, "_M", Value::obj(t));
            set_field(vm, t, "_NAME", Value::obj(name));
            let dot = text.iter().rposition(|&c| c == b'.').map_or(0, |i| i + 1);
            let package = vm.heap.str(&text[..dot]);
            set_field(vm, t, "_PACKAGE", Value::obj(package));
        }
        let caller = vm.frame_at(vm.cur, 1).and_then(|f| vm.frame_func(f));
        match caller {
            Some(f) if !f.get(&vm.heap).is_native() => {
                f.get_mut(&mut vm.heap).env = t;
                vm.heap.barrier(f);
            }
            _ => return Err(vm.throw_str(b"'module' not called from a Lua function")),
        }
        vm.push(Value::obj(t));
        vm.push(Value::num(n as f64));
        vm.push(Value::int(1));
    } else {
        let height = vm.top_count() - e.count();
        vm.set_top(height);
    }
    let height = vm.top_count();
    let t = vm.slot(height - 3);
    let n = vm.slot(height - 2).as_num().unwrap_or(0.0) as usize;
    let i = vm.slot(height - 1).as_num().unwrap_or(0.0) as usize;
    if i < n {
        vm.set_slot(height - 1, Value::num(i as f64 + 1.0));
        vm.prepare_call(vm.slot(i));
        vm.push(t);
        return Ok(Outcome::call(1, 1));
    }
    Ok(if vm.compat52 { Outcome::one(t) } else { Outcome::none() })
}
