//! Modules that show what the compiler makes: `jit.dump`, and `jit.dis_x86`, `jit.dis_x64` for its machine code.

use moonlit_vm::lib::jit_util::{preload, run_source};
use moonlit_vm::state::Vm;
use moonlit_vm::state::native::{Entry, NativeResult, NativeRow};

/// Names and sources.
const SOURCES: &[(&str, &str)] = &[
    ("jit.dump", include_str!("modules/dump.lua")),
    #[cfg(target_arch = "x86_64")]
    ("jit.dis_x64", include_str!("modules/dis_x64.lua")),
    #[cfg(target_arch = "x86_64")]
    ("jit.dis_x86", include_str!("modules/dis_x86.lua")),
];

/// Makes the modules known to `require`.
pub fn open(vm: &mut Vm) {
    for (name, _) in SOURCES {
        preload(vm, name, NativeRow::new("jit.module", load));
    }
}

fn load(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?;
    let name = name.bytes(&vm.heap).to_vec();
    let Some((name, source)) = SOURCES.iter().find(|s| s.0.as_bytes() == name) else {
        return Err(vm.arg_error(0, b"unknown module"));
    };
    #[cfg(target_arch = "x86_64")]
    let native = (*name == "jit.dis_x86").then(|| NativeRow::new("jit.dis_x86.decode", decode));
    #[cfg(not(target_arch = "x86_64"))]
    let native = None;
    run_source(vm, name, source, native)
}

/// `decode(code, from, to, address, bits)`: the instruction at byte `from` of `code`, of which `to` bytes are there; `from` lies
/// at `address`. Its length, its text, the address it jumps to, the address of memory relative to it, whether it always
/// leaves; nil for what it has not.
#[cfg(target_arch = "x86_64")]
fn decode(vm: &mut Vm, _: Entry) -> NativeResult {
    use moonlit_vm::state::native::Outcome;
    use moonlit_vm::value::Value;
    let code = vm.check_str(0)?;
    let (from, to) = (vm.check_int(1)?.max(0) as usize, vm.check_int(2)?.max(0) as usize);
    let address = vm.check_num(3)? as u64;
    let bits = if vm.check_int(4)? == 64 { 64 } else { 32 };
    let code = code.bytes(&vm.heap);
    let line = crate::disasm::line(code.get(from..to.min(code.len())).unwrap_or(&[]), address, bits);
    let number = |a: Option<u64>| a.map_or(Value::NIL, |a| Value::num(a as f64));
    let text = line.text.map_or(Value::NIL, |t| Value::obj(vm.heap.str(t.as_bytes())));
    for v in
        [Value::num(line.len as f64), text, number(line.branch), number(line.data), Value::bool(line.last)]
    {
        vm.push(v);
    }
    Ok(Outcome::top(5))
}
