//! `moonlit`: runs scripts as `luajit` does.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use super::args::{self, Args, Step};
use super::{interrupt, repl};
use crate::native::{Table, Value, Vm};
use moonlit_vm::lib::{base, bcsave, io};

/// What `moonlit -v` prints.
pub const VERSION: &str = concat!(
    "Moonlit ",
    env!("CARGO_PKG_VERSION"),
    " -- Copyright (C) 2026 The Moonlit developers. Lua 5.1 with LuaJIT 2.1 extensions."
);

const USAGE: &str = " [options]... [script [args]...].
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
  -         Execute stdin and stop handling options.
";

/// A VM under a command line: it knows under which name to report.
pub struct Cli {
    /// The machine.
    pub vm: Box<Vm>,
    /// What stands before a message; empty in interactive mode.
    pub name: Vec<u8>,
}

/// Something was reported already: the command line has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// What a step of the command line comes to.
pub type Done = Result<(), Failed>;

/// Runs the command line.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let name = match args.first().map(|a| a.as_encoded_bytes()) {
        Some(n) if !n.is_empty() => n.to_vec(),
        _ => b"moonlit".to_vec(),
    };
    let Ok(parsed) = args::parse(&args) else {
        let text = [b"usage: ", &name[..], USAGE.as_bytes()].concat();
        let _ = std::io::stderr().write_all(&text);
        return ExitCode::FAILURE;
    };
    let level = |name| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(0);
    let options = crate::EngineOptions {
        compat52: level("MOONLIT_COMPAT52") > 0,
        zeal: level("MOONLIT_ZEAL"),
        ..Default::default()
    };
    let mut vm = crate::engine(options);
    if level("MOONLIT_FUEL_SLICE") > 0 {
        // A stress mode: whatever stands between two polls must survive an exhaustion.
        let slice = u64::from(level("MOONLIT_FUEL_SLICE"));
        vm.on_exhausted = Some(Box::new(move |vm, _| {
            vm.set_fuel(Some(slice));
            moonlit_vm::state::hooks::Verdict::GoOn
        }));
        vm.set_fuel(Some(slice));
    }
    let mut cli = Cli { vm, name };
    let done = cli.run(&args, &parsed);
    if level("MOONLIT_JIT_COSTS") > 0
        && let Some(jit) = &cli.vm.jit
    {
        let c = jit.costs();
        eprintln!("jit costs: {} traces, {} us, {} bytes", c.traces, c.us, c.bytes);
    }
    // Closing the VM runs the finalizers that are left.
    cli.vm.close();
    io::flush_standard(&mut cli.vm);
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Cli {
    fn run(&mut self, args: &[OsString], a: &Args) -> Done {
        self.set_arg_table(args, a.script);
        match a.no_env {
            true => moonlit_vm::lib::package::use_default_paths(&mut self.vm),
            false => self.run_init()?,
        }
        if a.version {
            self.print_version();
        }
        for s in &a.steps {
            self.step(s)?;
        }
        if let Some(at) = a.bytecode {
            // `-bl` is `-l`; a bare `-b` is no word.
            let mut words: Vec<Vec<u8>> = args[at..].iter().map(|w| w.as_encoded_bytes().to_vec()).collect();
            match words[0].len() > 2 {
                true => drop(words[0].remove(1)),
                false => drop(words.remove(0)),
            }
            return self.save_bytecode(&words);
        }
        if a.script < args.len() {
            self.run_script(args, a.script)?;
        }
        if a.interactive {
            self.print_jit_status();
            repl::run(self);
        } else if a.script >= args.len() && !a.executes() && !a.version {
            if std::io::stdin().is_terminal() {
                self.print_version();
                self.print_jit_status();
                repl::run(self);
            } else {
                // As LuaJIT: an error in what a pipe brings is reported, and the command line has not failed.
                let _ = self.run_stdin();
            }
        }
        Ok(())
    }

    fn save_bytecode(&mut self, words: &[Vec<u8>]) -> Done {
        bcsave::run(&mut self.vm, words).map_err(|wrong| match wrong {
            bcsave::Wrong::Usage => {
                let _ = std::io::stderr().write_all(bcsave::USAGE.as_bytes());
                Failed
            }
            bcsave::Wrong::Text(text) => self.failed(&text),
        })
    }

    fn print_version(&mut self) {
        io::write_stdout(&mut self.vm, VERSION.as_bytes());
        io::write_stdout(&mut self.vm, b"\n");
    }

    fn print_jit_status(&mut self) {
        let mut text = b"JIT:".to_vec();
        let jit = self.vm.global(b"jit").as_obj::<Table>();
        let status = jit.map_or(Value::NIL, |t| t.get_bytes(&self.vm.heap, b"status"));
        let words = self.vm.call(status, &[]).unwrap_or_default();
        for (i, w) in words.iter().enumerate() {
            text.push(b' ');
            match i {
                0 => text.extend_from_slice(if w.truthy() { b"ON" } else { b"OFF" }),
                _ => text.extend_from_slice(&self.vm.raw_text(*w)),
            }
        }
        text.push(b'\n');
        io::write_stdout(&mut self.vm, &text);
    }

    /// A line on standard error, under the program's name.
    pub fn report(&mut self, message: &[u8]) {
        io::flush_stdout(&self.vm);
        let mut text = self.name.clone();
        if !text.is_empty() {
            text.extend_from_slice(b": ");
        }
        text.extend_from_slice(message);
        text.push(b'\n');
        // Nobody is left to be told when standard error is closed.
        let _ = std::io::stderr().write_all(&text);
    }

    /// Reports the pending error value; nil says nothing.
    pub fn report_error(&mut self) -> Failed {
        let err = self.vm.take_error();
        if !err.is_nil() {
            match err.is_num() || err.is::<crate::native::Str>() {
                true => {
                    let text = self.vm.raw_text(err);
                    self.report(&text);
                }
                false => self.report(b"(error object is not a string)"),
            }
        }
        Failed
    }

    fn set_arg_table(&mut self, args: &[OsString], script: usize) {
        let vm = &mut self.vm;
        let t = vm.heap.new_table((args.len() - script) as u32 + 1, 2);
        for (i, a) in args.iter().enumerate() {
            let s = Value::obj(vm.heap.str(a.as_encoded_bytes()));
            let key = Value::num(i as f64 - script as f64);
            // A key that is a number is not refused.
            let _ = t.setv(&mut vm.heap, key, s);
        }
        let globals = vm.globals;
        let key = Value::obj(vm.heap.str(b"arg"));
        let _ = globals.setv(&mut vm.heap, key, Value::obj(t));
    }

    fn run_init(&mut self) -> Done {
        let Some(init) = std::env::var_os("LUA_INIT") else { return Ok(()) };
        let init = init.as_encoded_bytes();
        match init.strip_prefix(b"@") {
            Some(file) => {
                let code = base::read_source(&mut self.vm, Some(file)).map_err(|e| self.failed(&e))?;
                self.run_source(&code, init, &[])
            }
            None => self.run_source(init, b"=LUA_INIT", &[]),
        }
    }

    fn failed(&mut self, message: &[u8]) -> Failed {
        self.report(message);
        Failed
    }

    fn step(&mut self, step: &Step) -> Done {
        match step {
            Step::Execute(chunk) => self.run_source(chunk, b"=(command line)", &[]),
            Step::Require(name) => {
                let require = self.vm.global(b"require");
                let name = Value::obj(self.vm.heap.str(name));
                self.call(require, &[name]).map(drop)
            }
            Step::Jit(cmd) => self.jit_command(cmd),
            Step::Opt(opt) => {
                let start =
                    self.loaded(b"jit.opt").map_or(Value::NIL, |t| t.get_bytes(&self.vm.heap, b"start"));
                self.call_with_words(start, opt)
            }
        }
    }

    /// `package.loaded[name]`, if it is a table.
    fn loaded(&mut self, name: &[u8]) -> Option<crate::native::Gc<Table>> {
        let loaded = base::loaded_table(&mut self.vm);
        loaded.get_bytes(&self.vm.heap, name).as_obj()
    }

    /// `-j name[=word,...]`: a function of `jit`, or the `start` of a module `jit.name`.
    fn jit_command(&mut self, cmd: &[u8]) -> Done {
        const UNKNOWN: &[u8] = b"unknown luaJIT command or jit.* modules not installed";
        let split = cmd.iter().position(|&c| c == b'=');
        let (name, words) = match split {
            Some(at) => (&cmd[..at], &cmd[at + 1..]),
            None => (cmd, &b""[..]),
        };
        let own = self.loaded(b"jit").map_or(Value::NIL, |t| t.get_bytes(&self.vm.heap, name));
        if own.is::<crate::native::Func>() {
            return self.call_with_words(own, words);
        }
        let module = Value::obj(self.vm.heap.str(&[b"jit.", name].concat()));
        let require = self.vm.global(b"require");
        match self.vm.call(require, &[module]) {
            Ok(values) => {
                let t = values.first().and_then(|v| v.as_obj::<Table>());
                let start = t.map_or(Value::NIL, |t| t.get_bytes(&self.vm.heap, b"start"));
                if start.is::<crate::native::Func>() {
                    return self.call_with_words(start, words);
                }
                Err(self.failed(UNKNOWN))
            }
            Err(_) => {
                let err = self.vm.take_error();
                let text = self.vm.raw_text(err);
                Err(self.failed(if text.starts_with(b"module ") { UNKNOWN } else { &text }))
            }
        }
    }

    /// Calls a native with the comma-separated words (nil for one without letters); its error comes without a traceback.
    fn call_with_words(&mut self, f: Value, words: &[u8]) -> Done {
        let list = words.split(|&c| c == b',').filter(|_| !words.is_empty());
        let word = |w: &[u8]| if w.is_empty() { Value::NIL } else { Value::obj(self.vm.heap.str(w)) };
        let args: Vec<Value> = list.map(word).collect();
        match self.vm.call(f, &args) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.report_error()),
        }
    }

    /// Calls a function; its error is reported with a traceback. Ctrl-C interrupts it.
    pub fn call(&mut self, f: Value, args: &[Value]) -> Result<Vec<Value>, Failed> {
        let handler = self.vm.traceback_handler();
        let guard = interrupt::during_call(&mut self.vm);
        let host = self.vm.host_frame();
        let args: Vec<Value> = [f].iter().chain(args).copied().collect();
        let r = self.vm.call_handled(host, &args, handler);
        drop(guard);
        r.map_err(|_| {
            let failed = self.report_error();
            // What the failed chunk left behind may be much.
            self.vm.collect_garbage();
            failed
        })
    }

    /// Compiles and calls.
    fn run_source(&mut self, source: &[u8], name: &[u8], args: &[Value]) -> Done {
        match self.vm.load(source, name, b"bt", None) {
            Ok(f) => self.call(Value::obj(f), args).map(drop),
            Err(message) => Err(self.failed(&message)),
        }
    }

    fn run_stdin(&mut self) -> Done {
        let code = base::read_source(&mut self.vm, None).map_err(|e| self.failed(&e))?;
        self.run_source(&code, b"=stdin", &[])
    }

    fn run_script(&mut self, args: &[OsString], at: usize) -> Done {
        let name = args[at].as_encoded_bytes();
        let path = (name != b"-" || args[at - 1] == "--").then_some(name);
        let code = base::read_source(&mut self.vm, path).map_err(|e| self.failed(&e))?;
        let chunkname = match path {
            Some(p) => [b"@", p].concat(),
            None => b"=stdin".to_vec(),
        };
        let f = match self.vm.load(&code, &chunkname, b"bt", None) {
            Ok(f) => f,
            Err(message) => return Err(self.failed(&message)),
        };
        // The arguments come from `arg`, which an `-e` or LUA_INIT may have changed.
        let mut words = Vec::new();
        if let Some(t) = self.vm.global(b"arg").as_obj::<Table>() {
            loop {
                let v = t.geti(&self.vm.heap, words.len() as i64 + 1);
                if v.is_nil() {
                    break;
                }
                words.push(v);
            }
        }
        self.call(Value::obj(f), &words).map(drop)
    }
}
