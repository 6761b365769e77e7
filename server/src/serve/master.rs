//! The master: forks workers, replaces those that die, and turns signals into what nginx makes of them.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::FATAL_EXIT;
use super::listener;
use super::os::{self, Caught, Ended, Fork, HeldSignals, Signals};
use super::signal;
use super::start::{self, Cycle, Ready};
use super::worker::{self, Generation, NoOwner};
use crate::app::{App, AppFactory, WorkerInfo};
use crate::conf::Options;
use crate::conf::error::os_text;
use crate::conf::model::Level;

/// How long workers get to end after TERM before they are killed.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// A worker process.
#[derive(Clone, Copy, Debug)]
struct Worker {
    pid: u32,
    /// Its number, 0 to `count - 1`.
    id: u32,
    /// Which configuration it runs: how often there was a reload.
    generation: u64,
    /// The privileged agent.
    privileged: bool,
    /// Told to end.
    leaving: bool,
}

impl Worker {
    fn title(privileged: bool) -> &'static str {
        if privileged { "privileged agent process" } else { "worker process" }
    }
}

/// How the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Fast,
    Graceful,
}

/// The master process.
pub struct Master<'f, F: AppFactory> {
    cycle: Cycle<F::App>,
    factory: &'f F,
    options: Options,
    pid_file: PathBuf,
    workers: Vec<Worker>,
    generation: u64,
    ending: Option<Ending>,
    kill_at: Option<Instant>,
    /// WINCH: no workers until HUP.
    resting: bool,
    signals: Option<Signals>,
    /// The program that USR2 started, while it runs.
    new_binary: Option<u32>,
}

/// Where the pid of a program goes that has a successor.
fn old_pid_file(pid_file: &std::path::Path) -> PathBuf {
    let mut name = pid_file.as_os_str().to_owned();
    name.push(".oldbin");
    PathBuf::from(name)
}

impl<'f, F: AppFactory> Master<'f, F> {
    /// A master for a prepared configuration.
    pub fn new(cycle: Cycle<F::App>, factory: &'f F, options: Options, pid_file: PathBuf) -> Self {
        Master {
            cycle,
            factory,
            options,
            pid_file,
            workers: Vec::new(),
            generation: 0,
            ending: None,
            kill_at: None,
            resting: false,
            signals: None,
            new_binary: None,
        }
    }

    /// Runs to the end of the server. Returns the exit code; a worker never returns from here.
    pub fn run(mut self, ready: Ready) -> i32 {
        if let Err(error) = self.catch_signals() {
            self.cycle.log(Level::Emerg, &format!("sigaction() failed {}", os_text(&error)));
            return 1;
        }
        self.cycle.log(Level::Notice, "start worker processes");
        self.start_workers();
        ready.tell();
        loop {
            let limit = self.kill_at.map(|at| at.saturating_duration_since(Instant::now()));
            let caught = match &mut self.signals {
                Some(signals) => signals.wait(limit),
                None => None,
            };
            match caught {
                Some(caught) => self.on_signal(caught),
                None => self.on_timer(),
            }
            if self.ending.is_some() && self.workers.is_empty() {
                return self.end();
            }
        }
    }

    fn catch_signals(&mut self) -> std::io::Result<()> {
        let caught = [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGWINCH,
            libc::SIGALRM,
            libc::SIGIO,
            libc::SIGCHLD,
        ];
        self.signals = Some(Signals::install(&caught, &[libc::SIGPIPE, libc::SIGSYS], &[], true)?);
        Ok(())
    }

    fn end(&mut self) -> i32 {
        self.cycle.log(Level::Notice, "exit");
        self.cycle.logs.flush();
        if self.new_binary.is_some() {
            // The new program has the sockets and the pid file.
            let _ = std::fs::remove_file(old_pid_file(&self.pid_file));
        } else {
            let _ = std::fs::remove_file(&self.pid_file);
            self.cycle.bound.iter().for_each(listener::unlink);
        }
        0
    }

    fn on_timer(&mut self) {
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            self.signal_workers(libc::SIGKILL);
        }
    }

    fn on_signal(&mut self, caught: Caught) {
        let what = match caught.signal {
            libc::SIGTERM | libc::SIGINT => "exiting",
            libc::SIGQUIT => "shutting down",
            libc::SIGHUP => "reconfiguring",
            libc::SIGUSR1 => "reopening logs",
            libc::SIGUSR2 => "changing binary",
            _ => "",
        };
        self.cycle.log(Level::Notice, &signal::received(caught, what));
        match caught.signal {
            libc::SIGTERM | libc::SIGINT => {
                self.ending = Some(Ending::Fast);
                self.kill_at = Some(Instant::now() + KILL_AFTER);
                self.signal_workers(libc::SIGTERM);
            }
            libc::SIGQUIT if self.ending.is_none() => {
                self.ending = Some(Ending::Graceful);
                self.dismiss(|_| true);
            }
            libc::SIGHUP if self.ending.is_none() => self.reload(),
            libc::SIGUSR1 => self.reopen_logs(),
            libc::SIGUSR2 if self.ending.is_none() => self.change_binary(),
            libc::SIGWINCH if self.cycle.config.main.daemon && self.ending.is_none() => {
                self.resting = true;
                self.dismiss(|_| true);
            }
            libc::SIGCHLD => self.reap(),
            _ => {}
        }
    }

    fn reload(&mut self) {
        if self.resting {
            self.resting = false;
        }
        self.cycle.log(Level::Notice, "reconfiguring");
        let current = &self.cycle;
        let mut tell = |level: Level, message: &str| current.log(level, message);
        let Some(config) = start::load_again(&self.options, &mut tell) else { return };
        let Some(next) = start::prepare(config, self.factory, Some(current), &mut tell) else { return };
        start::retire(&self.cycle.bound, &next.bound);
        self.cycle = next;
        self.generation += 1;
        self.cycle.log(Level::Notice, "start worker processes");
        self.start_workers();
        let generation = self.generation;
        self.dismiss(|worker| worker.generation < generation);
    }

    /// Starts the program anew beside this one, with the same sockets. Both serve until one is told to end.
    fn change_binary(&mut self) {
        if let Some(pid) = self.new_binary {
            let message = format!("the changing binary signal is ignored: process {pid} runs already");
            self.cycle.log(Level::Crit, &message);
            return;
        }
        let old_file = old_pid_file(&self.pid_file);
        if let Err(error) = std::fs::rename(&self.pid_file, &old_file) {
            let (from, to) = (self.pid_file.display(), old_file.display());
            let message = format!(
                "rename() {from} to {to} failed {} before executing new binary process",
                os_text(&error)
            );
            self.cycle.log(Level::Alert, &message);
            return;
        }
        let started = listener::to_inherit(&self.cycle.bound).and_then(|(kept, text)| {
            let mut args = std::env::args_os();
            let program = args.next().unwrap_or_default();
            let child =
                std::process::Command::new(program).args(args).env(listener::INHERITED, text).spawn()?;
            drop(kept);
            Ok(child.id())
        });
        match started {
            Ok(pid) => {
                self.new_binary = Some(pid);
                self.cycle.log(Level::Notice, &format!("start new binary process {pid}"));
            }
            Err(error) => {
                self.cycle.log(Level::Alert, &format!("execve() failed {}", os_text(&error)));
                let _ = std::fs::rename(&old_file, &self.pid_file);
            }
        }
    }

    /// The new program has ended: this one is the server again.
    fn keep_binary(&mut self) {
        self.new_binary = None;
        let old_file = old_pid_file(&self.pid_file);
        if let Err(error) = std::fs::rename(&old_file, &self.pid_file) {
            let (from, to) = (old_file.display(), self.pid_file.display());
            self.cycle.log(Level::Alert, &format!("rename() {from} back to {to} failed {}", os_text(&error)));
        }
        if self.resting && self.ending.is_none() {
            self.resting = false;
            self.start_workers();
        }
    }

    fn reopen_logs(&mut self) {
        for error in self.cycle.logs.reopen() {
            self.cycle.log(Level::Emerg, &error);
        }
        // Workers open the same files with the rights they have.
        if let Some(account) = &self.cycle.account {
            for path in self.cycle.logs.paths() {
                let _ = std::os::unix::fs::chown(path, Some(account.uid), None);
            }
        }
        self.signal_workers(libc::SIGUSR1);
    }

    fn signal_workers(&mut self, signal: i32) {
        for worker in &mut self.workers {
            worker.leaving |= signal != libc::SIGUSR1;
            // A worker that has just ended is found by the next SIGCHLD.
            let _ = os::kill(worker.pid, signal);
        }
    }

    /// Asks some workers to finish what they do and end.
    fn dismiss(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter_mut().filter(|worker| which(worker) && !worker.leaving) {
            worker.leaving = true;
            let _ = os::kill(worker.pid, libc::SIGQUIT);
        }
    }

    fn start_workers(&mut self) {
        let count = self.cycle.worker_count();
        for id in 0..count {
            self.start_worker(id, false);
        }
        if self.cycle.app.wants_privileged_agent() {
            self.start_worker(count, true);
        }
    }

    fn reap(&mut self) {
        while let Some((pid, ended)) = os::reap() {
            if self.new_binary == Some(pid) {
                self.cycle.log(Level::Notice, &format!("new binary process {pid} exited"));
                self.keep_binary();
                continue;
            }
            let Some(at) = self.workers.iter().position(|worker| worker.pid == pid) else {
                self.cycle.log(Level::Notice, &format!("unknown process {pid} exited"));
                continue;
            };
            let worker = self.workers.swap_remove(at);
            let (level, how) = match ended {
                Ended::Code(code) => (Level::Notice, format!("exited with code {code}")),
                Ended::Signal(signal, false) => (Level::Alert, format!("exited on signal {signal}")),
                Ended::Signal(signal, true) => {
                    (Level::Alert, format!("exited on signal {signal} (core dumped)"))
                }
            };
            let title = Worker::title(worker.privileged);
            self.cycle.log(level, &format!("{title} {pid} {how}"));
            if ended == Ended::Code(FATAL_EXIT) && !worker.leaving {
                let message =
                    format!("{title} {pid} exited with fatal code {FATAL_EXIT} and cannot be respawned");
                self.cycle.log(Level::Alert, &message);
                continue;
            }
            let current = worker.generation == self.generation && !worker.leaving;
            if current && self.ending.is_none() && !self.resting {
                self.start_worker(worker.id, worker.privileged);
            }
        }
    }

    fn start_worker(&mut self, id: u32, privileged: bool) {
        let count = self.cycle.worker_count();
        let master_pid = std::process::id();
        let held = os::hold_signals();
        // SAFETY: nothing in the master starts a thread: it has no runtime, and `App::prepare` promises none.
        match unsafe { os::fork() } {
            Ok(Fork::Parent(pid)) => {
                held.restore();
                let generation = self.generation;
                self.workers.push(Worker { pid, id, generation, privileged, leaving: false });
                let title = Worker::title(privileged);
                self.cycle.log(Level::Notice, &format!("start {title} {pid}"));
            }
            Ok(Fork::Child) => {
                let info = WorkerInfo { id, count, privileged, has_master: true, master_pid };
                let code = self.be_worker(info, held);
                std::process::exit(code);
            }
            Err(error) => {
                held.restore();
                let message = format!(
                    "fork() failed while spawning \"{}\" {}",
                    Worker::title(privileged),
                    os_text(&error)
                );
                self.cycle.log(Level::Alert, &message);
            }
        }
    }

    /// The life of a worker, in its own process.
    fn be_worker(&mut self, info: WorkerInfo, held: HeldSignals) -> i32 {
        start::note_process();
        self.signals = None;
        self.workers.clear();
        let signals = match start::worker_signals(&self.cycle.config, true) {
            Ok(signals) => signals,
            Err(error) => {
                self.cycle.log(Level::Alert, &format!("sigaction() failed {}", os_text(&error)));
                return FATAL_EXIT;
            }
        };
        held.restore();
        if let Err((level, message)) = start::enter_worker(&self.cycle, !info.privileged) {
            self.cycle.log(level, &message);
            return FATAL_EXIT;
        }
        let cycle = &mut self.cycle;
        if info.privileged {
            cycle.bound.clear();
        }
        let generation = Generation::new(
            cycle.config.clone(),
            cycle.logs.clone(),
            Rc::clone(&cycle.app),
            &cycle.bound,
            info.id,
        );
        // The listeners of this worker are its own names of the sockets: with the master's copies open
        // a stopped worker would still count as listening.
        cycle.bound.clear();
        match generation {
            Ok(generation) => worker::run(generation, info, signals, &mut NoOwner, || {}),
            Err(error) => {
                cycle.log(Level::Alert, &format!("dup() failed {}", os_text(&error)));
                FATAL_EXIT
            }
        }
    }
}
