//! `jit.util`: bytecode and constants of functions as numbers and tables, and the modules that are built on it:
//! `jit.vmdef` (names of everything numbered), `jit.bc` (listings), `jit.zone`. The compiler adds what is about traces.

use super::jit::set_text;
use super::{set_field, set_loaded, set_preload};
use crate::bytecode::chunkname;
use crate::bytecode::ops::{Mm, Mode, Op};
use crate::cell::gc_ref::Gc;
use crate::function::proto::{Proto, protoflags};
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use crate::table::Table;
use crate::value::Value;

/// Functions of `jit.util`.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("jit.util.funcbc", funcbc),
    NativeRow::new("jit.util.funcinfo", funcinfo),
    NativeRow::new("jit.util.funck", funck),
    NativeRow::new("jit.util.funcuvname", funcuvname),
];

/// Modules written in Lua: name and source.
const SOURCES: &[(&str, &str)] = &[
    ("jit.bc", include_str!("modules/bc.lua")),
    ("jit.p", include_str!("modules/p.lua")),
    ("jit.zone", include_str!("modules/zone.lua")),
];

/// Adds to `jit.vmdef` when it is made; kept in `Vm::app`.
#[derive(Clone, Copy)]
pub struct VmdefMore(pub fn(&mut Vm, Gc<Table>) -> Result<(), Raised>);

/// Makes the modules known to `require`.
pub fn open(vm: &mut Vm) {
    let t = vm.heap.new_table(0, 4);
    vm.register(t, FNS);
    set_loaded(vm, "jit.util", Value::obj(t));
    set_preload(vm, "jit.vmdef", NativeRow::new("jit.vmdef", vmdef));
    super::bcsave::open(vm);
    for (name, _) in SOURCES {
        preload(vm, name, NativeRow::new("jit.module", run_module));
    }
}

/// `package.preload[name]`: `loader` makes the module.
pub fn preload(vm: &mut Vm, name: &str, loader: NativeRow) {
    set_preload(vm, name, loader);
}

/// The end of a loader whose module is written in Lua: its chunk runs with the function `native` if it needs one (else nil), and
/// `more`. Raises what is wrong with the source.
pub fn run_source(
    vm: &mut Vm,
    name: &str,
    source: &str,
    native: Option<NativeRow>,
    more: &[Value],
) -> NativeResult {
    let f = match vm.load(source.as_bytes(), format!("={name}").as_bytes(), b"t", None) {
        Ok(f) => f,
        Err(text) => return Err(vm.throw_plain(&text)),
    };
    vm.prepare_call(Value::obj(f));
    let native = native.map_or(Value::NIL, |row| Value::obj(vm.new_native(row, &[])));
    vm.push(native);
    more.iter().for_each(|v| vm.push(*v));
    Ok(Outcome::tail_call(1 + more.len()))
}

/// Loader of a module written in Lua: becomes its chunk.
fn run_module(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?;
    let name = name.bytes(&vm.heap).to_vec();
    let Some((name, source)) = SOURCES.iter().find(|s| s.0.as_bytes() == name) else {
        return Err(vm.arg_error(0, b"unknown module"));
    };
    run_source(vm, name, source, None, &[])
}

/// The prototype an argument names: of a Lua function, or itself. `None` for a native one.
fn proto_or_native(vm: &mut Vm) -> Result<Option<Gc<Proto>>, Raised> {
    let v = vm.arg(0);
    if let Some(p) = v.as_obj::<Proto>() {
        return Ok(Some(p));
    }
    let f = vm.check_func(0)?;
    Ok(f.as_lua(&vm.heap).map(|f| f.get(&vm.heap).proto))
}

/// The same, but natives are refused with `Lua function expected`.
fn proto(vm: &mut Vm) -> Result<Gc<Proto>, Raised> {
    match proto_or_native(vm)? {
        Some(p) => Ok(p),
        None => Err(vm.type_error(0, "function")),
    }
}

/// `jit.util.funcinfo(f, pc)`: a table about a Lua function (`linedefined`, `bytecodes`, `loc`, ...) or a native one
/// (`ffid`, `addr`).
fn funcinfo(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(pt) = proto_or_native(vm)? else {
        let f = vm.check_func(0)?;
        let (id, n) = match f.as_native(&vm.heap) {
            Some(f) => (f.get(&vm.heap).id, f.get(&vm.heap).upvals().len()),
            None => return Err(vm.type_error(0, "function")),
        };
        let t = vm.heap.new_table(0, 4);
        set_field(vm, t, "ffid", Value::int(id.get() as i32));
        let addr = vm.natives.get(id).f as usize;
        set_field(vm, t, "addr", Value::num(addr as f64));
        set_field(vm, t, "upvalues", Value::int(n as i32));
        return Ok(Outcome::one(Value::obj(t)));
    };
    let pc = vm.opt_int(1, 0)? as u32;
    let t = vm.heap.new_table(0, 16);
    let p = pt.get(&vm.heap);
    let numbers = [
        ("linedefined", p.firstline),
        ("lastlinedefined", p.lastline),
        ("stackslots", p.framesize as u32),
        ("params", p.numparams as u32),
        ("bytecodes", p.ncode),
        ("gcconsts", p.nkgc),
        ("nconsts", p.nknum),
        ("upvalues", p.nupvals as u32),
    ];
    let flags = p.flags;
    let line = if pc < p.ncode {
        Some(if pc == 0 { p.firstline } else { p.line_at(pc).unwrap_or(0) })
    } else {
        None
    };
    // Right behind the end it is the last line.
    let shown = line.unwrap_or(if pc == p.ncode { p.lastline } else { 0 });
    let source = Value::obj(p.chunkname);
    let name = p.chunkname.bytes(&vm.heap).to_vec();
    for (name, n) in numbers {
        set_field(vm, t, name, Value::int(n as i32));
    }
    if let Some(line) = line {
        set_field(vm, t, "currentline", Value::int(line as i32));
    }
    set_field(vm, t, "isvararg", Value::bool(flags & protoflags::VARARG != 0));
    set_field(vm, t, "children", Value::bool(flags & protoflags::CHILD != 0));
    set_field(vm, t, "source", source);
    set_text(vm, t, "loc", &chunkname::location(&name, shown, pt.addr()))?;
    set_field(vm, t, "proto", Value::obj(pt));
    Ok(Outcome::one(Value::obj(t)))
}

/// The word of operand modes that `jit.bc` reads: three modes and the metamethod.
fn mode_word(op: Op) -> i32 {
    let number = |m: Mode| match m {
        Mode::Unused => 0,
        Mode::Dst => 1,
        Mode::Base => 2,
        Mode::Var => 3,
        Mode::RBase => 4,
        Mode::Uv => 5,
        Mode::Lit | Mode::Trace => 6,
        Mode::Lits => 7,
        Mode::Pri => 8,
        Mode::Num => 9,
        Mode::Str => 10,
        Mode::Tab => 11,
        Mode::Func => 12,
        Mode::Jump => 13,
        Mode::Cdata => 14,
    };
    let i = op.info();
    // What makes an object is listed under `__gc` there.
    let mm = if matches!(op, Op::FNEW | Op::TNEW | Op::TDUP) { Mm::Gc } else { i.mm };
    number(i.a) | i.b.map_or(0, number) << 3 | number(i.cd) << 7 | (mm as i32) << 11
}

/// `jit.util.funcbc(f, pc)`: the instruction word and its operand modes; nothing behind the end.
fn funcbc(vm: &mut Vm, _: Entry) -> NativeResult {
    let pt = proto(vm)?;
    let pc = vm.check_int(1)? as u32;
    let Some(&word) = pt.get(&vm.heap).code().get(pc as usize) else { return Ok(Outcome::none()) };
    let Some(op) = Op::from_u8(word as u8) else { return Ok(Outcome::none()) };
    vm.push(Value::int(word as i32));
    vm.push(Value::int(mode_word(op)));
    Ok(Outcome::top(2))
}

/// `jit.util.funck(f, i)`: number constant `i >= 0`, or the other constant `-1 - i`; nothing if there is none.
fn funck(vm: &mut Vm, _: Entry) -> NativeResult {
    let pt = proto(vm)?;
    let i = vm.check_int(1)?;
    let p = pt.get(&vm.heap);
    let v = if i >= 0 { p.knum(i as u32) } else { p.kgc(!i as u32) };
    let Some(v) = v else { return Ok(Outcome::none()) };
    // The program gets a copy of a template: the original must stay what the code expects.
    Ok(Outcome::one(v.as_obj::<Table>().map_or(v, |t| Value::obj(vm.heap.dup_table(t)))))
}

/// `jit.util.funcuvname(f, i)`: name of an upvalue, counted from 0; nothing if there is none.
fn funcuvname(vm: &mut Vm, _: Entry) -> NativeResult {
    let pt = proto(vm)?;
    let i = vm.check_int(1)? as u32;
    let p = pt.get(&vm.heap);
    if i >= p.nupvals as u32 {
        return Ok(Outcome::none());
    }
    let name = p.upvalue_name(i as usize).map_or(Vec::new(), |n| n.to_vec());
    Ok(Outcome::one(Value::obj(vm.heap.str(&name))))
}

/// Loader of `jit.vmdef`: names of instructions (`bcnames`, six bytes each) and of natives by number (`ffnames`).
fn vmdef(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.heap.new_table(0, 8);
    let bcnames: String = Op::ALL.iter().map(|op| format!("{:<6}", op.name())).collect();
    set_text(vm, t, "bcnames", bcnames.as_bytes())?;
    let names: Vec<&'static str> =
        (0..vm.natives.len()).map(|i| vm.natives.get(crate::index::NativeId::new(i as u32)).name).collect();
    let ff = vm.heap.new_table(names.len() as u32 + 1, 0);
    set_field(vm, t, "ffnames", Value::obj(ff));
    for (i, name) in names.iter().enumerate() {
        let s = vm.heap.str(name.as_bytes());
        let _ = ff.seti(&mut vm.heap, i as i64, Value::obj(s));
    }
    if let Some(&VmdefMore(add)) = vm.app.get::<VmdefMore>() {
        add(vm, t)?;
    }
    Ok(Outcome::one(Value::obj(t)))
}
