//! The module `ngx.pipe`: child processes whose pipes are read, written and waited for without blocking.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Raised, Table, Userdata, Value, Vm};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ApiFn, methods_metatable};
use crate::conf::model::Level;
use crate::lua::args::{array_values, fail, string, text_of};
use crate::lua::bridge::wait as wait_for;
use crate::lua::worker::{LuaWorker, Rooted, here};
use crate::phase::{Phase, Phases};
use crate::subprocess::{Child, Ended, Spec, spawn as spawn_child};

/// The functions of the module.
pub const FNS: &[ApiFn] = &[ApiFn::plain("ngx.pipe.spawn", Phases::ANY, spawn)];

/// The methods of a process.
const METHODS: &[ApiFn] = &[
    ApiFn::plain("ngx.pipe.proc.pid", Phases::ANY, pid),
    ApiFn::plain("ngx.pipe.proc.set_timeouts", Phases::ANY, set_timeouts),
    ApiFn::plain("ngx.pipe.proc.stdout_read_all", Phases::ANY, stdout_read_all),
    ApiFn::plain("ngx.pipe.proc.stdout_read_bytes", Phases::ANY, stdout_read_bytes),
    ApiFn::plain("ngx.pipe.proc.stdout_read_line", Phases::ANY, stdout_read_line),
    ApiFn::plain("ngx.pipe.proc.stdout_read_any", Phases::ANY, stdout_read_any),
    ApiFn::plain("ngx.pipe.proc.stderr_read_all", Phases::ANY, stderr_read_all),
    ApiFn::plain("ngx.pipe.proc.stderr_read_bytes", Phases::ANY, stderr_read_bytes),
    ApiFn::plain("ngx.pipe.proc.stderr_read_line", Phases::ANY, stderr_read_line),
    ApiFn::plain("ngx.pipe.proc.stderr_read_any", Phases::ANY, stderr_read_any),
    ApiFn::plain("ngx.pipe.proc.write", Phases::ANY, write),
    ApiFn::plain("ngx.pipe.proc.shutdown", Phases::ANY, shutdown),
    ApiFn::plain("ngx.pipe.proc.wait", Phases::ANY, wait),
    ApiFn::plain("ngx.pipe.proc.kill", Phases::ANY, kill),
];

/// Timeouts when none is given, in milliseconds.
const TIMEOUT_MS: f64 = 10_000.0;
/// Largest timeout.
const TIMEOUT_MS_MAX: f64 = 4_294_967_295.0;
/// What one read from a pipe takes at most; `buffer_size` may ask for less.
const READ_BYTES: usize = 16 * 1024;

/// The names of the four timeouts, in the order of `set_timeouts`.
const TIMEOUTS: [&str; 4] = ["write_timeout", "stdout_read_timeout", "stderr_read_timeout", "wait_timeout"];

/// One of the two pipes that are read.
#[derive(Default)]
struct Input {
    data: RefCell<Vec<u8>>,
    eof: Cell<bool>,
    busy: Cell<bool>,
}

/// A process, as scripts hold it.
struct Proc {
    /// Not kept alive: a process is itself kept by the worker's VM.
    worker: Weak<LuaWorker>,
    child: Child,
    merged: bool,
    /// Bytes of one read.
    buffer_size: usize,
    inputs: [Input; 2],
    timeouts: Cell<[f64; 4]>,
    writing: Cell<bool>,
    waiting: Cell<bool>,
    /// Waited for: everything about it is closed.
    closed: Cell<bool>,
}

impl Proc {
    /// A debug line.
    fn tell(&self, text: impl FnOnce() -> String) {
        if let Some(w) = self.worker.upgrade() {
            w.debug_plain(text);
        }
    }

    /// How the log calls it.
    fn name(&self) -> String {
        format!("process:{:X} pid:{}", std::ptr::from_ref(self) as usize, self.child.pid)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.tell(|| format!("lua pipe destroy {}", self.name()));
        if self.child.ended().is_none() {
            self.tell(|| format!("lua pipe kill {}", self.name()));
        }
    }
}

/// The metatable of processes.
struct Meta(Rooted);

/// Makes the methods.
pub fn fill(w: &Rc<LuaWorker>, vm: &mut Vm, _: Gc<Table>) {
    let meta = methods_metatable(w, vm, METHODS);
    let kept = Rooted::new(w, vm, Value::obj(meta));
    vm.app.set(Meta(kept));
}

fn raise(vm: &mut Vm, text: impl AsRef<[u8]>) -> Raised {
    vm.throw_str(text.as_ref())
}

/// The system's words for an error, without the number.
fn words(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// `spawn(args, options?)`: starts a program: `args` is an array, or a line for the shell.
///
/// Options: `merge_stderr`, `buffer_size`, `environ` (`NAME=VALUE` lines), and the four timeouts in
/// milliseconds. Returns the process, or nil and the reason. Raises `API disabled in the current context` in
/// `init_by_lua*` and what is wrong with an argument.
fn spawn(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    if w.phase() == Phase::Init {
        return Err(raise(vm, "API disabled in the current context"));
    }
    let args = vm.arg(0);
    let argv: Vec<Vec<u8>> = match (args.as_obj::<Table>(), args.type_name()) {
        (Some(t), _) => {
            let items = array_values(vm, t);
            if items.is_empty() {
                return Err(raise(vm, "bad args arg: non-empty table expected"));
            }
            items.into_iter().map(|v| vm.raw_text(v)).collect()
        }
        (None, "string") => vec![b"/bin/sh".to_vec(), b"-c".to_vec(), vm.raw_text(args)],
        (None, other) => return Err(raise(vm, format!("bad args arg: table expected, got {other}"))),
    };
    let (mut merge_stderr, mut environ, mut timeouts) = (false, None, [TIMEOUT_MS; 4]);
    let mut buffer_size = 4096.0;
    if let Some(o) = vm.arg(1).as_obj::<Table>() {
        merge_stderr = o.get_bytes(&vm.heap, b"merge_stderr").truthy();
        let size = o.get_bytes(&vm.heap, b"buffer_size");
        if size.truthy() {
            buffer_size = match vm.to_number(size) {
                Some(n) if n >= 1.0 => n,
                _ => return Err(raise(vm, "bad buffer_size option")),
            };
        }
        let env = o.get_bytes(&vm.heap, b"environ");
        if env.truthy() {
            environ = environment(vm, env)?;
        }
        for (slot, name) in timeouts.iter_mut().zip(TIMEOUTS) {
            let v = o.get_bytes(&vm.heap, name.as_bytes());
            if v.truthy() {
                *slot = timeout(vm, v, name)?;
            }
        }
    }
    let spec = Spec { argv, environ, merge_stderr };
    let child = match spawn_child(&spec) {
        Ok(c) => c,
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::ENOTDIR)
            ) =>
        {
            let program = String::from_utf8_lossy(&spec.argv[0]).into_owned();
            let line = format!(
                "lua pipe child execvp() failed while executing {program} ({}: {})",
                e.raw_os_error().unwrap_or(0),
                words(&e)
            );
            w.log_plain(Level::Error, line.as_bytes());
            Child::stillborn()
        }
        Err(e) => return fail(vm, &format!("fork failed: {}", words(&e))),
    };
    let proc = Proc {
        worker: Rc::downgrade(&w),
        child,
        merged: merge_stderr,
        buffer_size: (buffer_size as usize).clamp(1, READ_BYTES),
        inputs: Default::default(),
        timeouts: Cell::new(timeouts),
        writing: Cell::new(false),
        waiting: Cell::new(false),
        closed: Cell::new(false),
    };
    let meta = vm.app.get::<Meta>().and_then(|m| m.0.get(vm).as_obj());
    let proc = Rc::new(proc);
    let merged = u8::from(merge_stderr);
    w.debug(|| format!("lua pipe spawn {} merge_stderr:{merged} buffer_size:{buffer_size}", proc.name()));
    let cell = vm.heap.new_udata(proc, meta);
    Ok(Outcome::one(cell.value()))
}

fn environment(vm: &mut Vm, v: Value) -> Result<Option<Vec<Vec<u8>>>, Raised> {
    let Some(t) = v.as_obj::<Table>() else {
        let text = format!("bad environ option: table expected, got {}", v.type_name());
        return Err(raise(vm, text));
    };
    let mut out = Vec::new();
    for (i, v) in array_values(vm, t).into_iter().enumerate() {
        let at = format!("bad value at index {} of environ option: ", i + 1);
        if v.type_name() != "string" {
            return Err(raise(vm, format!("{at}string expected, got {}", v.type_name())));
        }
        let line = vm.raw_text(v);
        if !line.iter().skip(1).any(|b| *b == b'=') {
            let shown = String::from_utf8_lossy(&line).into_owned();
            return Err(raise(vm, format!("{at}'name=[value]' format expected, got '{shown}'")));
        }
        out.push(line);
    }
    Ok(if out.is_empty() { None } else { Some(out) })
}

fn timeout(vm: &mut Vm, v: Value, name: &str) -> Result<f64, Raised> {
    match vm.to_number(v) {
        Some(n) if (0.0..=TIMEOUT_MS_MAX).contains(&n) => Ok(n),
        _ => Err(raise(vm, format!("bad {name} option"))),
    }
}

fn proc(vm: &mut Vm) -> Result<Rc<Proc>, Raised> {
    let found = vm.arg(0).as_obj::<Userdata>().and_then(|u| u.downcast::<Rc<Proc>>(&vm.heap).cloned());
    found.ok_or_else(|| vm.throw_str(b"not a process instance"))
}

/// The process, and that the running code may wait.
fn proc_waiting(vm: &mut Vm) -> Result<Rc<Proc>, Raised> {
    let p = proc(vm)?;
    let w = here();
    let phase = w.phase();
    if phase == Phase::Init {
        return Err(raise(vm, "no request found"));
    }
    if !w.may_wait(phase) {
        return Err(super::disabled(vm, phase));
    }
    Ok(p)
}

/// `proc:pid()`.
fn pid(vm: &mut Vm, _: Entry) -> NativeResult {
    let p = proc(vm)?;
    Ok(Outcome::one(Value::num(f64::from(p.child.pid))))
}

/// `proc:set_timeouts(write?, stdout?, stderr?, wait?)` in milliseconds; nil leaves one as it is, 0 is for ever.
fn set_timeouts(vm: &mut Vm, _: Entry) -> NativeResult {
    let p = proc(vm)?;
    let mut all = p.timeouts.get();
    for (i, name) in TIMEOUTS.iter().enumerate() {
        let v = vm.arg(i + 1);
        if v.truthy() {
            all[i] = timeout(vm, v, name)?;
        }
    }
    p.timeouts.set(all);
    Ok(Outcome::none())
}

/// How much a read takes.
#[derive(Clone, Copy)]
enum Amount {
    All,
    Bytes(usize),
    Line,
    Any(usize),
}

/// A timer that is made when it is first needed; 0 never strikes.
struct Limit {
    ms: f64,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Limit {
    fn new(ms: f64) -> Limit {
        Limit { ms, timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ms < 1.0 {
            return Poll::Pending;
        }
        let ms = self.ms as u64;
        self.timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(ms))))
            .as_mut()
            .poll(cx)
    }
}

/// Data, or the error and what had been read.
type Read = Result<Vec<u8>, (String, Vec<u8>)>;

/// A read under way.
struct Reading {
    proc: Rc<Proc>,
    which: usize,
    amount: Amount,
    limit: Limit,
    over: bool,
}

impl Reading {
    /// What is there and complete.
    fn ready(&self) -> Option<Read> {
        let input = &self.proc.inputs[self.which];
        let mut data = input.data.borrow_mut();
        let take = |data: &mut Vec<u8>, n: usize| data.drain(..n).collect::<Vec<u8>>();
        match self.amount {
            Amount::Bytes(n) if data.len() >= n => return Some(Ok(take(&mut data, n))),
            Amount::Any(max) if !data.is_empty() => {
                let n = data.len().min(max);
                return Some(Ok(take(&mut data, n)));
            }
            Amount::Line => {
                if let Some(n) = memchr::memchr(b'\n', &data) {
                    let mut line = take(&mut data, n + 1);
                    line.pop();
                    line.retain(|b| *b != b'\r');
                    return Some(Ok(line));
                }
            }
            _ => {}
        }
        if !input.eof.get() {
            return None;
        }
        let rest = std::mem::take(&mut *data);
        Some(match self.amount {
            Amount::All => Ok(rest),
            _ => Err(("closed".to_owned(), rest)),
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        loop {
            if let Some(r) = self.ready() {
                return Poll::Ready(r);
            }
            let input = &self.proc.inputs[self.which];
            let pipe = if self.which == 1 { &self.proc.child.stderr } else { &self.proc.child.stdout };
            let mut pipe = pipe.borrow_mut();
            let Some(open) = &mut *pipe else {
                input.eof.set(true);
                continue;
            };
            let mut space = [0u8; READ_BYTES];
            let size = self.proc.buffer_size;
            let mut buf = ReadBuf::new(&mut space[..size]);
            match Pin::new(open).poll_read(cx, &mut buf) {
                Poll::Pending => break,
                Poll::Ready(Err(e)) => {
                    let rest = std::mem::take(&mut *input.data.borrow_mut());
                    return Poll::Ready(Err((words(&e), rest)));
                }
                Poll::Ready(Ok(())) if buf.filled().is_empty() => input.eof.set(true),
                Poll::Ready(Ok(())) => input.data.borrow_mut().extend_from_slice(buf.filled()),
            }
        }
        match self.limit.poll(cx) {
            Poll::Ready(()) => {
                let rest = std::mem::take(&mut *self.proc.inputs[self.which].data.borrow_mut());
                Poll::Ready(Err(("timeout".to_owned(), rest)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Future for Reading {
    type Output = Read;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Read> {
        let r = self.poll_read(cx);
        self.over = r.is_ready();
        r
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.over {
            let which = if self.which == 1 { "stderr" } else { "stdout" };
            self.proc.tell(|| format!("lua pipe proc read {which} cleanup"));
        }
        self.proc.inputs[self.which].busy.set(false);
    }
}

fn read(vm: &mut Vm, which: usize, amount: Amount) -> NativeResult {
    let p = proc_waiting(vm)?;
    here().debug(|| format!("lua pipe read {}", p.name()));
    if p.closed.get() {
        return fail(vm, "closed");
    }
    if which == 1 && p.merged {
        return fail(vm, "merged to stdout");
    }
    if p.inputs[which].busy.get() {
        return fail(vm, "pipe busy reading");
    }
    let shut = {
        let pipe = if which == 1 { &p.child.stderr } else { &p.child.stdout };
        pipe.borrow().is_none() && !p.inputs[which].eof.get()
    };
    if shut {
        return fail(vm, "closed");
    }
    p.inputs[which].busy.set(true);
    let ms = p.timeouts.get()[1 + which];
    let w = here();
    let name = p.name();
    let mut reading = Reading { proc: p, which, amount, limit: Limit::new(ms), over: false };
    if let Poll::Ready(r) = w.with_cx(|cx| reading.poll_read(cx)) {
        reading.over = true;
        let values = read_values(vm, r);
        return crate::lua::args::results(vm, &values);
    }
    if ms >= 1.0 {
        w.debug(|| format!("lua pipe add timer for reading: {ms}(ms) {name}"));
    }
    w.debug(|| format!("lua pipe read yielding {name}"));
    wait_for(vm, reading, read_values)
}

fn read_values(vm: &mut Vm, r: Read) -> Vec<Value> {
    match r {
        Ok(data) => vec![string(vm, data)],
        Err((text, rest)) => {
            let text = string(vm, text);
            vec![Value::NIL, text, string(vm, rest)]
        }
    }
}

fn read_bytes(vm: &mut Vm, which: usize) -> NativeResult {
    let n = vm.check_num(1)?;
    if n < 0.0 {
        return Err(raise(vm, "bad len argument"));
    }
    if n == 0.0 {
        return Ok(Outcome::one(string(vm, "")));
    }
    read(vm, which, Amount::Bytes(n as usize))
}

fn read_any(vm: &mut Vm, which: usize) -> NativeResult {
    match vm.to_number(vm.arg(1)) {
        Some(n) if n > 0.0 => read(vm, which, Amount::Any(n as usize)),
        _ => Err(raise(vm, "bad max argument")),
    }
}

/// `proc:stdout_read_all()`: everything up to its end. Like all reads: or nil, an error (`timeout`, `closed`,
/// `pipe busy reading`) and what had been read.
fn stdout_read_all(vm: &mut Vm, _: Entry) -> NativeResult {
    read(vm, 0, Amount::All)
}

/// `proc:stdout_read_bytes(n)`: exactly `n` bytes.
fn stdout_read_bytes(vm: &mut Vm, _: Entry) -> NativeResult {
    read_bytes(vm, 0)
}

/// `proc:stdout_read_line()`: a line without its end.
fn stdout_read_line(vm: &mut Vm, _: Entry) -> NativeResult {
    read(vm, 0, Amount::Line)
}

/// `proc:stdout_read_any(max)`: what is there, at least one byte.
fn stdout_read_any(vm: &mut Vm, _: Entry) -> NativeResult {
    read_any(vm, 0)
}

/// `proc:stderr_read_all()`; `merged to stdout` with `merge_stderr`.
fn stderr_read_all(vm: &mut Vm, _: Entry) -> NativeResult {
    read(vm, 1, Amount::All)
}

/// `proc:stderr_read_bytes(n)`.
fn stderr_read_bytes(vm: &mut Vm, _: Entry) -> NativeResult {
    read_bytes(vm, 1)
}

/// `proc:stderr_read_line()`.
fn stderr_read_line(vm: &mut Vm, _: Entry) -> NativeResult {
    read(vm, 1, Amount::Line)
}

/// `proc:stderr_read_any(max)`.
fn stderr_read_any(vm: &mut Vm, _: Entry) -> NativeResult {
    read_any(vm, 1)
}

/// A write under way.
struct Writing {
    proc: Rc<Proc>,
    data: Vec<u8>,
    done: usize,
    limit: Limit,
    over: bool,
}

impl Future for Writing {
    type Output = Result<usize, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let r = self.poll_write(cx);
        self.over = r.is_ready();
        r
    }
}

impl Writing {
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, String>> {
        let me = self;
        loop {
            if me.done == me.data.len() {
                return Poll::Ready(Ok(me.done));
            }
            let mut pipe = me.proc.child.stdin.borrow_mut();
            let Some(open) = &mut *pipe else { return Poll::Ready(Err("closed".to_owned())) };
            match Pin::new(open).poll_write(cx, &me.data[me.done..]) {
                Poll::Ready(Ok(n)) => me.done += n,
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => {
                    let address = std::ptr::from_ref(&*me.proc) as usize;
                    me.proc.tell(|| format!("lua pipe write data error pipe:{address:X} (32: Broken pipe)"));
                    return Poll::Ready(Err("closed".to_owned()));
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(words(&e))),
                Poll::Pending => break,
            }
        }
        me.limit.poll(cx).map(|()| Err("timeout".to_owned()))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.over {
            self.proc.tell(|| "lua pipe proc write cleanup".into());
        }
        self.proc.writing.set(false);
    }
}

/// `proc:write(data)`: a text, a number or an array of them; how many bytes, or nil and `timeout`, `closed`,
/// `pipe busy writing`.
fn write(vm: &mut Vm, _: Entry) -> NativeResult {
    let p = proc_waiting(vm)?;
    let v = vm.arg(1);
    let data = match (v.as_obj::<Table>(), v.type_name()) {
        (Some(t), _) => {
            let mut out = Vec::new();
            for (i, item) in array_values(vm, t).into_iter().enumerate() {
                let Some(text) = text_of(vm, item) else {
                    let kind = item.type_name();
                    let text = format!("invalid value ({kind}) at index {} in table for 'concat'", i + 1);
                    return Err(raise(vm, text));
                };
                out.extend_from_slice(&text);
            }
            out
        }
        (None, "string" | "number") => vm.raw_text(v),
        (None, other) => {
            let text = format!("bad data arg: string, number, or table expected, got {other}");
            return Err(raise(vm, text));
        }
    };
    here().debug(|| format!("lua pipe write {}", p.name()));
    if p.closed.get() || p.child.stdin.borrow().is_none() {
        return fail(vm, "closed");
    }
    if p.writing.get() {
        return fail(vm, "pipe busy writing");
    }
    p.writing.set(true);
    let ms = p.timeouts.get()[0];
    let w = here();
    let name = p.name();
    let mut writing = Box::pin(Writing { proc: p, data, done: 0, limit: Limit::new(ms), over: false });
    if let Poll::Ready(r) = w.with_cx(|cx| writing.as_mut().poll(cx)) {
        let values = write_values(vm, r);
        return crate::lua::args::results(vm, &values);
    }
    if ms >= 1.0 {
        w.debug(|| format!("lua pipe add timer for writing: {ms}(ms) {name}"));
    }
    w.debug(|| format!("lua pipe write yielding {name}"));
    wait_for(vm, writing, write_values)
}

fn write_values(vm: &mut Vm, r: Result<usize, String>) -> Vec<Value> {
    match r {
        Ok(n) => vec![Value::num(n as f64)],
        Err(text) => vec![Value::NIL, string(vm, text)],
    }
}

/// `proc:shutdown(direction)`: closes `stdin`, `stdout` or `stderr`. True, or nil and `closed`,
/// `merged to stdout`.
fn shutdown(vm: &mut Vm, _: Entry) -> NativeResult {
    let p = proc(vm)?;
    let direction = vm.raw_text(vm.arg(1));
    let known = matches!(&direction[..], b"stdin" | b"stdout" | b"stderr");
    if !known {
        let text = format!("bad shutdown arg: {}", String::from_utf8_lossy(&direction));
        return Err(raise(vm, text));
    }
    if p.closed.get() {
        return fail(vm, "closed");
    }
    match &direction[..] {
        b"stdin" => drop(p.child.stdin.take()),
        b"stdout" => drop(p.child.stdout.take()),
        _ if p.merged => return fail(vm, "merged to stdout"),
        _ => drop(p.child.stderr.take()),
    }
    Ok(Outcome::one(Value::TRUE))
}

/// Waiting for the end.
struct Ending {
    proc: Rc<Proc>,
    limit: Limit,
    over: bool,
}

impl Future for Ending {
    type Output = Option<Ended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        if let Poll::Ready(e) = self.proc.child.poll_ended(cx) {
            self.proc.closed.set(true);
            self.proc.child.close();
            self.over = true;
            return Poll::Ready(Some(e));
        }
        let r = self.limit.poll(cx).map(|()| None);
        self.over = r.is_ready();
        r
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.over {
            self.proc.tell(|| "lua pipe proc wait cleanup".into());
        }
        self.proc.waiting.set(false);
    }
}

/// `proc:wait()`: whether it ended with code 0, `exit` or `signal`, and which; or nil and `timeout`, `exited`,
/// `pipe busy waiting`. Afterwards its pipes are closed.
fn wait(vm: &mut Vm, _: Entry) -> NativeResult {
    let p = proc_waiting(vm)?;
    here().debug(|| format!("lua pipe wait {}", p.name()));
    if p.closed.get() {
        return fail(vm, "exited");
    }
    if p.waiting.get() {
        return fail(vm, "pipe busy waiting");
    }
    p.waiting.set(true);
    let ms = p.timeouts.get()[3];
    let w = here();
    if p.child.ended().is_none() {
        let name = p.name();
        if ms >= 1.0 {
            w.debug(|| format!("lua pipe add timer for waiting: {ms}(ms) {name}"));
        }
        w.debug(|| format!("lua pipe wait yielding {name}"));
    }
    wait_for(vm, Ending { proc: p, limit: Limit::new(ms), over: false }, |vm, ended| {
        let (ok, reason, n) = match ended {
            None => return vec![Value::NIL, string(vm, "timeout")],
            Some(Ended::Code(n)) => (n == 0, "exit", n),
            Some(Ended::Signal(n)) => (false, "signal", n),
            Some(Ended::Unknown) => (false, "unknown", 0),
        };
        vec![Value::bool(ok), string(vm, reason), Value::int(n)]
    })
}

/// `proc:kill(signal)`: true, or nil and `exited`, `invalid signal`, the system's words.
fn kill(vm: &mut Vm, _: Entry) -> NativeResult {
    let p = proc(vm)?;
    let Some(n) = vm.arg(1).as_num() else {
        let shown = String::from_utf8_lossy(&vm.raw_text(vm.arg(1))).into_owned();
        return Err(raise(vm, format!("bad signal arg: number expected, got {shown}")));
    };
    match p.child.kill(n as i32) {
        Ok(()) => Ok(Outcome::one(Value::TRUE)),
        Err(e) => match e.raw_os_error() {
            Some(libc::EINVAL) => fail(vm, "invalid signal"),
            Some(libc::ESRCH) => fail(vm, "exited"),
            _ => fail(vm, &words(&e)),
        },
    }
}
