//! The interactive mode. On a terminal lines are edited, kept in a history and coloured; otherwise prompts and lines
//! go through the plain streams, byte for byte as `luajit` has it.

use std::io::IsTerminal;
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use super::highlight::Colours;
use super::interrupt::ignore_between_calls;
use super::script::Cli;
use crate::native::{Str, Value, Vm};
use moonlit_vm::lib::io;

/// Lines the history file keeps.
const HISTORY_LINES_MAX: usize = 1000;

/// Where lines come from.
enum Lines {
    Plain,
    Edited(Box<Editor<Colours, FileHistory>>),
}

/// What reading a line came to.
enum Read {
    Line(Vec<u8>),
    /// Ctrl-C at the prompt: what was typed is dropped.
    Dropped,
    End,
}

/// Reads and runs chunks until the end of the input.
pub fn run(cli: &mut Cli) {
    let name = std::mem::take(&mut cli.name);
    let mut lines = Lines::open();
    let _ignored = matches!(lines, Lines::Edited(_)).then(ignore_between_calls);
    while let Some((chunk, text)) = read_chunk(cli, &mut lines) {
        lines.remember(&text);
        match chunk {
            Ok(f) => run_chunk(cli, f),
            Err(message) => cli.report(&message),
        }
    }
    io::write_stdout(&mut cli.vm, b"\n");
    io::flush_stdout(&cli.vm);
    lines.save();
    cli.name = name;
}

type Compiled = Result<Value, Vec<u8>>;

/// Reads lines until they are a whole chunk or a wrong one; `None` at the end of the input.
fn read_chunk(cli: &mut Cli, lines: &mut Lines) -> Option<(Compiled, Vec<u8>)> {
    let mut typed: Vec<u8> = Vec::new();
    let mut source: Vec<u8> = Vec::new();
    let mut first = true;
    loop {
        let line = match lines.read(&mut cli.vm, first) {
            Read::Line(l) => l,
            Read::Dropped => {
                typed.clear();
                source.clear();
                first = true;
                continue;
            }
            Read::End => return None,
        };
        if !first {
            typed.push(b'\n');
            source.push(b'\n');
        }
        typed.extend_from_slice(&line);
        match line.strip_prefix(b"=") {
            Some(expression) if first => {
                source.extend_from_slice(b"return ");
                source.extend_from_slice(expression);
            }
            _ => source.extend_from_slice(&line),
        }
        first = false;
        match cli.vm.load(&source, b"=stdin", b"bt", None) {
            Ok(f) => return Some((Ok(Value::obj(f)), typed)),
            // More lines may make it a chunk.
            Err(message) if message.ends_with(b"'<eof>'") => {}
            Err(message) => return Some((Err(message), typed)),
        }
    }
}

fn run_chunk(cli: &mut Cli, f: Value) {
    let Ok(values) = cli.call(f, &[]) else { return };
    if values.is_empty() {
        return;
    }
    let print = cli.vm.global(b"print");
    if cli.vm.call(print, &values).is_err() {
        let err = cli.vm.take_error();
        let text = cli.vm.raw_text(err);
        cli.report(&[b"error calling 'print' (", &text[..], b")"].concat());
    }
}

/// The prompt: a global string, or LuaJIT's.
fn prompt(vm: &Vm, first: bool) -> Vec<u8> {
    let v = vm.global(if first { b"_PROMPT" } else { b"_PROMPT2" });
    match v.is::<Str>() || v.is_num() {
        true => vm.raw_text(v),
        false => if first { &b"> "[..] } else { b">> " }.to_vec(),
    }
}

/// The history's file: `MOONLIT_HISTORY` names it (empty: none), else it lies in the home folder.
fn history_path() -> Option<PathBuf> {
    match std::env::var_os("MOONLIT_HISTORY") {
        Some(p) if p.is_empty() => None,
        Some(p) => Some(p.into()),
        None => Some(PathBuf::from(std::env::var_os("HOME")?).join(".moonlit_history")),
    }
}

impl Lines {
    fn open() -> Lines {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Lines::Plain;
        }
        let config = Config::builder().max_history_size(HISTORY_LINES_MAX).map(|c| c.auto_add_history(false));
        let editor = config.and_then(|c| Editor::<Colours, FileHistory>::with_config(c.build()));
        let Ok(mut editor) = editor else { return Lines::Plain };
        editor.set_helper(Some(Colours));
        if let Some(path) = history_path() {
            // The first time there is none.
            let _ = editor.load_history(&path);
        }
        Lines::Edited(Box::new(editor))
    }

    fn read(&mut self, vm: &mut Vm, first: bool) -> Read {
        let prompt = prompt(vm, first);
        match self {
            Lines::Plain => {
                io::write_stdout(vm, &prompt);
                io::flush_stdout(vm);
                io::read_stdin_line(vm).map_or(Read::End, Read::Line)
            }
            Lines::Edited(editor) => {
                io::flush_stdout(vm);
                match editor.readline(&*String::from_utf8_lossy(&prompt)) {
                    Ok(line) => Read::Line(line.into_bytes()),
                    Err(ReadlineError::Interrupted) => Read::Dropped,
                    Err(_) => Read::End,
                }
            }
        }
    }

    fn remember(&mut self, text: &[u8]) {
        if let Lines::Edited(editor) = self {
            // A line that cannot be kept is no reason to stop.
            let _ = editor.add_history_entry(String::from_utf8_lossy(text));
        }
    }

    fn save(&mut self) {
        if let (Lines::Edited(editor), Some(path)) = (self, history_path()) {
            // As with a read-only home folder: the session was of use all the same.
            let _ = editor.save_history(&path);
        }
    }
}
