//! The compilation thread: one per VM that got hot. It takes self-contained traces and gives back bytes;
//! it never reads or writes anything of the VM. The VM's thread installs what comes back.
//!
//! The thread starts at the first job. A child of a fork does not have it: the engine notices (see
//! `code::arena::forks`) and starts another one.

use crate::abort::Abort;
use crate::code::arena;
use crate::code::link::StubCode;
use crate::lower::{Compiler, Env};
use crate::trace::Trace;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A trace to compile.
#[derive(Debug)]
pub struct Job {
    /// The trace; opaque addresses inside are kept alive by the VM's side.
    pub trace: Trace,
    /// Addresses and numbers.
    pub env: Env,
    /// Its number, unlike any other's.
    pub ticket: u64,
}

/// What comes back.
#[derive(Debug)]
pub struct Done {
    /// Trace number of the job.
    pub trace_no: u32,
    /// The job's number: the result for a trace that is gone is dropped.
    pub ticket: u64,
    /// Machine code.
    pub code: Result<Vec<u8>, Abort>,
    /// Shared stubs, with the first result.
    pub stubs: Option<StubCode>,
    /// Time the code generator took, microseconds.
    pub compile_us: u32,
}

/// A gate that tests close to delay compilation while they change the world.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Holds back (or lets go) compilation.
    pub fn set(&self, closed: bool) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut g = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *g {
            g = self.0.1.wait(g).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Where jobs go: a thread, or a compiler used in place.
#[derive(Debug)]
pub enum Worker {
    /// `-Ojitsync`: compiles in place.
    Sync(Box<Compiler>, Vec<Done>),
    /// The compilation thread.
    Thread {
        /// To the thread.
        jobs: mpsc::Sender<Job>,
        /// From the thread.
        done: mpsc::Receiver<Done>,
        /// Results not yet taken.
        ready: Arc<AtomicU32>,
        /// Jobs without a result taken.
        open: u32,
    },
}

fn verify_input() -> bool {
    cfg!(debug_assertions)
}

fn run(c: &mut Compiler, job: Job, first: &mut bool) -> Done {
    let stubs = if std::mem::take(first) { c.stubs().ok() } else { None };
    let start = std::time::Instant::now();
    let code = c.compile(&job.trace, &job.env);
    let compile_us = start.elapsed().as_micros().min(u32::MAX as u128) as u32;
    Done { trace_no: job.env.trace_no, ticket: job.ticket, code, stubs, compile_us }
}

impl Worker {
    /// Starts a worker. `sync` compiles in place.
    pub fn start(sync: bool, gate: &Gate) -> Result<Worker, Abort> {
        arena::watch_forks();
        if sync {
            return Ok(Worker::Sync(Box::new(Compiler::new(verify_input())?), Vec::new()));
        }
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (outbox, done) = mpsc::channel();
        let ready = Arc::new(AtomicU32::new(0));
        let (r, gate) = (ready.clone(), gate.clone());
        std::thread::Builder::new()
            .name("moonlit-jit".into())
            .spawn(move || {
                let Ok(mut c) = Compiler::new(verify_input()) else { return };
                let mut first = true;
                for job in inbox {
                    gate.pass();
                    if outbox.send(run(&mut c, job, &mut first)).is_err() {
                        return;
                    }
                    r.fetch_add(1, Ordering::Release);
                }
            })
            .map_err(|_| Abort::CodeGeneration)?;
        Ok(Worker::Thread { jobs, done, ready, open: 0 })
    }

    /// Hands over a job.
    pub fn submit(&mut self, job: Job) -> Result<(), Abort> {
        match self {
            Worker::Sync(c, out) => {
                let mut first = true;
                let d = run(c, job, &mut first);
                out.push(d);
                Ok(())
            }
            Worker::Thread { jobs, open, .. } => {
                jobs.send(job).map_err(|_| Abort::CodeGeneration)?;
                *open += 1;
                Ok(())
            }
        }
    }

    /// Jobs without a result taken.
    pub fn open(&self) -> u32 {
        match self {
            Worker::Sync(_, out) => out.len() as u32,
            Worker::Thread { open, .. } => *open,
        }
    }

    /// Takes a finished result, if there is one. Never waits.
    pub fn poll(&mut self) -> Option<Done> {
        match self {
            Worker::Sync(_, out) => out.pop(),
            Worker::Thread { done, ready, open, .. } => {
                if ready.load(Ordering::Acquire) == 0 {
                    return None;
                }
                let d = done.try_recv().ok()?;
                ready.fetch_sub(1, Ordering::AcqRel);
                *open -= 1;
                Some(d)
            }
        }
    }

    /// Waits for the next result; there is none without a job.
    pub fn wait(&mut self) -> Option<Done> {
        match self {
            Worker::Sync(_, out) => out.pop(),
            Worker::Thread { done, ready, open, .. } => {
                if *open == 0 {
                    return None;
                }
                let d = done.recv().ok()?;
                *open -= 1;
                // The count may come a moment later than the result.
                while ready.load(Ordering::Acquire) == 0 {
                    std::thread::yield_now();
                }
                ready.fetch_sub(1, Ordering::AcqRel);
                Some(d)
            }
        }
    }
}
