//! Modules that show what the compiler makes: `jit.dump`, and `jit.dis_*` for machine code.

use crate::disasm::{self, Line};
use moonlit_vm::lib::jit_util::{preload, run_source};
use moonlit_vm::state::Vm;
use moonlit_vm::state::native::{Entry, NativeResult, NativeRow, Outcome};
use moonlit_vm::value::Value;

/// Names and sources.
const SOURCES: &[(&str, &str)] = &[
    ("jit.dump", include_str!("modules/dump.lua")),
    ("jit.dis_x64", include_str!("modules/dis_x64.lua")),
    ("jit.dis_x86", include_str!("modules/dis_x86.lua")),
];

/// Makes the modules known to `require`.
pub fn open(vm: &mut Vm) {
    for (name, _) in SOURCES {
        preload(vm, name, NativeRow::new("jit.module", load));
    }
    #[cfg(feature = "disassemblers")]
    for m in disasm::fixed::MACHINES {
        preload(vm, &format!("{DISASSEMBLER}{}", m.name), NativeRow::new("jit.module", load_fixed));
    }
}

fn load(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?;
    let name = name.bytes(&vm.heap).to_vec();
    let Some((name, source)) = SOURCES.iter().find(|s| s.0.as_bytes() == name) else {
        return Err(vm.arg_error(0, b"unknown module"));
    };
    let native = (*name == "jit.dis_x86").then(|| NativeRow::new("jit.dis_x86.decode", decode));
    run_source(vm, name, source, native, &[])
}

/// The instruction at byte `from` of `code`, of which `to` bytes are there; `from` lies at `address`.
struct Asked<'a> {
    code: &'a [u8],
    address: u64,
}

/// Reads the arguments `code, from, to, address`.
fn asked(vm: &mut Vm) -> Result<Asked<'_>, moonlit_vm::state::native::Raised> {
    let code = vm.check_str(0)?;
    let (from, to) = (vm.check_int(1)?.max(0) as usize, vm.check_int(2)?.max(0) as usize);
    let address = vm.check_num(3)? as u64;
    let code = code.bytes(&vm.heap);
    Ok(Asked { code: code.get(from..to.min(code.len())).unwrap_or(&[]), address })
}

/// A line's length, its text, the address it jumps to, the address of memory relative to it, whether it always leaves; nil for what
/// it has not.
fn answer(vm: &mut Vm, line: Line) -> NativeResult {
    let number = |a: Option<u64>| a.map_or(Value::NIL, |a| Value::num(a as f64));
    let text = line.text.map_or(Value::NIL, |t| Value::obj(vm.heap.str(t.as_bytes())));
    for v in
        [Value::num(line.len as f64), text, number(line.branch), number(line.data), Value::bool(line.last)]
    {
        vm.push(v);
    }
    Ok(Outcome::top(5))
}

/// `decode(code, from, to, address, bits)` of `jit.dis_x86`.
fn decode(vm: &mut Vm, _: Entry) -> NativeResult {
    let bits = if vm.check_int(4)? == 64 { 64 } else { 32 };
    let a = asked(vm)?;
    let line = disasm::x86::line(a.code, a.address, bits);
    answer(vm, line)
}

/// What stands before the name of a machine.
#[cfg(feature = "disassemblers")]
const DISASSEMBLER: &str = "jit.dis_";

/// The machine that a string names.
#[cfg(feature = "disassemblers")]
fn machine(
    vm: &mut Vm,
    i: usize,
    before: &str,
) -> Result<&'static disasm::fixed::Machine, moonlit_vm::state::native::Raised> {
    let name = vm.check_str(i)?;
    let name = name.bytes(&vm.heap);
    let known = |m: &&disasm::fixed::Machine| name.strip_prefix(before.as_bytes()) == Some(m.name.as_bytes());
    let found = disasm::fixed::MACHINES.iter().find(known);
    found.ok_or_else(|| vm.arg_error(i, b"unknown machine"))
}

#[cfg(feature = "disassemblers")]
fn load_fixed(vm: &mut Vm, _: Entry) -> NativeResult {
    let m = machine(vm, 0, DISASSEMBLER)?;
    let native = NativeRow::new("jit.dis_fixed.decode", decode_fixed);
    let name = Value::obj(vm.heap.str(m.name.as_bytes()));
    run_source(
        vm,
        &format!("{DISASSEMBLER}{}", m.name),
        include_str!("modules/dis_fixed.lua"),
        Some(native),
        &[name],
    )
}

/// `decode(code, from, to, address, machine)` of the other modules.
#[cfg(feature = "disassemblers")]
fn decode_fixed(vm: &mut Vm, _: Entry) -> NativeResult {
    let m = machine(vm, 4, "")?;
    let a = asked(vm)?;
    let line = disasm::fixed::line(m, a.code, a.address);
    answer(vm, line)
}
