//! `moonlit`: runs scripts as `luajit` does.

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use super::args::{self, Args, Step};
use crate::native::{DumpOptions, Value, Vm};

/// What `moonlit -v` prints.
pub const VERSION: &str =
    concat!("Moonlit ", env!("CARGO_PKG_VERSION"), " -- Lua 5.1 with LuaJIT 2.1 extensions.");

const USAGE: &str = "usage: moonlit [options]... [script [args]...].
Available options are:
  -e chunk  Execute string 'chunk'.
  -l name   Require library 'name'.
  -b ...    Save or list bytecode.
  -j cmd    Perform JIT control command.
  -O[opt]   Control JIT optimizations.
  -i        Enter interactive mode after executing 'script'.
  -v        Show version information.
  -E        Ignore environment variables.
  --        Stop handling options.
  -         Execute stdin and stop handling options.";

/// Runs the command line.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let parsed = match args::parse(&args) {
        Ok(a) => a,
        Err(_) => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let level = |name| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
    let options =
        crate::EngineOptions { compat52: level("MOONLIT_COMPAT52") > 0, zeal: level("MOONLIT_ZEAL") };
    let mut vm = crate::engine(options);
    let ok = run(&mut vm, &args, &parsed);
    if level("MOONLIT_JIT_COSTS") > 0
        && let Some(jit) = &vm.jit
    {
        let c = jit.costs();
        eprintln!("jit costs: {} traces, {} us, {} bytes", c.traces, c.us, c.bytes);
    }
    // Closing the VM runs the finalizers that are left.
    vm.close();
    let _ = std::io::stdout().flush();
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(message: &[u8]) {
    let mut err = std::io::stderr().lock();
    let _ =
        err.write_all(b"moonlit: ").and_then(|()| err.write_all(message)).and_then(|()| err.write_all(b"\n"));
}

fn run(vm: &mut Vm, args: &[OsString], a: &Args) -> bool {
    if let Some(rest) = &a.bytecode {
        return bytecode(vm, rest);
    }
    set_arg_table(vm, args, a.script);
    if !a.no_env && !run_init(vm) {
        return false;
    }
    if a.version {
        println!("{VERSION}");
    }
    if !a.steps.iter().all(|s| run_step(vm, s)) {
        return false;
    }
    let explicit = !a.steps.iter().all(|s| !matches!(s, Step::Execute(_)));
    match a.script {
        Some(i) => {
            let name = args[i].to_string_lossy().into_owned();
            let rest: Vec<Value> =
                args[i + 1..].iter().map(|s| Value::obj(vm.heap.str(s.as_encoded_bytes()))).collect();
            let source = if name == "-" && args[i - 1] != "--" { read_stdin() } else { read_file(&name) };
            let chunkname = if name == "-" { "=stdin".to_string() } else { format!("@{name}") };
            let done = match source {
                Ok(src) => call_source(vm, &src, chunkname.as_bytes(), &rest),
                Err(e) => {
                    report(e.as_bytes());
                    false
                }
            };
            if !done {
                return false;
            }
        }
        None if !explicit && !a.version && !std::io::stdin().is_terminal() => {
            let src = match read_stdin() {
                Ok(s) => s,
                Err(e) => {
                    report(e.as_bytes());
                    return false;
                }
            };
            return call_source(vm, &src, b"=stdin", &[]);
        }
        None if !explicit && !a.version => {
            println!("{VERSION}");
            return repl(vm);
        }
        None => {}
    }
    if a.interactive { repl(vm) } else { true }
}

fn read_file(name: &str) -> Result<Vec<u8>, String> {
    std::fs::read(name).map(strip_first_line).map_err(|e| {
        let text = e.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default();
        format!("cannot open {name}: {reason}")
    })
}

fn read_stdin() -> Result<Vec<u8>, String> {
    let mut src = Vec::new();
    std::io::stdin().read_to_end(&mut src).map_err(|e| format!("cannot read stdin: {e}"))?;
    Ok(strip_first_line(src))
}

/// Blanks a `#` line, keeping its line end so that positions stay right.
fn strip_first_line(mut src: Vec<u8>) -> Vec<u8> {
    let bom = if src.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    src.drain(..bom);
    if src.first() == Some(&b'#') {
        let end = src.iter().position(|b| *b == b'\n').unwrap_or(src.len());
        src.drain(..end);
    }
    src
}

fn set_arg_table(vm: &mut Vm, args: &[OsString], script: Option<usize>) {
    let first = script.unwrap_or(0);
    let t = vm.heap.new_table(args.len() as u32, 1);
    for (i, a) in args.iter().enumerate() {
        let s = Value::obj(vm.heap.str(a.as_encoded_bytes()));
        let key = Value::num(i as f64 - first as f64);
        let _ = t.setv(&mut vm.heap, key, s);
    }
    let globals = vm.globals;
    let key = Value::obj(vm.heap.str(b"arg"));
    let _ = globals.setv(&mut vm.heap, key, Value::obj(t));
}

fn run_init(vm: &mut Vm) -> bool {
    let Some(init) = std::env::var_os("LUA_INIT") else { return true };
    let init = init.as_encoded_bytes();
    match init.strip_prefix(b"@") {
        Some(file) => match read_file(&String::from_utf8_lossy(file)) {
            Ok(src) => call_source(vm, &src, init, &[]),
            Err(e) => {
                report(e.as_bytes());
                false
            }
        },
        None => call_source(vm, init, b"=LUA_INIT", &[]),
    }
}

fn run_step(vm: &mut Vm, step: &Step) -> bool {
    match step {
        Step::Execute(chunk) => call_source(vm, chunk.as_bytes(), b"=(command line)", &[]),
        Step::Require(name) => call_with_strings(vm, "require(...)", &[name]),
        Step::Jit(cmd) => {
            let (name, list) = cmd.split_once('=').unwrap_or((cmd, ""));
            let code = "local name, list = ... \
                local f = jit[name] \
                if type(f) == 'function' then return f() end \
                local ok, m = pcall(require, 'jit.' .. name) \
                if not ok then if tostring(m):find('not found', 1, true) then \
                  error('unknown luaJIT command or jit.* modules not installed', 0) end error(m, 0) end \
                local a = {} \
                for s in list:gmatch('[^,]+') do a[#a + 1] = s end \
                return m.start(unpack(a))";
            call_with_strings(vm, code, &[name, list])
        }
        Step::Opt(opt) => {
            let code =
                "local a = {} for s in (...):gmatch('[^,]+') do a[#a + 1] = s end jit.opt.start(unpack(a))";
            call_with_strings(vm, code, &[opt])
        }
    }
}

fn call_with_strings(vm: &mut Vm, code: &str, strings: &[&str]) -> bool {
    let args: Vec<Value> = strings.iter().map(|s| Value::obj(vm.heap.str(s.as_bytes()))).collect();
    call_source(vm, code.as_bytes(), b"=(command line)", &args)
}

/// Compiles and calls; reports errors as `luajit` does.
fn call_source(vm: &mut Vm, source: &[u8], name: &[u8], args: &[Value]) -> bool {
    let f = match vm.load(source, name, b"bt", None) {
        Ok(f) => f,
        Err(message) => {
            report(&message);
            return false;
        }
    };
    match vm.call_traced(Value::obj(f), args) {
        Ok(_) => true,
        Err((err, traceback)) => {
            report_error(vm, err, &traceback);
            false
        }
    }
}

fn report_error(vm: &mut Vm, err: Value, traceback: &[u8]) {
    if err.is_nil() {
        return;
    }
    let mut text = match vm.error_string(err) {
        Some(t) => t,
        None => return report(b"(error object is not a string)"),
    };
    if !traceback.is_empty() {
        text.push(b'\n');
        text.extend_from_slice(traceback);
    }
    report(&text);
}

fn repl(vm: &mut Vm) -> bool {
    let stdin = std::io::stdin();
    let mut pending = String::new();
    loop {
        print!("{}", if pending.is_empty() { "> " } else { ">> " });
        let _ = std::io::stdout().flush();
        let mut line = String::new();
        match stdin.lock().read_line(&mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if pending.is_empty()
            && let Some(expr) = line.strip_prefix('=')
        {
            line = format!("return {expr}");
        }
        pending.push_str(&line);
        match vm.load(pending.as_bytes(), b"=stdin", b"t", None) {
            Err(m) if m.ends_with(b"near '<eof>'") => continue,
            Err(m) => report(&m),
            Ok(f) => match vm.call_traced(Value::obj(f), &[]) {
                Ok(values) if values.is_empty() => {}
                Ok(values) => {
                    let print = vm.global(b"print");
                    if let Err((err, tb)) = vm.call_traced(print, &values) {
                        report_error(vm, err, &tb);
                    }
                }
                Err((err, tb)) => report_error(vm, err, &tb),
            },
        }
        pending.clear();
    }
    println!();
    true
}

/// `-b`: `-bl` lists, otherwise bytecode is saved.
fn bytecode(vm: &mut Vm, args: &[OsString]) -> bool {
    let words: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let flags = words[0].trim_start_matches("-b");
    let (mut list, mut strip, mut deterministic, mut i) = (false, true, false, 1);
    let mut source: Option<(Vec<u8>, String)> = None;
    for c in flags.chars() {
        match c {
            'l' => list = true,
            's' => strip = true,
            'g' => strip = false,
            'd' => deterministic = true,
            'e' => {
                let Some(code) = words.get(i) else {
                    eprintln!("{USAGE}");
                    return false;
                };
                source = Some((code.clone().into_bytes(), "=(command line)".into()));
                i += 1;
            }
            other => {
                report(format!("-b{other} is not supported yet").as_bytes());
                return false;
            }
        }
    }
    let (source, name) = match source {
        Some(s) => s,
        None => {
            let Some(file) = words.get(i) else {
                eprintln!("{USAGE}");
                return false;
            };
            i += 1;
            let src = if file == "-" { read_stdin() } else { read_file(file) };
            match src {
                Ok(s) => (s, if file == "-" { "=stdin".to_string() } else { format!("@{file}") }),
                Err(e) => {
                    report(e.as_bytes());
                    return false;
                }
            }
        }
    };
    let output = if list {
        vm.list_bytecode(&source, name.as_bytes())
    } else {
        vm.load(&source, name.as_bytes(), b"bt", None)
            .map(|f| vm.dump_function(f, DumpOptions { strip, deterministic }).unwrap_or_default())
    };
    let output = match output {
        Ok(o) => o,
        Err(m) => {
            report(&m);
            return false;
        }
    };
    let target = words.get(i).map(String::as_str).unwrap_or("-");
    let written =
        if target == "-" { std::io::stdout().write_all(&output) } else { std::fs::write(target, &output) };
    match written {
        Ok(()) => true,
        Err(e) => {
            report(format!("cannot write {target}: {e}").as_bytes());
            false
        }
    }
}
