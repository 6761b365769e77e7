//! The base library.

use std::io::Read;

use super::{check_option, op_row, registry_table, set_field, set_loaded, table_error};
use crate::bytecode::ops::{Mm, Op};
use crate::error::messages as msg;
use crate::function::closure::Func;
use crate::heap::gc_ref::Gc;
use crate::interp::handlers::builtin as fast;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised, Takes};
use crate::string::Str;
use crate::table::Table;
use crate::userdata::Userdata;
use crate::value::{Value, number, tag};

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("assert", assert).with_fast(fast::ASSERT),
    NativeRow::new("collectgarbage", collectgarbage),
    NativeRow::new("dofile", dofile),
    NativeRow::new("error", error),
    NativeRow::new("gcinfo", gcinfo),
    NativeRow::new("getfenv", getfenv),
    NativeRow::new("getmetatable", getmetatable).with_fast(fast::GETMETATABLE),
    NativeRow::new("ipairs", ipairs).with_fast(fast::IPAIRS),
    NativeRow::new("load", load),
    NativeRow::new("loadfile", loadfile),
    NativeRow::new("loadstring", load),
    NativeRow::new("newproxy", newproxy),
    NativeRow::new("next", next).plain(Takes::Tables).with_fast(fast::NEXT),
    NativeRow::new("pairs", pairs).with_fast(fast::PAIRS),
    op_row("pcall", Op::FUNCPCALL),
    NativeRow::new("print", print),
    NativeRow::new("rawequal", rawequal).plain(Takes::Tables),
    NativeRow::new("rawget", rawget).plain(Takes::Tables).with_fast(fast::RAWGET),
    NativeRow::new("rawset", rawset).plain(Takes::Tables),
    NativeRow::new("select", select).plain(Takes::Tables).with_fast(fast::SELECT),
    NativeRow::new("setfenv", setfenv),
    NativeRow::new("setmetatable", setmetatable).with_fast(fast::SETMETATABLE),
    NativeRow::new("tonumber", tonumber).plain(Takes::Values).with_fast(fast::TONUMBER),
    NativeRow::new("tostring", tostring).plain(Takes::Values).with_fast(fast::TOSTRING),
    NativeRow::new("type", type_).with_fast(fast::TYPE),
    NativeRow::new("unpack", unpack).plain(Takes::Tables),
    op_row("xpcall", Op::FUNCXPCALL),
];

/// Functions only 5.2 mode shows.
pub const FNS52: &[NativeRow] = &[NativeRow::new("rawlen", rawlen).plain(Takes::Tables)];

/// The native `tostring`, which `print` need not call.
struct Tostring(crate::index::NativeId);

/// Names of the types, as `Value::type_name` has them, by type index.
const TYPE_NAMES: [&str; fast::TYPE_NAMES] = [
    "nil", "boolean", "boolean", "userdata", "string", "upval", "thread", "proto", "function", "trace",
    "cdata", "table", "userdata", "number",
];

/// Opens the library.
pub fn open(vm: &mut Vm) {
    let g = vm.globals;
    vm.register(g, FNS);
    if vm.compat52 {
        vm.register(g, FNS52);
    }
    set_field(vm, g, "_G", Value::obj(g));
    let version = vm.heap.str(b"Lua 5.1");
    set_field(vm, g, "_VERSION", Value::obj(version));
    set_loaded(vm, "_G", Value::obj(g));

    // `ipairs` keeps its iterator, `newproxy` the set of metatables it has made.
    let aux = vm.new_native(NativeRow::new("ipairs_aux", ipairs_aux).with_fast(fast::IPAIRSAUX), &[]);
    super::give_upvalues(vm, g, "ipairs", &[Value::obj(aux)]);
    // `type` has the names of all types at hand, in the order of `type_index`.
    let names: Vec<Value> = TYPE_NAMES.iter().map(|n| Value::obj(vm.heap.str(n.as_bytes()))).collect();
    super::give_upvalues(vm, g, "type", &names);
    let proxies = vm.heap.new_table(0, 1);
    let meta = vm.heap.new_table(0, 1);
    let mode = vm.heap.str(b"k");
    set_field(vm, meta, "__mode", Value::obj(mode));
    vm.heap.set_metatable(proxies, Some(meta));
    super::give_upvalues(vm, g, "newproxy", &[Value::obj(proxies)]);
    if let Some(id) = super::native_id(vm, g, "tostring") {
        vm.app.set(Tostring(id));
    }
}

/// `assert(v, message...)`: all its arguments if `v` is true, else raises the message, with a position if
/// it is a string or a number. Raises `assertion failed!` without one.
fn assert(vm: &mut Vm, e: Entry) -> NativeResult {
    if vm.check_any(0)?.truthy() {
        return Ok(Outcome::top(e.count()));
    }
    match vm.arg_opt(1) {
        None => Err(vm.throw_str(b"assertion failed!")),
        Some(m) if m.is::<Str>() || m.is_num() => {
            let text = vm.raw_text(m);
            Err(vm.throw_str(&text))
        }
        Some(m) => Err(vm.throw(m)),
    }
}

/// `error(v, level)`: raises `v`; a string or number gets the position of `level` (default 1) in front.
fn error(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    let level = vm.opt_int(1, 1)?;
    if level > 0 && (v.is::<Str>() || v.is_num()) {
        let mut text = vm.position(level as usize);
        text.extend_from_slice(&vm.raw_text(v));
        return Err(vm.throw_plain(&text));
    }
    Err(vm.throw(v))
}

/// `type(v)`.
fn type_(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_any(0)?.type_name();
    Ok(Outcome::one(Value::obj(vm.heap.str(name.as_bytes()))))
}

/// `tostring(v)`: asks `__tostring`, whose results it returns as they are.
fn tostring(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.check_any(0)?;
    if v.is::<Str>() {
        return Ok(Outcome::one(v));
    }
    let mm = vm.metamethod(v, Mm::Tostring);
    if !mm.is_nil() {
        vm.prepare_call(mm);
        vm.push(v);
        return Ok(Outcome::tail_call(1));
    }
    Ok(Outcome::one(Value::obj(vm.tostring_raw(v))))
}

/// `tonumber(v, base)`: nil if `v` is no number. Raises `base out of range`.
fn tonumber(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.check_any(0)?;
    let base = vm.opt_int(1, 10)?;
    if base == 10 {
        if v.is_num() {
            return Ok(Outcome::one(v));
        }
        let n = if v.tag() == tag::CDATA {
            vm.cdata.as_ref().and_then(|h| h.to_number(vm, v))
        } else {
            vm.str_to_number(v)
        };
        return Ok(Outcome::one(n.map_or(Value::NIL, Value::num)));
    }
    let s = vm.check_str(0)?;
    if !(2..=36).contains(&base) {
        return Err(vm.arg_error(1, b"base out of range"));
    }
    let n = number::parse_radix(s.bytes(&vm.heap), base as u32);
    Ok(Outcome::one(n.map_or(Value::NIL, Value::num)))
}

/// `next(t, key)`. Raises `invalid key to 'next'`.
fn next(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    match t.next(&vm.heap, vm.arg(1)) {
        Ok(Some((k, v))) => {
            vm.push(k);
            vm.push(v);
            Ok(Outcome::top(2))
        }
        Ok(None) => Ok(Outcome::one(Value::NIL)),
        // Without the caller's position, as in LuaJIT.
        Err(_) => Err(vm.throw_plain(msg::NEXT_KEY.as_bytes())),
    }
}

/// Puts the metamethod of `pairs` or `ipairs` into its place: all results are the handler's.
fn iterate_by(vm: &mut Vm, mm: Mm) -> Option<NativeResult> {
    let v = vm.arg(0);
    if !(vm.compat52 || v.tag() == tag::CDATA) {
        return None;
    }
    let f = vm.metamethod(v, mm);
    if f.is_nil() {
        return None;
    }
    vm.prepare_call(f);
    vm.push(v);
    Some(Ok(Outcome::tail_call(1)))
}

/// `pairs(t)`: `next, t, nil`, or what `__pairs` gives (5.2 mode and C data).
fn pairs(vm: &mut Vm, _: Entry) -> NativeResult {
    if let Some(r) = iterate_by(vm, Mm::Pairs) {
        return r;
    }
    vm.check_any(0)?;
    let t = vm.check_tab(0)?;
    vm.push(vm.next_func);
    vm.push(Value::obj(t));
    vm.push(Value::NIL);
    Ok(Outcome::top(3))
}

/// `ipairs(t)`: an iterator over `1, 2, ...` up to the first nil, or what `__ipairs` gives.
fn ipairs(vm: &mut Vm, _: Entry) -> NativeResult {
    if let Some(r) = iterate_by(vm, Mm::Ipairs) {
        return r;
    }
    vm.check_any(0)?;
    let t = vm.check_tab(0)?;
    vm.push(vm.upvalue(0));
    vm.push(Value::obj(t));
    vm.push(Value::int(0));
    Ok(Outcome::top(3))
}

fn ipairs_aux(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let i = vm.check_int(1)?.wrapping_add(1);
    let v = t.geti(&vm.heap, i);
    if v.is_nil() {
        return Ok(Outcome::none());
    }
    vm.push(Value::int(i));
    vm.push(v);
    Ok(Outcome::top(2))
}

/// `select(n, ...)` or `select('#', ...)`. Raises `index out of range`.
fn select(vm: &mut Vm, e: Entry) -> NativeResult {
    let n = e.count() as i64;
    if let Some(s) = vm.arg(0).as_obj::<Str>()
        && s.bytes(&vm.heap).first() == Some(&b'#')
    {
        return Ok(Outcome::one(Value::int(n as i32 - 1)));
    }
    let mut i = vm.check_int(0)? as i64;
    if i < 0 {
        i += n;
    }
    if i < 1 {
        return Err(vm.arg_error(0, b"index out of range"));
    }
    Ok(Outcome::top((n - i).max(0) as usize))
}

/// `unpack(t, i, j)`. Raises `too many results to unpack`.
pub(super) fn unpack(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let i = vm.opt_int(1, 1)? as i64;
    let j = if vm.arg(2).is_nil() { t.len(&vm.heap) as i64 } else { vm.check_int(2)? as i64 };
    if i > j {
        return Ok(Outcome::none());
    }
    let n = (j - i + 1) as usize;
    if n >= 8000 || vm.ensure_slots(n).is_err() {
        return Err(vm.throw_str(b"too many results to unpack"));
    }
    for k in i..=j {
        let v = t.geti(&vm.heap, k);
        vm.push(v);
    }
    Ok(Outcome::top(n))
}

/// `rawequal(a, b)`.
fn rawequal(vm: &mut Vm, _: Entry) -> NativeResult {
    let (a, b) = (vm.check_any(0)?, vm.check_any(1)?);
    Ok(Outcome::one(Value::bool(raw_equal(vm, a, b))))
}

/// Equality without metamethods.
pub(super) fn raw_equal(vm: &Vm, a: Value, b: Value) -> bool {
    match (a.as_obj::<Str>(), b.as_obj::<Str>()) {
        (Some(a), Some(b)) => vm.heap.str_eq(a, b),
        _ => a.raw_identical(b),
    }
}

/// `rawget(t, key)`.
fn rawget(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let k = vm.check_any(1)?;
    Ok(Outcome::one(t.getv(&vm.heap, k)))
}

/// `rawset(t, key, value)`; returns the table.
fn rawset(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let k = vm.check_any(1)?;
    let v = vm.check_any(2)?;
    match t.setv(&mut vm.heap, k, v) {
        Ok(()) => Ok(Outcome::one(Value::obj(t))),
        Err(e) => Err(table_error(vm, e)),
    }
}

/// `rawlen(v)` of a table or string (5.2 mode).
fn rawlen(vm: &mut Vm, _: Entry) -> NativeResult {
    if let Some(s) = vm.arg(0).as_obj::<Str>() {
        return Ok(Outcome::one(Value::num(s.get(&vm.heap).len as f64)));
    }
    let t = vm.check_tab(0)?;
    Ok(Outcome::one(Value::num(t.len(&vm.heap) as f64)))
}

/// `getmetatable(v)`: what its field `__metatable` says, if there is one.
fn getmetatable(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.check_any(0)?;
    let Some(mt) = vm.metatable_of(v) else { return Ok(Outcome::one(Value::NIL)) };
    let shown = mt.gets(&vm.heap, vm.mm_names[Mm::Metatable as usize]);
    Ok(Outcome::one(if shown.is_nil() { Value::obj(mt) } else { shown }))
}

/// `setmetatable(t, mt)`. Raises `nil or table expected`, `cannot change a protected metatable`.
fn setmetatable(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let mt = match vm.arg_opt(1) {
        Some(Value::NIL) => None,
        Some(v) if v.is::<Table>() => v.as_obj::<Table>(),
        _ => return Err(vm.arg_error(1, b"nil or table expected")),
    };
    if let Some(old) = t.get(&vm.heap).meta
        && !old.gets(&vm.heap, vm.mm_names[Mm::Metatable as usize]).is_nil()
    {
        return Err(vm.throw_str(b"cannot change a protected metatable"));
    }
    vm.heap.set_metatable(t, mt);
    Ok(Outcome::one(Value::obj(t)))
}

/// What `getfenv` and `setfenv` are asked about.
enum EnvOf {
    Thread,
    Function(Gc<Func>),
    Other,
}

fn env_target(vm: &mut Vm, default_level: Option<i32>) -> Result<EnvOf, Raised> {
    let v = vm.arg(0);
    if let Some(f) = v.as_obj::<Func>() {
        return Ok(EnvOf::Function(f));
    }
    if !(v.is_num() || v.is_nil() || v.is::<Str>()) {
        return Ok(EnvOf::Other);
    }
    let level = match default_level {
        Some(d) => vm.opt_int(0, d)?,
        None => vm.check_int(0)?,
    };
    if level == 0 {
        return Ok(EnvOf::Thread);
    }
    let f = match level {
        1.. => vm.frame_at(vm.cur, level as usize).and_then(|f| vm.frame_func(f)),
        _ => None,
    };
    match f {
        Some(f) => Ok(EnvOf::Function(f)),
        None => Err(vm.arg_error(0, b"invalid level")),
    }
}

/// `getfenv(f or level)`. Raises `invalid level`.
fn getfenv(vm: &mut Vm, _: Entry) -> NativeResult {
    let env = match env_target(vm, Some(1))? {
        EnvOf::Thread => vm.cur.get(&vm.heap).env,
        EnvOf::Function(f) if !f.get(&vm.heap).is_native() => f.get(&vm.heap).env,
        // The environment of natives is of no consequence: the globals are shown.
        EnvOf::Function(_) => vm.cur.get(&vm.heap).env,
        EnvOf::Other => return Err(vm.type_error(0, "number")),
    };
    Ok(Outcome::one(Value::obj(env)))
}

/// `setfenv(f or level, table)`: returns the function (nothing for level 0).
/// Raises `'setfenv' cannot change environment of given object`.
fn setfenv(vm: &mut Vm, _: Entry) -> NativeResult {
    let env = vm.check_tab(1)?;
    match env_target(vm, None)? {
        EnvOf::Thread => {
            vm.cur.get_mut(&mut vm.heap).env = env;
            Ok(Outcome::none())
        }
        EnvOf::Function(f) if !f.get(&vm.heap).is_native() => {
            f.get_mut(&mut vm.heap).env = env;
            vm.heap.barrier(f);
            Ok(Outcome::one(Value::obj(f)))
        }
        EnvOf::Function(_) => Err(vm.throw_str(b"'setfenv' cannot change environment of given object")),
        EnvOf::Other => Err(vm.type_error(0, "number")),
    }
}

/// `newproxy(false | true | proxy)`. Raises `boolean or proxy expected`.
fn newproxy(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    let Some(known) = vm.upvalue(0).as_obj::<Table>() else {
        return Err(vm.throw_plain(b"'newproxy' has lost its table"));
    };
    let meta = if !v.truthy() {
        None
    } else if v == Value::TRUE {
        let mt = vm.heap.new_table(0, 0);
        if let Err(e) = known.setv(&mut vm.heap, Value::obj(mt), Value::TRUE) {
            return Err(table_error(vm, e));
        }
        Some(mt)
    } else {
        let mt = v.as_obj::<Userdata>().and_then(|u| u.get(&vm.heap).meta);
        match mt {
            Some(mt) if known.getv(&vm.heap, Value::obj(mt)).truthy() => Some(mt),
            _ => return Err(vm.arg_error(0, b"boolean or proxy expected")),
        }
    };
    Ok(Outcome::one(vm.heap.new_udata_bytes(0, meta).value()))
}

fn kilobytes(vm: &Vm) -> f64 {
    vm.heap.total_bytes() as f64 / 1024.0
}

/// `gcinfo()`: kilobytes in use.
fn gcinfo(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(kilobytes(vm).floor())))
}

/// `collectgarbage(option, arg)`. Raises `invalid option 'x'`.
fn collectgarbage(vm: &mut Vm, _: Entry) -> NativeResult {
    const OPTIONS: &[&str] =
        &["collect", "stop", "restart", "count", "step", "setpause", "setstepmul", "isrunning"];
    let option = check_option(vm, 0, Some(0), OPTIONS)?;
    let n = vm.opt_int(1, 0)?;
    if matches!(option, 0 | 4) && vm.heap.acct.stopped {
        // Whoever collects by hand sets the collector going again.
        crate::gc::set_stopped(vm, false);
    }
    let v = match option {
        0 => {
            vm.collect_garbage();
            Value::int(0)
        }
        1 => {
            crate::gc::set_stopped(vm, true);
            Value::int(0)
        }
        2 => {
            crate::gc::set_stopped(vm, false);
            Value::int(0)
        }
        3 => Value::num(kilobytes(vm)),
        4 => Value::bool(crate::gc::step_by(vm, n.max(0) as usize)),
        5 => {
            let old = std::mem::replace(&mut vm.heap.acct.pause_percent, n.max(0) as u32);
            Value::int(old as i32)
        }
        6 => {
            let old = std::mem::replace(&mut vm.heap.acct.stepmul_percent, n.max(0) as u32);
            Value::int(old as i32)
        }
        _ => Value::bool(!vm.heap.acct.stopped),
    };
    Ok(Outcome::one(v))
}

/// `print(...)`: every argument through the global `tostring`, tabs between, a newline behind. While that is the
/// library's own and numbers have no metatable, strings and numbers are written directly: looked at once, at the start.
/// Raises `'tostring' must return a string to 'print'`. May call Lua.
fn print(vm: &mut Vm, e: Entry) -> NativeResult {
    // Slots above the arguments: index of the argument at hand, the `tostring` to use, whether it is the plain one.
    let n;
    let mut i = 0;
    if e.label() == 0 {
        n = e.count();
        let env = Value::obj(vm.globals_of_running());
        let name = Value::obj(vm.heap.str(b"tostring"));
        vm.push(Value::int(0));
        match super::index(vm, env, name)? {
            super::Indexed::Value(f) => vm.push(f),
            super::Indexed::Call(f, env) => {
                vm.prepare_call(f);
                vm.push(env);
                vm.push(name);
                return Ok(Outcome::call(2, 2));
            }
        }
    } else if e.label() == 2 {
        n = vm.top_count() - e.count() - 1;
        let f = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
        vm.set_top(n + 1);
        vm.push(f);
    } else {
        n = vm.top_count() - e.count() - 3;
        i = vm.slot(n).as_num().unwrap_or(0.0) as usize;
        let r = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
        vm.set_top(n + 3);
        if !(r.is::<Str>() || r.is_num()) {
            return Err(vm.throw_str(b"'tostring' must return a string to 'print'"));
        }
        print_one(vm, i, r);
        i += 1;
    }
    let f = vm.slot(n + 1);
    if e.label() != 1 {
        let own = f.as_obj::<Func>().and_then(|f| f.as_native(&vm.heap)).map(|f| f.get(&vm.heap).id)
            == vm.app.get::<Tostring>().map(|t| t.0);
        vm.push(Value::bool(own && vm.metatable_of(Value::int(0)).is_none()));
    }
    let plain = vm.slot(n + 2).truthy();
    while i < n {
        let v = vm.slot(i);
        let direct = v.is::<Str>() || v.is_num();
        // The library's own gives the same for a value without `__tostring`, and is spared a call.
        if !plain || !direct && !vm.metamethod(v, Mm::Tostring).is_nil() {
            vm.set_slot(n, Value::int(i as i32));
            vm.prepare_call(f);
            vm.push(v);
            return Ok(Outcome::call(1, 1));
        }
        print_one(vm, i, v);
        i += 1;
    }
    super::io::write_stdout(vm, b"\n");
    Ok(Outcome::none())
}

fn print_one(vm: &mut Vm, i: usize, v: Value) {
    if i > 0 {
        super::io::write_stdout(vm, b"\t");
    }
    let text = vm.raw_text(v);
    super::io::write_stdout(vm, &text);
}

/// `load(string or buffer or reader, name, mode, env)`: a function, or nil and a message.
/// Raises `bad argument #1 to 'load' (function expected, got nil)`. May call Lua (the reader).
fn load(vm: &mut Vm, e: Entry) -> NativeResult {
    const STATE: usize = 4;
    if e.label() == 0 {
        vm.opt_str(1)?;
        vm.opt_str(2)?;
        if vm.arg(0).is::<Str>() || vm.arg(0).is_num() {
            let s = vm.check_str(0)?;
            let code = s.bytes(&vm.heap).to_vec();
            let name = match vm.opt_str(1)? {
                Some(n) => n.bytes(&vm.heap).to_vec(),
                None => code.clone(),
            };
            return load_bytes(vm, &code, &name, 2, 3);
        }
        if let Some(code) = super::buffer::readable(vm, vm.arg(0)) {
            let name = match vm.opt_str(1)? {
                Some(n) => n.bytes(&vm.heap).to_vec(),
                None => Vec::new(),
            };
            return load_bytes(vm, &code, &name, 2, 3);
        }
        vm.check_func(0)?;
        vm.set_top(STATE);
        let state = vm.heap.new_udata(Pieces::default(), None);
        vm.push(state.value());
    } else {
        if e.is_error() {
            let err = vm.top_value(1, 0);
            vm.push(Value::NIL);
            vm.push(err);
            return Ok(Outcome::top(2));
        }
        let v = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
        vm.set_top(STATE + 1);
        let state = vm.slot(STATE).as_obj::<Userdata>();
        if v.is_nil() || v.as_obj::<Str>().is_some_and(|s| s.bytes(&vm.heap).is_empty()) {
            return load_pieces(vm, state);
        }
        if !v.is::<Str>() && !v.is_num() {
            let mut text = vm.position(1);
            text.extend_from_slice(b"reader function must return a string");
            vm.push(Value::NIL);
            let s = vm.heap.str(&text);
            vm.push(Value::obj(s));
            return Ok(Outcome::top(2));
        }
        let text = vm.raw_text(v);
        let options = vm.syntax_options();
        let mut broken = false;
        if let Some(p) = state.and_then(|s| s.downcast_mut::<Pieces>(&mut vm.heap)) {
            broken = p.add(&text, options);
            let size = p.code.capacity();
            if let Some(s) = state {
                // So that the memory limit ends a reader that never does.
                vm.heap.set_udata_extern(s, size);
            }
        }
        if broken {
            // Nothing that could follow would make it right.
            return load_pieces(vm, state);
        }
    }
    vm.prepare_call(vm.slot(0));
    Ok(Outcome::pcall(0, 1))
}

/// What a reader has given so far.
#[derive(Default)]
struct Pieces {
    code: Vec<u8>,
    count: usize,
    /// Length at which it is looked at again.
    look_at: usize,
}

impl Pieces {
    /// Adds a piece; answers whether the code is known to be wrong. It is looked at when it has doubled, so that all
    /// looks together cost no more than one; and not at the first piece, which is mostly all there is.
    fn add(&mut self, piece: &[u8], options: crate::syntax::SyntaxOptions) -> bool {
        self.code.extend_from_slice(piece);
        self.count += 1;
        if self.count < 2 || self.code.len() < self.look_at || self.code[0] == 0x1b {
            return false;
        }
        self.look_at = self.code.len() * 2;
        crate::syntax::parser::check(&self.code, b"", options).is_err_and(|e| e.inside)
    }
}

/// Compiles what a reader gave.
fn load_pieces(vm: &mut Vm, state: Option<Gc<Userdata>>) -> NativeResult {
    if let Some(s) = state {
        vm.heap.set_udata_extern(s, 0);
    }
    let code = state.and_then(|s| s.take::<Pieces>(&mut vm.heap)).unwrap_or_default().code;
    let name = match vm.slot(1).as_obj::<Str>() {
        Some(n) => n.bytes(&vm.heap).to_vec(),
        None => b"=(load)".to_vec(),
    };
    load_bytes(vm, &code, &name, 2, 3)
}

/// Compiles; mode and environment are arguments of the running native.
fn load_bytes(vm: &mut Vm, code: &[u8], name: &[u8], mode: usize, env: usize) -> NativeResult {
    let mode = match vm.slot(mode).as_obj::<Str>() {
        Some(m) => m.bytes(&vm.heap).to_vec(),
        None => b"bt".to_vec(),
    };
    let env = vm.slot(env).as_obj::<Table>().unwrap_or_else(|| vm.globals_of_running());
    match vm.load(code, name, &mode, Some(env)) {
        Ok(f) => Ok(Outcome::one(Value::obj(f))),
        Err(text) => {
            vm.push(Value::NIL);
            let s = vm.heap.str(&text);
            vm.push(Value::obj(s));
            Ok(Outcome::top(2))
        }
    }
}

/// Contents of a source file, or of standard input. The error is the whole message.
pub fn read_source(vm: &mut Vm, path: Option<&[u8]>) -> Result<Vec<u8>, Vec<u8>> {
    let wrong = |what: &str, e: std::io::Error| {
        let reason = super::sys::error_text(&e);
        [what.as_bytes(), b" ", path.unwrap_or(b"stdin"), b": ", reason.as_bytes()].concat()
    };
    let Some(path) = path else {
        return super::io::read_stdin(vm).map_err(|e| wrong("cannot read", e));
    };
    let mut file =
        super::sys::path(path).and_then(std::fs::File::open).map_err(|e| wrong("cannot open", e))?;
    let mut code = Vec::new();
    file.read_to_end(&mut code).map_err(|e| wrong("cannot read", e))?;
    Ok(code)
}

fn chunk_name_of(path: Option<&[u8]>) -> Vec<u8> {
    match path {
        Some(p) => [b"@", p].concat(),
        None => b"=stdin".to_vec(),
    }
}

/// `loadfile(path, mode, env)`: a function, or nil and a message.
fn loadfile(vm: &mut Vm, _: Entry) -> NativeResult {
    let path = vm.opt_str(0)?.map(|s| s.bytes(&vm.heap).to_vec());
    vm.opt_str(1)?;
    match read_source(vm, path.as_deref()) {
        Ok(code) => load_bytes(vm, &code, &chunk_name_of(path.as_deref()), 1, 2),
        Err(text) => {
            vm.push(Value::NIL);
            let s = vm.heap.str(&text);
            vm.push(Value::obj(s));
            Ok(Outcome::top(2))
        }
    }
}

/// `dofile(path)`: runs the file and returns its results; raises its syntax errors.
fn dofile(vm: &mut Vm, _: Entry) -> NativeResult {
    let path = vm.opt_str(0)?.map(|s| s.bytes(&vm.heap).to_vec());
    let env = Some(vm.globals_of_running());
    let loaded = read_source(vm, path.as_deref())
        .and_then(|code| vm.load(&code, &chunk_name_of(path.as_deref()), b"bt", env));
    match loaded {
        Ok(f) => {
            vm.prepare_call(Value::obj(f));
            Ok(Outcome::tail_call(0))
        }
        Err(text) => Err(vm.throw_plain(&text)),
    }
}

impl Vm {
    /// Environment of the running coroutine: where `print` looks up `tostring`.
    pub(super) fn globals_of_running(&self) -> Gc<Table> {
        self.cur.get(&self.heap).env
    }
}

/// The set of loaded modules.
pub fn loaded_table(vm: &mut Vm) -> Gc<Table> {
    registry_table(vm, "_LOADED")
}
