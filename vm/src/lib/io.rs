//! The io library: buffered streams over files, standard streams and commands.
//!
//! A stream is one Rust object shared by its userdata and, for the standard streams, by `print`. Reading
//! and writing share one position, as in C: what was read ahead is given back before a write.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use super::{check_option, new_string, push_failure, set_field, sys};
use crate::function::closure::Func;
use crate::heap::Heap;
use crate::heap::gc_ref::Gc;
use crate::limits::UPVALUES_MAX;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised, Takes};
use crate::string::Str;
use crate::table::Table;
use crate::userdata::Userdata;
use crate::value::{Value, number};

/// Longest number that is read by `*n`, in digits.
const NUMBER_TEXT_MAX: usize = 1 << 16;

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("io.close", close),
    NativeRow::new("io.flush", flush),
    NativeRow::new("io.input", input),
    NativeRow::new("io.lines", lines),
    NativeRow::new("io.open", open_file),
    NativeRow::new("io.output", output),
    NativeRow::new("io.popen", popen),
    NativeRow::new("io.read", read),
    NativeRow::new("io.tmpfile", tmpfile),
    NativeRow::new("io.type", type_),
    NativeRow::new("io.write", write).plain(Takes::Values),
];

/// Methods of files.
pub const METHODS: &[NativeRow] = &[
    NativeRow::new("file:__gc", file_gc),
    NativeRow::new("file:__tostring", file_tostring),
    NativeRow::new("file:close", file_close),
    NativeRow::new("file:flush", file_flush),
    NativeRow::new("file:lines", file_lines),
    NativeRow::new("file:read", file_read),
    NativeRow::new("file:seek", file_seek),
    NativeRow::new("file:setvbuf", file_setvbuf),
    NativeRow::new("file:write", file_write).plain(Takes::Values),
];

const CLOSED: &[u8] = b"attempt to use a closed file";
const BUFFER: usize = 32768;

/// When written bytes leave the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Buffering {
    No,
    Line,
    Full,
}

/// What a stream is connected to.
enum Source {
    Stdin,
    Stdout,
    Stderr,
    File(File),
    FromCommand(Child, ChildStdout),
    ToCommand(Child, Option<ChildStdin>),
}

/// A buffered stream.
struct Stream {
    /// `None` when closed.
    source: Option<Source>,
    /// Bytes read ahead, from `read_at` on.
    ahead: Vec<u8>,
    read_at: usize,
    pending: Vec<u8>,
    buffering: Buffering,
    /// Opened for reading only or writing only.
    reads: bool,
    writes: bool,
}

impl Stream {
    fn new(source: Source, buffering: Buffering) -> Stream {
        let reads = !matches!(source, Source::Stdout | Source::Stderr | Source::ToCommand(..));
        let writes = !matches!(source, Source::Stdin | Source::FromCommand(..));
        Stream {
            source: Some(source),
            ahead: Vec::new(),
            read_at: 0,
            pending: Vec::new(),
            buffering,
            reads,
            writes,
        }
    }

    fn is_standard(&self) -> bool {
        matches!(self.source, Some(Source::Stdin | Source::Stdout | Source::Stderr))
    }

    /// Reads ahead; answers whether there is anything.
    fn fill(&mut self) -> io::Result<bool> {
        if self.read_at < self.ahead.len() {
            return Ok(true);
        }
        if !self.reads {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        self.flush()?;
        self.ahead.resize(BUFFER, 0);
        self.read_at = 0;
        let buf = &mut self.ahead[..];
        let n = loop {
            let r = match &mut self.source {
                Some(Source::Stdin) => io::stdin().lock().read(buf),
                Some(Source::File(f)) => f.read(buf),
                Some(Source::FromCommand(_, out)) => out.read(buf),
                _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
            };
            match r {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                r => break r,
            }
        };
        self.ahead.truncate(*n.as_ref().unwrap_or(&0));
        Ok(n? > 0)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.read_at < self.ahead.len()
            && let Some(Source::File(f)) = &mut self.source
        {
            f.seek(SeekFrom::Current(self.read_at as i64 - self.ahead.len() as i64))?;
        }
        self.ahead.clear();
        self.read_at = 0;
        if !self.writes {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        self.pending.extend_from_slice(bytes);
        match self.buffering {
            Buffering::No => self.flush(),
            Buffering::Line if bytes.contains(&b'\n') => self.flush(),
            _ if self.pending.len() >= BUFFER => self.flush(),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.pending);
        let r = match &mut self.source {
            Some(Source::Stdout) => raw_write(&mut io::stdout().lock(), &bytes),
            Some(Source::Stderr) => raw_write(&mut io::stderr().lock(), &bytes),
            Some(Source::File(f)) => raw_write(f, &bytes),
            Some(Source::ToCommand(_, Some(i))) => raw_write(i, &bytes),
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        };
        // The buffer's memory is worth keeping.
        self.pending = bytes;
        self.pending.clear();
        r
    }

    fn seek(&mut self, from: SeekFrom) -> io::Result<u64> {
        self.flush()?;
        let from = match from {
            SeekFrom::Current(n) => SeekFrom::Current(n - (self.ahead.len() - self.read_at) as i64),
            other => other,
        };
        let Some(Source::File(f)) = &mut self.source else {
            return standard_seek(self.source.as_ref(), from);
        };
        let at = f.seek(from)?;
        self.ahead.clear();
        self.read_at = 0;
        Ok(at)
    }

    /// Reads up to `n` bytes; answers `None` at the end of the file.
    fn read_bytes(&mut self, heap: &Heap, n: usize) -> io::Result<Option<Vec<u8>>> {
        if n == 0 {
            return Ok(if self.fill()? { Some(Vec::new()) } else { None });
        }
        let mut out = Vec::new();
        let mut looked_at = 0;
        while out.len() < n && self.fill()? {
            room(heap, &out, &mut looked_at)?;
            let take = (n - out.len()).min(self.ahead.len() - self.read_at);
            out.extend_from_slice(&self.ahead[self.read_at..self.read_at + take]);
            self.read_at += take;
        }
        Ok(if out.is_empty() { None } else { Some(out) })
    }

    fn read_all(&mut self, heap: &Heap) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut looked_at = 0;
        while self.fill()? {
            room(heap, &out, &mut looked_at)?;
            out.extend_from_slice(&self.ahead[self.read_at..]);
            self.read_at = self.ahead.len();
        }
        Ok(out)
    }

    /// Reads a line; `None` at the end of the file.
    fn read_line(&mut self, heap: &Heap, keep_newline: bool) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        let mut looked_at = 0;
        let mut any = false;
        while self.fill()? {
            room(heap, &out, &mut looked_at)?;
            any = true;
            let rest = &self.ahead[self.read_at..];
            match memchr::memchr(b'\n', rest) {
                Some(at) => {
                    out.extend_from_slice(&rest[..at + keep_newline as usize]);
                    self.read_at += at + 1;
                    break;
                }
                None => {
                    out.extend_from_slice(rest);
                    self.read_at = self.ahead.len();
                }
            }
        }
        Ok(if any { Some(out) } else { None })
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(if self.fill()? { Some(self.ahead[self.read_at]) } else { None })
    }

    /// Reads the longest prefix that looks like a number, as C's `scanf` does: what was looked at is consumed, an exponent
    /// without digits counts as none.
    fn read_number(&mut self) -> io::Result<Option<f64>> {
        while self.peek()?.is_some_and(number::is_space) {
            self.read_at += 1;
        }
        let mut text = Vec::new();
        if let Some(c @ (b'+' | b'-')) = self.peek()? {
            text.push(c);
            self.read_at += 1;
        }
        let word: &[u8] = match self.peek()? {
            Some(b'n' | b'N') => b"nan",
            Some(b'i' | b'I') => b"infinity",
            _ => return self.read_digits(text),
        };
        let sign = text.len();
        for &w in word {
            match self.peek()? {
                Some(c) if c.eq_ignore_ascii_case(&w) => {
                    text.push(w);
                    self.read_at += 1;
                }
                // As there: a letter that does not fit is consumed, unless `inf` is whole without it.
                Some(_) if &text[sign..] != b"inf" => {
                    self.read_at += 1;
                    break;
                }
                _ => break,
            }
        }
        let n = match &text[sign..] {
            b"nan" => f64::NAN,
            b"inf" | b"infinity" => f64::INFINITY,
            _ => return Ok(None),
        };
        Ok(Some(if text.first() == Some(&b'-') { -n } else { n }))
    }

    /// The digits of a number; `text` is its sign.
    fn read_digits(&mut self, mut text: Vec<u8>) -> io::Result<Option<f64>> {
        let sign = text.len();
        let mut hex = false;
        let mut exponent = None;
        let mut point = false;
        let mut digits = false;
        while let Some(c) = self.peek()? {
            let after = text.last().copied();
            let ok = match c {
                b'+' | b'-' => exponent == Some(text.len()),
                b'0'..=b'9' => true,
                b'x' | b'X' => !hex && after == Some(b'0') && text.len() == sign + 1,
                b'.' => !point && exponent.is_none(),
                b'p' | b'P' if hex => exponent.is_none() && digits,
                b'e' | b'E' if !hex => exponent.is_none() && digits,
                b'a'..=b'f' | b'A'..=b'F' => hex && exponent.is_none(),
                _ => false,
            };
            if !ok || text.len() >= NUMBER_TEXT_MAX {
                break;
            }
            text.push(c);
            self.read_at += 1;
            match c {
                b'x' | b'X' => {
                    hex = true;
                    digits = false;
                }
                b'.' => point = true,
                b'p' | b'P' => exponent = Some(text.len()),
                b'e' | b'E' if !hex => exponent = Some(text.len()),
                b'+' | b'-' => {}
                _ => digits = true,
            }
        }
        if let Some(at) = exponent
            && !text[at..].iter().any(u8::is_ascii_digit)
        {
            text.truncate(at - 1);
        }
        Ok(if digits { number::parse(&text) } else { None })
    }
}

/// Writes everything, unbuffered.
/// Asks for room for what has been read, and for a string of it.
fn room(heap: &Heap, out: &[u8], looked_at: &mut usize) -> io::Result<()> {
    if super::has_room(heap, out.len(), looked_at) { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
}

fn raw_write(w: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    w.write_all(bytes)?;
    w.flush()
}

/// Seeking a standard stream: works where it is redirected to a file.
fn standard_seek(source: Option<&Source>, from: SeekFrom) -> io::Result<u64> {
    use std::os::fd::AsFd;
    let fd = match source {
        Some(Source::Stdin) => io::stdin().as_fd().try_clone_to_owned(),
        Some(Source::Stdout) => io::stdout().as_fd().try_clone_to_owned(),
        Some(Source::Stderr) => io::stderr().as_fd().try_clone_to_owned(),
        _ => Err(io::Error::from_raw_os_error(libc::ESPIPE)),
    };
    File::from(fd?).seek(from)
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Nobody is left to be told about a failure.
        let _ = self.flush();
    }
}

type Shared = Rc<RefCell<Stream>>;

/// Payload of a file userdata.
struct LuaFile(Shared);

/// What the library keeps per VM besides Lua values.
struct IoState {
    stdin: Shared,
    stdout: Shared,
    stderr: Shared,
    lines_aux: crate::index::NativeId,
}

/// Writes out what `io.stdout` holds back, before somebody else writes to the same descriptor.
pub fn flush_stdout(vm: &Vm) {
    if let Some(state) = vm.app.get::<IoState>() {
        // A failure shows at the program's own next write.
        let _ = state.stdout.borrow_mut().flush();
    }
}

/// The descriptor of a file object that is a standard stream: 0, 1 or 2.
pub fn standard_stream(vm: &Vm, v: Value) -> Option<u8> {
    let stream = v.as_obj::<Userdata>()?.downcast::<LuaFile>(&vm.heap)?.0.borrow();
    match stream.source {
        Some(Source::Stdin) => Some(0),
        Some(Source::Stdout) => Some(1),
        Some(Source::Stderr) => Some(2),
        _ => None,
    }
}

/// The descriptor of the open file in argument `i` of function `name`. Raises `name: closed file`.
pub(super) fn descriptor(vm: &mut Vm, i: usize, name: &str) -> Result<i32, Raised> {
    use std::os::fd::AsRawFd;
    let Some(s) = stream_of(vm, vm.arg(i)) else { return Err(vm.type_error(i, "FILE*")) };
    let fd = match &s.borrow().source {
        Some(Source::Stdin) => Some(0),
        Some(Source::Stdout) => Some(1),
        Some(Source::Stderr) => Some(2),
        Some(Source::File(f)) => Some(f.as_raw_fd()),
        Some(Source::FromCommand(_, out)) => Some(out.as_raw_fd()),
        Some(Source::ToCommand(_, i)) => i.as_ref().map(|i| i.as_raw_fd()),
        None => None,
    };
    match fd {
        Some(fd) => Ok(fd),
        None => Err(vm.throw_str(format!("{name}: closed file").as_bytes())),
    }
}

/// Slots of the table that the functions share as upvalue.
const INPUT: i32 = 1;
const OUTPUT: i32 = 2;
const META: i32 = 3;

/// Opens the library.
pub fn open(vm: &mut Vm) {
    use std::io::IsTerminal;
    let t = super::new_library(vm, "io", FNS);
    let meta = vm.heap.new_table(0, 4);
    vm.register(meta, METHODS);
    set_field(vm, meta, "__index", Value::obj(meta));
    let out_mode = if io::stdout().is_terminal() { Buffering::Line } else { Buffering::Full };
    let stdin = Rc::new(RefCell::new(Stream::new(Source::Stdin, Buffering::Full)));
    let stdout = Rc::new(RefCell::new(Stream::new(Source::Stdout, out_mode)));
    let stderr = Rc::new(RefCell::new(Stream::new(Source::Stderr, Buffering::No)));
    let shared = vm.heap.new_table(4, 0);
    let _ = shared.seti(&mut vm.heap, META, Value::obj(meta));
    for (name, stream, slot) in
        [("stdin", &stdin, Some(INPUT)), ("stdout", &stdout, Some(OUTPUT)), ("stderr", &stderr, None)]
    {
        let u = vm.heap.new_udata(LuaFile(stream.clone()), Some(meta)).value();
        set_field(vm, t, name, u);
        if let Some(slot) = slot {
            let _ = shared.seti(&mut vm.heap, slot, u);
        }
    }
    for row in FNS {
        super::give_upvalues(vm, t, row.field(), &[Value::obj(shared)]);
    }
    super::give_upvalues(vm, meta, "close", &[Value::obj(shared)]);
    vm.new_native(NativeRow::new("io.lines_aux", lines_aux).plain(Takes::Values), &[]);
    let lines_aux = crate::index::NativeId::new(vm.natives.len() as u32 - 1);
    vm.app.set(IoState { stdin, stdout, stderr, lines_aux });
}

/// The next line of `io.stdin` without its newline; `None` at its end or when it cannot be read.
pub fn read_stdin_line(vm: &mut Vm) -> Option<Vec<u8>> {
    let stdin = vm.app.get::<IoState>()?.stdin.clone();
    stdin.borrow_mut().read_line(&vm.heap, false).ok().flatten()
}

/// What is left of `io.stdin`.
pub fn read_stdin(vm: &mut Vm) -> io::Result<Vec<u8>> {
    match vm.app.get::<IoState>().map(|s| s.stdin.clone()) {
        Some(stdin) => stdin.borrow_mut().read_all(&vm.heap),
        None => {
            let mut all = Vec::new();
            io::stdin().lock().read_to_end(&mut all)?;
            Ok(all)
        }
    }
}

/// Writes to the stream `print` uses.
pub fn write_stdout(vm: &mut Vm, bytes: &[u8]) {
    match vm.app.get::<IoState>() {
        // As in C, nobody looks at the result.
        Some(s) => drop(s.stdout.borrow_mut().write(bytes)),
        None => drop(io::stdout().write_all(bytes)),
    }
}

/// Flushes the standard streams: before the process ends or hands its terminal to a command.
pub fn flush_standard(vm: &mut Vm) {
    if let Some(s) = vm.app.get::<IoState>() {
        let _ = s.stdout.borrow_mut().flush();
        let _ = s.stderr.borrow_mut().flush();
    }
}

fn shared_table(vm: &mut Vm) -> Result<Gc<Table>, Raised> {
    match vm.upvalue(0).as_obj() {
        Some(t) => Ok(t),
        None => Err(vm.throw_plain(b"the io library has lost its state")),
    }
}

fn stream_of(vm: &Vm, v: Value) -> Option<Shared> {
    v.as_obj::<Userdata>()?.downcast::<LuaFile>(&vm.heap).map(|f| f.0.clone())
}

/// The open file in argument `i`. Raises `attempt to use a closed file`.
fn check_file(vm: &mut Vm, i: usize) -> Result<Shared, Raised> {
    let Some(s) = stream_of(vm, vm.arg(i)) else { return Err(vm.type_error(i, "FILE*")) };
    if s.borrow().source.is_none() {
        return Err(vm.throw_str(CLOSED));
    }
    Ok(s)
}

/// The default input or output. Raises `standard file is closed`.
fn default_file(vm: &mut Vm, slot: i32) -> Result<Shared, Raised> {
    let v = shared_table(vm)?.geti(&vm.heap, slot);
    match stream_of(vm, v) {
        Some(s) if s.borrow().source.is_some() => Ok(s),
        _ => Err(vm.throw_str(b"standard file is closed")),
    }
}

fn new_file(vm: &mut Vm, source: Source) -> Result<Value, Raised> {
    new_stream(vm, Stream::new(source, Buffering::Full))
}

/// A file opened with a mode string.
fn new_opened(vm: &mut Vm, f: File, mode: &[u8]) -> Result<Value, Raised> {
    let mut st = Stream::new(Source::File(f), Buffering::Full);
    let both = mode.contains(&b'+');
    st.reads = both || mode.first() == Some(&b'r');
    st.writes = both || mode.first() != Some(&b'r');
    new_stream(vm, st)
}

fn new_stream(vm: &mut Vm, stream: Stream) -> Result<Value, Raised> {
    let meta = shared_table(vm)?.geti(&vm.heap, META).as_obj::<Table>();
    let stream = Rc::new(RefCell::new(stream));
    let u = vm.heap.new_udata(LuaFile(stream), meta);
    // A file that is not closed holds its buffer until it is collected.
    vm.heap.set_udata_extern(u, BUFFER);
    Ok(u.value())
}

/// `true` (or the file in 5.2 mode), or nil, message, number.
fn answer(vm: &mut Vm, r: io::Result<()>, file: Option<Value>) -> NativeResult {
    match r {
        Ok(()) => Ok(Outcome::one(match file {
            Some(f) if vm.compat52 => f,
            _ => Value::TRUE,
        })),
        Err(e) => push_failure(vm, sys::error_text(&e).as_bytes(), sys::error_code(&e)),
    }
}

fn open_with_mode(name: &[u8], mode: &[u8]) -> io::Result<File> {
    let mut o = OpenOptions::new();
    match mode.first() {
        Some(b'r') => o.read(true),
        Some(b'w') => o.write(true).create(true).truncate(true),
        Some(b'a') => o.append(true).create(true),
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    if mode[1..].contains(&b'+') {
        o.read(true);
        if mode[0] == b'r' {
            o.write(true);
        }
    }
    o.open(sys::path(name)?)
}

/// `name: reason`.
fn open_failure(name: &[u8], e: &io::Error) -> Vec<u8> {
    [name, b": ", sys::error_text(e).as_bytes()].concat()
}

/// `io.open(path, mode)`: a file, or nil, message, number.
fn open_file(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let mode = vm.opt_str(1)?.map_or(b"r".to_vec(), |s| s.bytes(&vm.heap).to_vec());
    match open_with_mode(&name, &mode) {
        Ok(f) => Ok(Outcome::one(new_opened(vm, f, &mode)?)),
        Err(e) => push_failure(vm, &open_failure(&name, &e), sys::error_code(&e)),
    }
}

/// `io.tmpfile()`: a file without a name, open for updating.
fn tmpfile(vm: &mut Vm, _: Entry) -> NativeResult {
    match super::os::make_temporary() {
        Ok((name, f)) => {
            let _ = std::fs::remove_file(name);
            Ok(Outcome::one(new_file(vm, Source::File(f))?))
        }
        Err(e) => push_failure(vm, sys::error_text(&e).as_bytes(), sys::error_code(&e)),
    }
}

/// `io.popen(command, mode)`: a stream from (`r`) or to (`w`) a shell command.
fn popen(vm: &mut Vm, _: Entry) -> NativeResult {
    let cmd = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let mode = vm.opt_str(1)?.map_or(b"r".to_vec(), |s| s.bytes(&vm.heap).to_vec());
    flush_standard(vm);
    let mut c = Command::new("/bin/sh");
    c.arg("-c").arg(std::ffi::OsStr::from_bytes(&cmd));
    let source = match &mode[..] {
        b"r" | b"re" => c.stdout(Stdio::piped()).spawn().and_then(|mut child| match child.stdout.take() {
            Some(out) => Ok(Source::FromCommand(child, out)),
            None => Err(io::Error::from_raw_os_error(libc::EPIPE)),
        }),
        b"w" | b"we" => c.stdin(Stdio::piped()).spawn().map(|mut child| {
            let i = child.stdin.take();
            Source::ToCommand(child, i)
        }),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    match source {
        Ok(s) => Ok(Outcome::one(new_file(vm, s)?)),
        Err(e) => push_failure(vm, &open_failure(&cmd, &e), sys::error_code(&e)),
    }
}

/// `io.type(v)`: `file`, `closed file` or nil.
fn type_(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.check_any(0)?;
    let text: &[u8] = match stream_of(vm, v) {
        Some(s) if s.borrow().source.is_some() => b"file",
        Some(_) => b"closed file",
        None => return Ok(Outcome::one(Value::NIL)),
    };
    Ok(Outcome::one(Value::obj(vm.heap.str(text))))
}

fn close_stream(vm: &mut Vm, s: &Shared) -> NativeResult {
    let mut s = s.borrow_mut();
    if s.is_standard() {
        vm.push(Value::NIL);
        let text = vm.heap.str(b"cannot close standard file");
        vm.push(Value::obj(text));
        return Ok(Outcome::top(2));
    }
    if s.source.is_none() {
        drop(s);
        return Err(vm.throw_str(CLOSED));
    }
    let r = s.flush();
    s.ahead = Vec::new();
    s.pending = Vec::new();
    s.read_at = 0;
    let source = s.source.take();
    drop(s);
    match source {
        Some(Source::FromCommand(mut child, out)) => {
            drop(out);
            closed_command(vm, child.wait())
        }
        Some(Source::ToCommand(mut child, i)) => {
            drop(i);
            closed_command(vm, child.wait())
        }
        _ => answer(vm, r, None),
    }
}

fn closed_command(vm: &mut Vm, status: io::Result<std::process::ExitStatus>) -> NativeResult {
    match status {
        Ok(s) if vm.compat52 => super::os::push_status(vm, s),
        r => answer(vm, r.map(drop), None),
    }
}

/// `io.close(file)`: the default output without one.
fn close(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.arg_opt(0).is_some() {
        let s = check_file(vm, 0)?;
        return close_stream(vm, &s);
    }
    let v = shared_table(vm)?.geti(&vm.heap, OUTPUT);
    match stream_of(vm, v) {
        Some(s) => close_stream(vm, &s),
        None => Err(vm.throw_str(CLOSED)),
    }
}

/// `file:close()`; the default output without a file.
fn file_close(vm: &mut Vm, e: Entry) -> NativeResult {
    if vm.arg_opt(0).is_none() {
        return close(vm, e);
    }
    let s = check_file(vm, 0)?;
    if let Some(u) = vm.arg(0).as_obj() {
        vm.heap.set_udata_extern(u, 0);
    }
    close_stream(vm, &s)
}

/// Closes a file nobody can reach any more.
fn file_gc(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(s) = stream_of(vm, vm.arg(0)) else { return Err(vm.type_error(0, "FILE*")) };
    if !s.borrow().is_standard() && s.borrow().source.is_some() {
        close_stream(vm, &s)?;
    }
    Ok(Outcome::none())
}

/// `file (0x...)` or `file (closed)`.
fn file_tostring(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    let Some(s) = stream_of(vm, v) else { return Err(vm.type_error(0, "FILE*")) };
    let text = if s.borrow().source.is_some() {
        format!("file ({:#x})", v.payload())
    } else {
        "file (closed)".into()
    };
    Ok(Outcome::one(Value::obj(vm.heap.str(text.as_bytes()))))
}

/// `io.flush()`.
fn flush(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = default_file(vm, OUTPUT)?;
    let r = s.borrow_mut().flush();
    answer(vm, r, None)
}

/// `file:flush()`.
fn file_flush(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = check_file(vm, 0)?;
    let r = s.borrow_mut().flush();
    answer(vm, r, None)
}

fn default_stream(vm: &mut Vm, slot: i32, mode: &[u8]) -> NativeResult {
    let t = shared_table(vm)?;
    let v = vm.arg(0);
    if !v.is_nil() {
        let file = if !v.is::<Userdata>() {
            let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
            match open_with_mode(&name, mode) {
                Ok(f) => new_opened(vm, f, mode)?,
                Err(e) => return Err(vm.arg_error(0, &open_failure(&name, &e))),
            }
        } else {
            check_file(vm, 0)?;
            v
        };
        let _ = t.seti(&mut vm.heap, slot, file);
        return Ok(Outcome::one(file));
    }
    Ok(Outcome::one(t.geti(&vm.heap, slot)))
}

/// `io.input(file or path)`.
fn input(vm: &mut Vm, _: Entry) -> NativeResult {
    default_stream(vm, INPUT, b"r")
}

/// `io.output(file or path)`.
fn output(vm: &mut Vm, _: Entry) -> NativeResult {
    default_stream(vm, OUTPUT, b"w")
}

fn write_args(vm: &mut Vm, s: &Shared, from: usize, n: usize, file: Option<Value>) -> NativeResult {
    let mut r = Ok(());
    for i in from..n {
        let v = vm.arg(i);
        let one = if let Some(x) = v.as_num() {
            s.borrow_mut().write(&number::to_text(x))
        } else {
            let text = vm.check_str(i)?;
            s.borrow_mut().write(text.bytes(&vm.heap))
        };
        r = r.and(one);
    }
    answer(vm, r, file)
}

/// `io.write(...)`.
fn write(vm: &mut Vm, e: Entry) -> NativeResult {
    let s = default_file(vm, OUTPUT)?;
    let file = shared_table(vm)?.geti(&vm.heap, OUTPUT);
    write_args(vm, &s, 0, e.count(), Some(file))
}

/// `file:write(...)`.
fn file_write(vm: &mut Vm, e: Entry) -> NativeResult {
    let s = check_file(vm, 0)?;
    let file = vm.arg(0);
    write_args(vm, &s, 1, e.count(), Some(file))
}

/// One thing to read.
#[derive(Clone, Copy)]
enum Format {
    Line(bool),
    All,
    Number,
    Bytes(usize),
}

fn check_format(vm: &mut Vm, i: usize, v: Value) -> Result<Format, Raised> {
    if let Some(n) = v.as_num() {
        return match usize::try_from(number::to_i32_trunc(n)) {
            Ok(n) => Ok(Format::Bytes(n)),
            Err(_) => Err(vm.throw_memory()),
        };
    }
    let Some(s) = v.as_obj::<Str>() else { return Err(vm.arg_error(i, b"invalid option")) };
    let b = s.bytes(&vm.heap);
    let letter = b.strip_prefix(b"*").unwrap_or(b).first().copied();
    match letter {
        Some(b'l') => Ok(Format::Line(false)),
        Some(b'L') => Ok(Format::Line(true)),
        Some(b'a') => Ok(Format::All),
        Some(b'n') => Ok(Format::Number),
        _ => Err(vm.arg_error(i, b"invalid format")),
    }
}

/// Reads one thing and pushes it; answers whether there was something.
fn read_one(vm: &mut Vm, s: &Shared, f: Format) -> Result<io::Result<bool>, Raised> {
    let mut st = s.borrow_mut();
    if let Format::Line(keep) = f {
        match st.fill() {
            Ok(true) => {}
            Ok(false) => {
                vm.push(Value::NIL);
                return Ok(Ok(false));
            }
            Err(e) => return Ok(Err(e)),
        }
        // A line that was read ahead whole becomes a string where it lies.
        let rest = &st.ahead[st.read_at..];
        if let Some(at) = memchr::memchr(b'\n', rest) {
            let v = Value::obj(vm.heap.str(&rest[..at + keep as usize]));
            vm.push(v);
            st.read_at += at + 1;
            return Ok(Ok(true));
        }
    }
    let r = match f {
        Format::Number => match st.read_number() {
            Ok(n) => {
                vm.push(n.map_or(Value::NIL, Value::num));
                return Ok(Ok(n.is_some()));
            }
            Err(e) => return Ok(Err(e)),
        },
        Format::Line(keep) => st.read_line(&vm.heap, keep),
        Format::All => st.read_all(&vm.heap).map(Some),
        Format::Bytes(n) => st.read_bytes(&vm.heap, n),
    };
    drop(st);
    Ok(match r {
        Ok(Some(bytes)) => {
            let v = new_string(vm, &bytes)?;
            vm.push(v);
            Ok(true)
        }
        Ok(None) => {
            vm.push(Value::NIL);
            Ok(false)
        }
        Err(e) if e.kind() == io::ErrorKind::OutOfMemory => return Err(vm.throw_memory()),
        Err(e) => Err(e),
    })
}

/// Reads by the formats in `formats` (numbered from argument `from` for errors).
fn read_formats(
    vm: &mut Vm,
    s: &Shared,
    from: usize,
    formats: &[Value],
) -> Result<io::Result<usize>, Raised> {
    if formats.is_empty() {
        return Ok(read_one(vm, s, Format::Line(false))?.map(|_| 1));
    }
    vm.ensure_slots(formats.len())?;
    for (i, v) in formats.iter().enumerate() {
        let f = check_format(vm, from + i, *v)?;
        match read_one(vm, s, f)? {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(i + 1)),
            Err(e) => return Ok(Err(e)),
        }
    }
    Ok(Ok(formats.len()))
}

fn read_args(vm: &mut Vm, s: &Shared, from: usize, n: usize) -> NativeResult {
    let formats: Vec<Value> = (from..n).map(|i| vm.arg(i)).collect();
    match read_formats(vm, s, from, &formats)? {
        Ok(n) => Ok(Outcome::top(n)),
        Err(e) => push_failure(vm, sys::error_text(&e).as_bytes(), sys::error_code(&e)),
    }
}

/// `io.read(...)`. Raises `invalid format`.
fn read(vm: &mut Vm, e: Entry) -> NativeResult {
    let s = default_file(vm, INPUT)?;
    read_args(vm, &s, 0, e.count())
}

/// `file:read(...)`. Raises `invalid format`.
fn file_read(vm: &mut Vm, e: Entry) -> NativeResult {
    let s = check_file(vm, 0)?;
    read_args(vm, &s, 1, e.count())
}

/// An iterator over the lines of a file. Its upvalues: the file, whether to close it, the formats.
fn lines_function(vm: &mut Vm, file: Value, close: bool, from: usize, n: usize) -> NativeResult {
    if n > UPVALUES_MAX {
        return Err(vm.throw_str(b"too many results to unpack"));
    }
    let mut up = vec![file, Value::bool(close)];
    up.extend((from..n).map(|i| vm.arg(i)));
    let Some(id) = vm.app.get::<IoState>().map(|s| s.lines_aux) else {
        return Err(vm.throw_plain(b"the io library has lost its state"));
    };
    Ok(Outcome::one(Value::obj(vm.native_func(id, &up))))
}

/// `io.lines(path, ...)`: reads a file line by line (or by formats) and closes it at its end.
fn lines(vm: &mut Vm, e: Entry) -> NativeResult {
    if vm.arg(0).is_nil() {
        let file = shared_table(vm)?.geti(&vm.heap, INPUT);
        return lines_function(vm, file, false, 1, e.count());
    }
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    match open_with_mode(&name, b"r") {
        Ok(f) => {
            let file = new_opened(vm, f, b"r")?;
            lines_function(vm, file, true, 1, e.count())
        }
        Err(e) => Err(vm.arg_error(0, &open_failure(&name, &e))),
    }
}

/// `file:lines(...)`.
fn file_lines(vm: &mut Vm, e: Entry) -> NativeResult {
    check_file(vm, 0)?;
    lines_function(vm, vm.arg(0), false, 1, e.count())
}

fn lines_aux(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(s) = stream_of(vm, vm.upvalue(0)) else { return Err(vm.throw_str(CLOSED)) };
    if s.borrow().source.is_none() {
        return Err(vm.throw_str(CLOSED));
    }
    let formats: Vec<Value> = match vm.running_func().and_then(|f: Gc<Func>| f.as_native(&vm.heap)) {
        Some(f) => f.get(&vm.heap).upvals().get(2..).unwrap_or(&[]).to_vec(),
        None => Vec::new(),
    };
    match read_formats(vm, &s, 0, &formats)? {
        Ok(n) => {
            if vm.top_value(n, 0).is_nil() && vm.upvalue(1).truthy() {
                close_stream(vm, &s)?;
                return Ok(Outcome::none());
            }
            Ok(Outcome::top(n))
        }
        Err(e) => Err(vm.throw_str(sys::error_text(&e).as_bytes())),
    }
}

/// `file:seek(whence, offset)`: the new position.
fn file_seek(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = check_file(vm, 0)?;
    let whence = check_option(vm, 1, Some(1), &["set", "cur", "end"])?;
    let offset = number::to_i64(vm.opt_num(2, 0.0)?);
    let from = match whence {
        0 if offset < 0 => return push_failure(vm, b"Invalid argument", libc::EINVAL),
        0 => SeekFrom::Start(offset as u64),
        1 => SeekFrom::Current(offset),
        _ => SeekFrom::End(offset),
    };
    let r = s.borrow_mut().seek(from);
    match r {
        Ok(at) => Ok(Outcome::one(Value::num(at as f64))),
        Err(e) => push_failure(vm, sys::error_text(&e).as_bytes(), sys::error_code(&e)),
    }
}

/// `file:setvbuf(mode, size)`.
fn file_setvbuf(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = check_file(vm, 0)?;
    let mode = check_option(vm, 1, None, &["full", "line", "no"])?;
    vm.opt_int(2, 0)?;
    let mut st = s.borrow_mut();
    st.buffering = [Buffering::Full, Buffering::Line, Buffering::No][mode];
    let r = st.flush();
    drop(st);
    answer(vm, r, None)
}
