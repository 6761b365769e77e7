//! Runs a Lua file with the JIT: `run [-O<word>]... [-v] [-joff] file`.

use moonlit_jit::Options;
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

fn main() {
    let mut opts = Options::default();
    let mut file = None;
    for a in std::env::args().skip(1) {
        match a.as_str() {
            "-v" => opts.verbose = true,
            "-joff" => opts.on = false,
            _ => match a.strip_prefix("-O") {
                Some(w) => opts.set(w).expect("a known option"),
                None => file = Some(a),
            },
        }
    }
    let file = file.expect("usage: run [options] file");
    let code = std::fs::read(&file).expect("readable file");
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    let level = std::env::var("MOONLIT_ZEAL").ok().and_then(|l| l.parse().ok()).unwrap_or(0);
    vm.heap.set_zeal(moonlit_vm::heap::zeal::Zeal::from_level(level));
    moonlit_jit::install(&mut vm, opts);
    let f = match vm.load(&code, format!("@{file}").as_bytes(), b"t", None) {
        Ok(f) => f,
        Err(e) => {
            eprintln!("{}", String::from_utf8_lossy(&e));
            std::process::exit(1);
        }
    };
    if vm.call(Value::obj(f), &[]).is_err() {
        let e = vm.take_error();
        eprintln!("{}", String::from_utf8_lossy(vm.tostring_raw(e).bytes(&vm.heap)));
        std::process::exit(1);
    }
}
