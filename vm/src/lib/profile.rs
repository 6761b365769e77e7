//! `jit.profile`: samples of what runs, taken by a thread that looks at the processor time the VM's thread has used.
//! The module `jit.p` is built on it, in Lua.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{set_field, set_preload, sys};
use crate::cell::gc_ref::Gc;
use crate::state::Vm;
use crate::state::frames::FrameRef;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome};
use crate::state::profile::Grain;
use crate::thread::Thread;
use crate::value::Value;

/// Functions of `jit.profile`.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("jit.profile.dumpstack", dumpstack),
    NativeRow::new("jit.profile.start", start),
    NativeRow::new("jit.profile.stop", stop),
];

/// Milliseconds between samples, if nothing else is asked for.
const INTERVAL_MS: u64 = 10;
/// Longest interval, milliseconds.
const INTERVAL_MS_MAX: u64 = 1_000_000;
/// Where the callback is kept in the registry.
const CALLBACK: &str = "_PROFILE";
/// Longest text of a stack, bytes.
const DUMP_MAX: usize = 1 << 20;

/// Makes the module known to `require`.
pub fn open(vm: &mut Vm) {
    set_preload(vm, "jit.profile", NativeRow::new("jit.profile", load));
}

fn load(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.heap.new_table(0, 4);
    vm.register(t, FNS);
    Ok(Outcome::one(Value::obj(t)))
}

/// The thread that gives the ticks. It ends when this goes.
struct Ticker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(vm: &mut Vm, interval_ms: u64) -> std::io::Result<Ticker> {
        let handle = vm.interrupt_handle();
        let sampler = vm.set_sampler(Some(sample));
        let clock = sys::ThreadClock::of_this_thread();
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let seen = stop.clone();
        let thread = std::thread::Builder::new().name("profiler".into()).spawn(move || {
            let interval_ns = interval_ms * 1_000_000;
            let mut last = clock.nanoseconds();
            let (lock, wake) = &*seen;
            let mut over = lock.lock().unwrap_or_else(PoisonError::into_inner);
            while !*over {
                let wait = Duration::from_millis(interval_ms);
                over = wake.wait_timeout(over, wait).unwrap_or_else(PoisonError::into_inner).0;
                // A thread that waits is not sampled.
                let ticks = clock.nanoseconds().saturating_sub(last) / interval_ns;
                if ticks > 0 && !*over {
                    last += ticks * interval_ns;
                    handle.tick(ticks.min(1 << 20) as u32, sampler);
                }
            }
        });
        match thread {
            Ok(t) => Ok(Ticker { stop, thread: Some(t) }),
            Err(e) => {
                vm.set_sampler(None);
                Err(e)
            }
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(t) = self.thread.take() {
            // It runs no code that panics.
            let _ = t.join();
        }
    }
}

/// `profile.start(mode, callback)`: from now on `callback(thread, samples, vmstate)` is called about every ten
/// milliseconds of processor time, or `n` of them with `i<n>` in the mode. The interpreter takes samples between two
/// instructions; compiled code lets one in once a round, with `f` also where another function goes on, with `l` where
/// another line does.
fn start(vm: &mut Vm, _: Entry) -> NativeResult {
    let mode = match vm.opt_str(0)? {
        Some(s) => s.bytes(&vm.heap).to_vec(),
        None => Vec::new(),
    };
    let f = vm.check_func(1)?;
    let mut interval = INTERVAL_MS;
    let mut grain = Grain::Trace;
    let mut rest = &mode[..];
    while let Some((&c, tail)) = rest.split_first() {
        rest = tail;
        match c {
            b'f' => grain = Grain::Function,
            b'l' => grain = Grain::Line,
            _ => {}
        }
        if c == b'i' {
            let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
            let n = rest[..digits]
                .iter()
                .fold(0u64, |n, c| n.saturating_mul(10).saturating_add((c - b'0') as u64));
            interval = n.clamp(1, INTERVAL_MS_MAX);
            rest = &rest[digits..];
        }
    }
    // One profiler at a time: the new one takes the old one's place.
    end(vm);
    let registry = vm.registry;
    set_field(vm, registry, CALLBACK, Value::obj(f));
    match Ticker::start(vm, interval) {
        Ok(t) => {
            vm.app.set(t);
            set_grain(vm, grain);
            Ok(Outcome::none())
        }
        Err(e) => Err(vm.throw_str(format!("cannot start the profiler: {e}").as_bytes())),
    }
}

/// `profile.stop()`.
fn stop(vm: &mut Vm, _: Entry) -> NativeResult {
    end(vm);
    Ok(Outcome::none())
}

fn end(vm: &mut Vm) {
    drop(vm.app.take::<Ticker>());
    vm.set_sampler(None);
    set_grain(vm, Grain::Trace);
    let registry = vm.registry;
    set_field(vm, registry, CALLBACK, Value::NIL);
}

/// What was compiled for another grain is compiled again.
fn set_grain(vm: &mut Vm, grain: Grain) {
    if std::mem::replace(&mut vm.profile.grain, grain) == grain {
        return;
    }
    if let Some(mut jit) = vm.jit.take() {
        jit.flush(vm);
        vm.jit = Some(jit);
    }
}

/// Calls the callback. Nobody could catch its error: that is reported, and ends the profiler.
fn sample(vm: &mut Vm, at: Gc<Thread>, ticks: u32, state: u8) {
    let f = vm.registry.get_bytes(&vm.heap, CALLBACK.as_bytes());
    let state = Value::obj(vm.heap.str(&[state]));
    if vm.call(f, &[Value::obj(at), Value::num(ticks as f64), state]).is_err() {
        let e = vm.take_error();
        let text = [b"ERROR in profiler callback: ", &vm.raw_text(e)[..], b"\n"].concat();
        let _ = std::io::Write::write_all(&mut std::io::stderr(), &text);
        end(vm);
    }
}

/// `profile.dumpstack([thread,] format, depth)`: the innermost `depth` frames as text, the outermost of them first if
/// `depth` is negative. `f` in the format is a function's name, `F` with its file, `l` file and line; `p` makes those
/// whole paths; `Z` stands before what separates frames.
fn dumpstack(vm: &mut Vm, _: Entry) -> NativeResult {
    let (th, first) = match vm.arg(0).as_obj::<Thread>() {
        Some(t) => (t, 1),
        None => (vm.cur, 0),
    };
    let format = vm.check_str(first)?;
    // A C string there: it ends at a zero.
    let format = format.bytes(&vm.heap).split(|c| *c == 0).next().unwrap_or_default().to_vec();
    let depth = vm.check_int(first + 1)?;
    let wanted = depth.unsigned_abs() as usize;
    let mut frames = Vec::new();
    let mut at = vm.innermost(th);
    while let Some(f) = at.filter(|_| frames.len() < wanted) {
        frames.push(f);
        at = vm.caller(f);
    }
    if depth < 0 {
        frames.reverse();
    }
    let (mut out, mut zap) = (Vec::new(), None);
    let mut paths = false;
    for f in frames {
        for &c in &format {
            match c {
                b'p' => paths = true,
                b'f' | b'F' => put_name(vm, &mut out, f, c == b'F', paths),
                b'l' => put_place(vm, &mut out, f, true, paths),
                b'Z' => zap = Some(out.len()),
                c => out.push(c),
            }
        }
        if out.len() > DUMP_MAX {
            return Err(vm.throw_str(b"too deep to dump"));
        }
    }
    if let Some(end) = zap.filter(|&n| n > 0) {
        out.truncate(end);
    }
    Ok(Outcome::one(Value::obj(vm.heap.str(&out))))
}

/// The name a function was called by, or where it begins if it was called by none.
fn put_name(vm: &Vm, out: &mut Vec<u8>, f: FrameRef, with_file: bool, paths: bool) {
    let Some((_, name)) = vm.frame_name(f) else { return put_place(vm, out, f, false, paths) };
    if with_file && let Some(p) = vm.frame_proto(f) {
        put_file(out, p.get(&vm.heap).chunkname.bytes(&vm.heap), paths);
        out.push(b':');
    }
    out.extend_from_slice(&name);
}

/// File and line: the current one, or the first of the function.
fn put_place(vm: &Vm, out: &mut Vec<u8>, f: FrameRef, current: bool, paths: bool) {
    let Some(p) = vm.frame_proto(f) else {
        let text = match vm.frame_func(f).and_then(|f| vm.native_row(f)) {
            Some((_, row)) if row.lua_params().is_some() => format!("[builtin:{}]:0", row.field()),
            Some((id, row)) if row.is_builtin() => format!("[builtin#{}]", id.get()),
            _ => format!("@0x{:x}", vm.frame_func(f).map_or(0, |f| f.addr())),
        };
        return out.extend_from_slice(text.as_bytes());
    };
    let p = p.get(&vm.heap);
    put_file(out, p.chunkname.bytes(&vm.heap), paths);
    let line = if current { vm.frame_line(f) } else { None };
    out.extend_from_slice(format!(":{}", line.unwrap_or(p.firstline)).as_bytes());
}

fn put_file(out: &mut Vec<u8>, chunkname: &[u8], paths: bool) {
    match chunkname {
        [b'=' | b'@', name @ ..] => {
            let last = if paths {
                0
            } else {
                name.iter().rposition(|c| matches!(c, b'/' | b'\\')).map_or(0, |i| i + 1)
            };
            out.extend_from_slice(&name[last..]);
        }
        _ => out.extend_from_slice(b"[string]"),
    }
}
