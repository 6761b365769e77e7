//! The debug library: looks at frames, functions and values of any coroutine, and installs the hook.

use super::set_field;
use crate::error::traceback::short_source;
use crate::error::varname::{NameKind, local_at};
use crate::function::closure::Func;
use crate::function::proto::protoflags;
use crate::heap::gc_ref::Gc;
use crate::state::frames::FrameRef;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use crate::state::{Vm, hookmask};
use crate::string::Str;
use crate::table::Table;
use crate::thread::Thread;
use crate::userdata::Userdata;
use crate::value::Value;

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("debug.debug", debug),
    NativeRow::new("debug.getfenv", getfenv),
    NativeRow::new("debug.gethook", gethook),
    NativeRow::new("debug.getinfo", getinfo),
    NativeRow::new("debug.getlocal", getlocal),
    NativeRow::new("debug.getmetatable", getmetatable),
    NativeRow::new("debug.getregistry", getregistry),
    NativeRow::new("debug.getupvalue", getupvalue),
    NativeRow::new("debug.setfenv", setfenv),
    NativeRow::new("debug.sethook", sethook),
    NativeRow::new("debug.setlocal", setlocal),
    NativeRow::new("debug.setmetatable", setmetatable),
    NativeRow::new("debug.setupvalue", setupvalue),
    NativeRow::new("debug.traceback", traceback),
    NativeRow::new("debug.upvalueid", upvalueid),
    NativeRow::new("debug.upvaluejoin", upvaluejoin),
];

/// Functions only 5.2 mode shows.
pub const FNS52: &[NativeRow] =
    &[NativeRow::new("debug.getuservalue", getuservalue), NativeRow::new("debug.setuservalue", setuservalue)];

/// Opens the library.
pub fn open(vm: &mut Vm) {
    let t = super::new_library(vm, "debug", FNS);
    if vm.compat52 {
        vm.register(t, FNS52);
    }
}

/// The coroutine an optional first argument names, and how far the others are shifted by it.
fn target(vm: &Vm) -> (Gc<Thread>, usize) {
    match vm.arg(0).as_obj::<Thread>() {
        Some(t) => (t, 1),
        None => (vm.cur, 0),
    }
}

/// What `getinfo` tells about a function.
fn describe(vm: &mut Vm, t: Gc<Table>, f: Gc<Func>) {
    let lua = f.as_lua(&vm.heap).map(|f| f.get(&vm.heap).proto);
    let (source, short, what, first, last) = match lua {
        Some(pt) => {
            let p = pt.get(&vm.heap);
            let source = p.chunkname.bytes(&vm.heap).to_vec();
            let short = short_source(&source);
            // A stripped function has no lines at all.
            let what = if p.firstline == 0 && p.lastline != 0 { "main" } else { "Lua" };
            (source, short, what, p.firstline as i32, p.lastline as i32)
        }
        None => match vm.native_row(f) {
            Some((_, row)) if row.lua_params().is_some() => {
                let name = row.field();
                (name.as_bytes().to_vec(), format!("[builtin:{name}]").into_bytes(), "Lua", -1, -1)
            }
            _ => (b"=[C]".to_vec(), b"[C]".to_vec(), "C", -1, -1),
        },
    };
    for (name, text) in [("source", &source[..]), ("short_src", &short[..]), ("what", what.as_bytes())] {
        let s = vm.heap.str(text);
        set_field(vm, t, name, Value::obj(s));
    }
    set_field(vm, t, "linedefined", Value::int(first));
    set_field(vm, t, "lastlinedefined", Value::int(last));
}

/// The lines of a function that carry code, as a set.
fn active_lines(vm: &mut Vm, f: Gc<Func>) -> Result<Value, Raised> {
    let Some(pt) = f.as_lua(&vm.heap).map(|f| f.get(&vm.heap).proto) else { return Ok(Value::NIL) };
    // The header instruction is no code of any line.
    let lines: Vec<u32> = pt.get(&vm.heap).lines().skip(1).collect();
    let t = vm.heap.new_table(0, 0);
    for line in lines {
        t.seti(&mut vm.heap, line as i64, Value::TRUE).map_err(|e| super::table_error(vm, e))?;
    }
    Ok(Value::obj(t))
}

/// `debug.getinfo([thread,] function or level, what)`: a table, nil for a level that does not exist.
/// Raises `function or level expected`, `invalid option`.
fn getinfo(vm: &mut Vm, _: Entry) -> NativeResult {
    let (th, at) = target(vm);
    let options = match vm.opt_str(at + 1)? {
        Some(s) => s.bytes(&vm.heap).to_vec(),
        None => b"flnSu".to_vec(),
    };
    let v = vm.arg(at);
    let (f, frame): (Gc<Func>, Option<FrameRef>) = if let Some(f) = v.as_obj::<Func>() {
        (f, None)
    } else if v.is_num() || vm.str_to_number(v).is_some() {
        let level = vm.check_int(at)?;
        let frame = if level < 0 { None } else { vm.frame_at(th, level as usize) };
        let Some(frame) = frame else { return Ok(Outcome::one(Value::NIL)) };
        let Some(f) = vm.frame_func(frame) else { return Ok(Outcome::one(Value::NIL)) };
        (f, Some(frame))
    } else {
        return Err(vm.arg_error(at, b"function or level expected"));
    };
    if options.iter().any(|c| !b"nSlufL".contains(c)) {
        return Err(vm.arg_error(at + 1, b"invalid option"));
    }
    let t = vm.heap.new_table(0, 4);
    for c in options {
        match c {
            b'S' => describe(vm, t, f),
            b'l' => {
                let in_lua = vm.native_row(f).is_some_and(|(_, row)| row.lua_params().is_some());
                let unknown = if frame.is_some() && in_lua { 0 } else { -1 };
                let line = frame.and_then(|f| vm.frame_line(f)).map_or(unknown, |l| l as i32);
                set_field(vm, t, "currentline", Value::int(line));
            }
            b'u' => {
                let n = upvalue_count(vm, f) as i32;
                let (params, vararg) = match f.as_lua(&vm.heap).map(|f| f.get(&vm.heap).proto) {
                    Some(pt) => {
                        let p = pt.get(&vm.heap);
                        (p.numparams as i32, p.flags & protoflags::VARARG != 0)
                    }
                    None => match vm.native_row(f).and_then(|(_, row)| row.lua_params()) {
                        Some(n) => (n as i32, false),
                        None => (0, true),
                    },
                };
                set_field(vm, t, "nups", Value::int(n));
                set_field(vm, t, "nparams", Value::int(params));
                set_field(vm, t, "isvararg", Value::bool(vararg));
            }
            b'n' => {
                let named = frame.and_then(|f| vm.frame_name(f));
                let what: &[u8] = match &named {
                    Some((NameKind::Global, _)) => b"global",
                    Some((NameKind::Local, _)) => b"local",
                    Some((NameKind::Method, _)) => b"method",
                    Some((NameKind::Field, _)) => b"field",
                    Some((NameKind::Upvalue, _)) => b"upvalue",
                    Some((NameKind::Metamethod, _)) => b"metamethod",
                    None => b"",
                };
                let s = vm.heap.str(what);
                set_field(vm, t, "namewhat", Value::obj(s));
                if let Some((_, name)) = named {
                    let s = vm.heap.str(&name);
                    set_field(vm, t, "name", Value::obj(s));
                }
            }
            b'f' => set_field(vm, t, "func", Value::obj(f)),
            _ => {
                let lines = active_lines(vm, f)?;
                set_field(vm, t, "activelines", lines);
            }
        }
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// The frame a level argument names. Raises `level out of range`.
fn check_frame(vm: &mut Vm, th: Gc<Thread>, i: usize) -> Result<FrameRef, Raised> {
    let level = vm.check_int(i)?;
    let frame = if level < 0 { None } else { vm.frame_at(th, level as usize) };
    match frame {
        Some(f) => Ok(f),
        None => Err(vm.arg_error(i, b"level out of range")),
    }
}

/// Name and place of local `n` of a frame (negative: extra arguments).
fn local_place(vm: &Vm, frame: FrameRef, n: i32) -> Option<(Vec<u8>, FrameRef, usize)> {
    if n < 0 {
        let extra = vm.frame_varargs(frame)?;
        let i = -(n + 1) as usize;
        vm.frame_slot(extra, i)?;
        return Some((b"(*vararg)".to_vec(), extra, i));
    }
    let slot = (n as usize).checked_sub(1)?;
    if let Some(pt) = vm.frame_proto(frame)
        && let Some(pos) = vm.frame_pos(frame)
        && let Some(name) = local_at(pt.get(&vm.heap), pos, slot as u32)
    {
        return Some((name.to_vec(), frame, slot));
    }
    vm.frame_slot(frame, slot)?;
    Some((b"(*temporary)".to_vec(), frame, slot))
}

/// `debug.getlocal([thread,] level or function, n)`: name and value; only the name of a parameter for a
/// function. Raises `level out of range`.
fn getlocal(vm: &mut Vm, _: Entry) -> NativeResult {
    let (th, at) = target(vm);
    let n = vm.check_int(at + 1)?;
    if let Some(f) = vm.arg(at).as_obj::<Func>() {
        let name = f.as_lua(&vm.heap).map(|f| f.get(&vm.heap).proto).and_then(|pt| {
            let p = pt.get(&vm.heap);
            let known = n >= 1 && n <= p.numparams as i32;
            if known { local_at(p, 0, n as u32 - 1).map(<[u8]>::to_vec) } else { None }
        });
        return Ok(Outcome::one(match name {
            Some(n) => Value::obj(vm.heap.str(&n)),
            None => Value::NIL,
        }));
    }
    let frame = check_frame(vm, th, at)?;
    let Some((name, frame, slot)) = local_place(vm, frame, n) else {
        return Ok(Outcome::one(Value::NIL));
    };
    let v = vm.frame_slot(frame, slot).unwrap_or(Value::NIL);
    let s = vm.heap.str(&name);
    vm.push(Value::obj(s));
    vm.push(v);
    Ok(Outcome::top(2))
}

/// `debug.setlocal([thread,] level, n, value)`: the name, nil if there is no such variable.
fn setlocal(vm: &mut Vm, _: Entry) -> NativeResult {
    let (th, at) = target(vm);
    let frame = check_frame(vm, th, at)?;
    let v = vm.check_any(at + 2)?;
    let n = vm.check_int(at + 1)?;
    let Some((name, frame, slot)) = local_place(vm, frame, n) else {
        return Ok(Outcome::one(Value::NIL));
    };
    vm.set_frame_slot(frame, slot, v);
    Ok(Outcome::one(Value::obj(vm.heap.str(&name))))
}

/// Upvalues of a function that programs may see: what a native keeps is its own business.
fn upvalue_count(vm: &Vm, f: Gc<Func>) -> usize {
    if f.get(&vm.heap).is_native() { 0 } else { f.get(&vm.heap).nupvals() }
}

/// Name of upvalue `n` (from 1) of a function.
fn upvalue_name(vm: &Vm, f: Gc<Func>, n: i32) -> Option<Vec<u8>> {
    let i = (n as usize).checked_sub(1)?;
    if n < 1 || i >= upvalue_count(vm, f) {
        return None;
    }
    let pt = f.as_lua(&vm.heap)?.get(&vm.heap).proto;
    Some(pt.get(&vm.heap).upvalue_name(i).map_or(Vec::new(), |n| n.to_vec()))
}

/// `debug.getupvalue(f, n)`: name and value; nothing if there is none.
fn getupvalue(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.check_int(1)?;
    let f = vm.check_func(0)?;
    let Some(name) = upvalue_name(vm, f, n) else { return Ok(Outcome::none()) };
    let i = n as usize - 1;
    let v = f.as_lua(&vm.heap).map_or(Value::NIL, |l| l.get(&vm.heap).upvals()[i].read(&vm.heap));
    let s = vm.heap.str(&name);
    vm.push(Value::obj(s));
    vm.push(v);
    Ok(Outcome::top(2))
}

/// `debug.setupvalue(f, n, value)`: the name; nothing if there is none.
fn setupvalue(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.check_any(2)?;
    let f = vm.check_func(0)?;
    let n = vm.check_int(1)?;
    let Some(name) = upvalue_name(vm, f, n) else { return Ok(Outcome::none()) };
    let i = n as usize - 1;
    if let Some(l) = f.as_lua(&vm.heap) {
        let u = l.get(&vm.heap).upvals()[i];
        u.write(&mut vm.heap, v);
    }
    Ok(Outcome::one(Value::obj(vm.heap.str(&name))))
}

/// A Lua function and one of its upvalues. Raises `index out of range`.
fn check_upvalue(vm: &mut Vm, i: usize) -> Result<(Gc<Func>, usize), Raised> {
    let f = vm.check_func(i)?;
    let n = vm.check_int(i + 1)?;
    if n < 1 || n as usize > upvalue_count(vm, f) {
        return Err(vm.arg_error(i + 1, b"index out of range"));
    }
    Ok((f, n as usize - 1))
}

/// `debug.upvalueid(f, n)`: something that is equal for shared upvalues.
fn upvalueid(vm: &mut Vm, _: Entry) -> NativeResult {
    let (f, i) = check_upvalue(vm, 0)?;
    let addr = match f.as_lua(&vm.heap) {
        Some(l) => l.get(&vm.heap).upvals()[i].addr(),
        None => f.addr() + 32 + 8 * i as u64,
    };
    match vm.lightud(addr) {
        Some(v) => Ok(Outcome::one(v)),
        None => Err(vm.throw_str(crate::error::messages::NO_MEMORY.as_bytes())),
    }
}

/// `debug.upvaluejoin(f, n, g, m)`: lets `f` use the `m`-th upvalue of `g` as its `n`-th.
fn upvaluejoin(vm: &mut Vm, _: Entry) -> NativeResult {
    for arg in [0, 2] {
        if vm.check_func(arg)?.get(&vm.heap).is_native() {
            return Err(vm.arg_error(arg, b"Lua function expected"));
        }
    }
    let (f, i) = check_upvalue(vm, 0)?;
    let (g, j) = check_upvalue(vm, 2)?;
    let (Some(a), Some(b)) = (f.as_lua(&vm.heap), g.as_lua(&vm.heap)) else {
        return Err(vm.arg_error(0, b"Lua function expected"));
    };
    let u = b.get(&vm.heap).upvals()[j];
    a.get_mut(&mut vm.heap).upvals_mut()[i] = u;
    vm.heap.barrier(f);
    Ok(Outcome::none())
}

/// `debug.sethook([thread,] f, mask, count)`. There is one hook for all coroutines, as in LuaJIT.
fn sethook(vm: &mut Vm, _: Entry) -> NativeResult {
    let (_, at) = target(vm);
    if vm.arg(at).is_nil() {
        vm.set_hook(Value::NIL, 0, 0);
        return Ok(Outcome::none());
    }
    let text = vm.check_str(at + 1)?;
    let f = vm.check_func(at)?;
    let count = vm.opt_int(at + 2, 0)?;
    let mut mask = 0;
    for c in text.bytes(&vm.heap) {
        mask |= match c {
            b'c' => hookmask::CALL,
            b'r' => hookmask::RET,
            b'l' => hookmask::LINE,
            _ => 0,
        };
    }
    if count > 0 {
        mask |= hookmask::COUNT;
    }
    vm.set_hook(Value::obj(f), mask, count.max(0) as u32);
    Ok(Outcome::none())
}

/// `debug.gethook()`: function, mask, count.
fn gethook(vm: &mut Vm, _: Entry) -> NativeResult {
    let mask = vm.hook.mask;
    let mut text = Vec::new();
    for (bit, c) in [(hookmask::CALL, b'c'), (hookmask::RET, b'r'), (hookmask::LINE, b'l')] {
        if mask & bit != 0 {
            text.push(c);
        }
    }
    vm.push(vm.hook.func);
    let s = vm.heap.str(&text);
    vm.push(Value::obj(s));
    let count = if mask & hookmask::COUNT != 0 { vm.hook.count } else { 0 };
    vm.push(Value::int(count as i32));
    Ok(Outcome::top(3))
}

/// `debug.traceback([thread,] message, level)`: a message that is no text (nil, too) is returned as it is.
fn traceback(vm: &mut Vm, e: Entry) -> NativeResult {
    let (th, at) = target(vm);
    let m = vm.arg(at);
    if !m.is::<Str>() && !m.is_num() && e.count() > at {
        return Ok(Outcome::one(m));
    }
    let message = if m.is_nil() { None } else { Some(vm.raw_text(m)) };
    let level = vm.opt_int(at + 1, if at == 1 { 0 } else { 1 })?;
    // There is nothing at a negative level, and nothing below it.
    let text = vm.traceback(th, message.as_deref(), usize::try_from(level).unwrap_or(usize::MAX));
    Ok(Outcome::one(super::new_string(vm, &text)?))
}

/// `debug.getmetatable(v)`: whatever `__metatable` says.
fn getmetatable(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.check_any(0)?;
    Ok(Outcome::one(vm.metatable_of(v).map_or(Value::NIL, Value::obj)))
}

/// `debug.setmetatable(v, mt)`: of any value; those without one of their own share it with their type.
/// Returns true (the value in 5.2 mode). Raises `nil or table expected`.
fn setmetatable(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    let mt = match vm.arg_opt(1) {
        Some(Value::NIL) => None,
        Some(m) if m.is::<Table>() => m.as_obj::<Table>(),
        _ => return Err(vm.arg_error(1, b"nil or table expected")),
    };
    if let Some(t) = v.as_obj::<Table>() {
        vm.heap.set_metatable(t, mt);
    } else if let Some(u) = v.as_obj::<Userdata>() {
        vm.heap.set_udata_metatable(u, mt);
    } else {
        vm.set_base_metatable(v, mt);
        // Compiled code relies on the metatables of types.
        if let Some(mut jit) = vm.jit.take() {
            jit.flush(vm);
            vm.jit = Some(jit);
        }
    }
    Ok(Outcome::one(if vm.compat52 { v } else { Value::TRUE }))
}

/// `debug.getregistry()`.
fn getregistry(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::obj(vm.registry)))
}

/// The environment of a userdata: one that was given none lives in the globals.
fn userdata_env(vm: &Vm, u: Gc<Userdata>) -> Gc<Table> {
    u.get(&vm.heap).env.unwrap_or(vm.main.get(&vm.heap).env)
}

/// `debug.getfenv(o)`: environment of a function, userdata or coroutine; nil for others.
fn getfenv(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.check_any(0)?;
    let env = if let Some(f) = v.as_obj::<Func>() {
        Some(f.get(&vm.heap).env)
    } else if let Some(u) = v.as_obj::<Userdata>() {
        Some(userdata_env(vm, u))
    } else {
        v.as_obj::<Thread>().map(|t| t.get(&vm.heap).env)
    };
    Ok(Outcome::one(env.map_or(Value::NIL, Value::obj)))
}

/// `debug.setfenv(o, table)`; returns `o`.
/// Raises `'setfenv' cannot change environment of given object`.
fn setfenv(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    let env = vm.check_tab(1)?;
    if let Some(f) = v.as_obj::<Func>() {
        f.get_mut(&mut vm.heap).env = env;
        vm.heap.barrier(f);
    } else if let Some(u) = v.as_obj::<Userdata>() {
        u.get_mut(&mut vm.heap).env = Some(env);
        vm.heap.barrier(u);
    } else if let Some(t) = v.as_obj::<Thread>() {
        t.get_mut(&mut vm.heap).env = env;
        t.get_mut(&mut vm.heap).written();
    } else {
        return Err(vm.throw_str(b"'setfenv' cannot change environment of given object"));
    }
    Ok(Outcome::one(v))
}

/// `debug.getuservalue(u)` (5.2 mode): the environment of a userdata, nil for all else, nothing too.
fn getuservalue(vm: &mut Vm, _: Entry) -> NativeResult {
    let env = vm.arg(0).as_obj::<Userdata>().map(|u| userdata_env(vm, u));
    Ok(Outcome::one(env.map_or(Value::NIL, Value::obj)))
}

/// `debug.setuservalue(u, table)` (5.2 mode).
fn setuservalue(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    let Some(u) = v.as_obj::<Userdata>() else { return Err(vm.type_error(0, "userdata")) };
    let env = vm.check_tab(1)?;
    u.get_mut(&mut vm.heap).env = Some(env);
    vm.heap.barrier(u);
    Ok(Outcome::one(v))
}

/// `debug.debug()`: runs lines from the standard input until one says `cont`. May call Lua.
fn debug(vm: &mut Vm, e: Entry) -> NativeResult {
    use std::io::{BufRead, Write};
    if e.is_error() {
        let text = vm.raw_text(vm.top_value(1, 0));
        // As in C, nobody looks at the result.
        let _ = std::io::stderr().write_all(&[&text[..], b"\n"].concat());
    }
    vm.set_top(0);
    loop {
        let _ = std::io::stderr().write_all(b"lua_debug> ");
        let mut line = Vec::new();
        let read = std::io::stdin().lock().read_until(b'\n', &mut line).unwrap_or(0);
        if read == 0 || line == b"cont\n" {
            return Ok(Outcome::none());
        }
        match vm.load(&line, b"=(debug command)", b"t", None) {
            Ok(f) => {
                vm.prepare_call(Value::obj(f));
                return Ok(Outcome::pcall(0, 1));
            }
            Err(text) => {
                let _ = std::io::stderr().write_all(&[&text[..], b"\n"].concat());
            }
        }
    }
}
