//! From a loaded configuration to a running server: logs, sockets, application, daemon, pid file.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::FATAL_EXIT;
use super::listener::{self, Bound};
use super::master::Master;
use super::os::{self, Account, Fork, Limit, Signals};
use super::worker::{self, Generation, Owner};
use crate::app::{App, AppFactory, WorkerInfo};
use crate::conf::directive::full_path;
use crate::conf::error::os_text;
use crate::conf::model::{Config, Level, Location, RewriteOp};
use crate::conf::settings::WorkerCount;
use crate::conf::{self, Options};
use crate::log::{self, Logs};

/// The version that this server's nginx side is written for.
pub const NGINX_VERSION: &str = "1.31.3";
/// How it introduces itself to tools that look for OpenResty.
pub const SERVER_NAME: &str = "openresty/1.31.3.1";

/// Everything that belongs to one configuration in the master.
pub struct Cycle<A: App> {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its log files.
    pub logs: Arc<Logs>,
    /// Its application.
    pub app: Rc<A>,
    /// Its sockets.
    pub bound: Vec<Bound>,
    /// The account of its workers; `None` when they keep the master's.
    pub account: Option<Account>,
}

impl<A: App> Cycle<A> {
    /// Writes to the error log.
    pub fn log(&self, level: Level, message: &str) {
        self.logs.error(&self.config.error_logs, level, None, message.as_bytes());
    }

    /// How many workers it asks for.
    pub fn worker_count(&self) -> u32 {
        worker_count(&self.config)
    }
}

/// How many workers a configuration asks for.
pub fn worker_count(config: &Config) -> u32 {
    if !config.main.master_process {
        return 1;
    }
    match config.main.worker_processes {
        WorkerCount::Fixed(count) => count,
        WorkerCount::Auto => std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
    }
}

/// Tells the log which process this is. To be called at start and after each fork.
pub fn note_process() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    log::set_process(std::process::id(), os::zone_offset(i64::try_from(now).unwrap_or(0)));
}

/// The account of the workers. The error is nginx's line.
pub fn account_of(config: &Config) -> Result<Option<Account>, String> {
    if !os::is_superuser() {
        return Ok(None);
    }
    match &config.main.user {
        Some(user) => os::account(&user.user, &user.group)
            .map(Some)
            .map_err(|call| format!("{call} in {}:{}", user.place.file.display(), user.place.line)),
        // The customary default, where the system has it.
        None => Ok(os::account("nobody", "nobody").or_else(|_| os::account("nobody", "nogroup")).ok()),
    }
}

/// Makes what a loaded configuration needs: logs, folders, sockets, application. Failures go to
/// `tell` in nginx's words.
pub fn prepare<F: AppFactory>(
    config: Config,
    factory: &F,
    old: Option<&Cycle<F::App>>,
    tell: &mut dyn FnMut(Level, &str),
) -> Option<Cycle<F::App>> {
    // The first configuration of a process that takes over from another has that one's sockets.
    let inherited = if old.is_none() { listener::inherited() } else { Vec::new() };
    let account = match account_of(&config) {
        Ok(account) => account,
        Err(message) => {
            tell(Level::Emerg, &message);
            return None;
        }
    };
    let config = Arc::new(config);
    let logs = match Logs::open(&config) {
        Ok(logs) => Arc::new(logs),
        Err(message) => {
            tell(Level::Emerg, &message);
            return None;
        }
    };
    if let Err(message) = make_folders(&config, account.as_ref()) {
        tell(Level::Emerg, &message);
        return None;
    }
    let old_bound = old.map_or(&inherited[..], |old| &old.bound);
    let bound = listener::open(&config, worker_count(&config), old_bound, tell)?;
    retire(&inherited, &bound);
    let app = match factory.prepare(&config, &logs, old.map(|old| &*old.app)) {
        Ok(app) => Rc::new(app),
        Err(message) => {
            tell(Level::Error, &message);
            return None;
        }
    };
    Some(Cycle { config, logs, app, bound, account })
}

/// Makes the folders for large bodies.
fn make_folders(config: &Config, account: Option<&Account>) -> Result<(), String> {
    let mut folders: Vec<&[u8]> = Vec::new();
    if let Some(http) = &config.http {
        each_level(&http.level, &mut folders);
        for server in &http.servers {
            each_level(&server.level, &mut folders);
            server.locations.iter().chain(server.named.values()).for_each(|location| {
                each_level(location, &mut folders);
            });
        }
    }
    for folder in folders {
        let path = full_path(&config.prefix, folder);
        match std::fs::create_dir(&path) {
            Ok(()) => {
                if let Some(account) = account {
                    let _ = std::os::unix::fs::chown(&path, Some(account.uid), None);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("mkdir() \"{}\" failed {}", path.display(), os_text(&error))),
        }
    }
    Ok(())
}

fn each_level<'c>(level: &'c Location, folders: &mut Vec<&'c [u8]>) {
    for temp in [&level.client_body_temp_path, &level.proxy.proxy_temp_path] {
        if !folders.contains(&&*temp.folder) {
            folders.push(&temp.folder);
        }
    }
    for op in level.rewrite.iter() {
        if let RewriteOp::If { level, .. } = op {
            each_level(level, folders);
        }
    }
    level.locations.iter().for_each(|inner| each_level(inner, folders));
}

/// Starts the server and runs it to its end. Returns the exit code of this process.
pub fn run<F: AppFactory>(
    cycle: Cycle<F::App>,
    factory: &F,
    options: &Options,
    tell: &mut dyn FnMut(Level, &str),
) -> i32 {
    let mut ready = Ready::none();
    let takes_over = std::env::var_os(listener::INHERITED).is_some();
    if takes_over {
        cycle.log(Level::Notice, "using inherited sockets from the binary before");
        // SAFETY: this process has one thread: no runtime exists before `worker::run`.
        unsafe { os::forget_variable(listener::INHERITED) };
    }
    if cycle.config.main.daemon && !takes_over {
        match daemonize() {
            Ok(Daemon::Parent(code)) => return code,
            Ok(Daemon::Child(signal)) => ready = signal,
            Err(error) => {
                tell(Level::Emerg, &format!("fork() failed {}", os_text(&error)));
                return 1;
            }
        }
    }
    note_process();
    cycle.log(Level::Notice, "using the \"epoll\" event method");
    cycle.log(Level::Notice, &format!("{SERVER_NAME} (nginx/{NGINX_VERSION} as Moonlit)"));
    cycle.log(Level::Notice, &format!("OS: {}", os::kernel()));
    let (soft, hard) = os::limits(Limit::Files);
    cycle.log(Level::Notice, &format!("getrlimit(RLIMIT_NOFILE): {soft}:{hard}"));
    let pid_file = full_path(&cycle.config.prefix, &cycle.config.main.pid);
    if let Err(message) = write_pid(&pid_file) {
        tell(Level::Emerg, &message);
        return 1;
    }
    redirect_stderr(&cycle);
    if cycle.config.main.master_process {
        Master::new(cycle, factory, options.clone(), pid_file).run(ready)
    } else {
        single(cycle, factory, options, pid_file, ready)
    }
}

/// What libraries print goes into the error log, unless that is standard error itself. A daemon whose logs are all
/// elsewhere keeps nothing of its caller's.
fn redirect_stderr<A: App>(cycle: &Cycle<A>) {
    let logs = cycle.config.error_logs.iter().map(|log| &cycle.config.log_files[log.file.0]);
    let nowhere = Path::new("/dev/null");
    let mut path = None;
    for log in logs {
        match (&log.syslog, log.path.as_os_str().is_empty()) {
            (None, true) => return,
            (None, false) => path = path.or(Some(&*log.path)),
            (Some(_), _) => {}
        }
    }
    let Some(path) = path.or(cycle.config.main.daemon.then_some(nowhere)) else { return };
    if let Ok(file) = std::fs::OpenOptions::new().append(true).create(true).open(path) {
        let _ = os::redirect_stderr(&file);
    }
}

/// Writes the pid file. The error is nginx's line.
pub fn write_pid(path: &Path) -> Result<(), String> {
    std::fs::write(path, format!("{}\n", std::process::id()))
        .map_err(|error| format!("open() \"{}\" failed {}", path.display(), os_text(&error)))
}

/// Tells the process that started the daemon that all is well.
pub struct Ready(Option<UnixStream>);

impl Ready {
    /// Nobody waits.
    pub fn none() -> Ready {
        Ready(None)
    }

    /// The server runs: whoever waits may go.
    pub fn tell(self) {
        if let Some(mut stream) = self.0 {
            let _ = stream.write_all(b"1");
        }
    }
}

enum Daemon {
    /// The process that was started; it exits with this code.
    Parent(i32),
    /// The daemon.
    Child(Ready),
}

fn daemonize() -> io::Result<Daemon> {
    let (mut waiting, telling) = UnixStream::pair()?;
    // SAFETY: nothing in the master starts a thread (no runtime, no compiler) before the last fork.
    match unsafe { os::fork()? } {
        Fork::Parent(_) => {
            drop(telling);
            let mut byte = [0];
            // The end of the stream without a byte: the daemon died on its way.
            let told = waiting.read(&mut byte).unwrap_or(0) == 1;
            Ok(Daemon::Parent(i32::from(!told)))
        }
        Fork::Child => {
            drop(waiting);
            os::detach()?;
            Ok(Daemon::Child(Ready(Some(telling))))
        }
    }
}

/// What a process that is going to serve does first: environment, limits, account, folder. The
/// error is a line for the log at this level; the process must end with `FATAL_EXIT`.
pub fn enter_worker<A: App>(cycle: &Cycle<A>, change_account: bool) -> Result<(), (Level, String)> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let main = &cycle.config.main;
    let mut kept: Vec<(OsString, Option<OsString>)> = vec![("TZ".into(), None)];
    kept.extend(
        cycle
            .config
            .env
            .iter()
            .map(|(name, value)| (OsString::from_vec(name.clone()), value.clone().map(OsString::from_vec))),
    );
    // What the strictness of phases and diagnostics look at is ours.
    kept.extend(
        std::env::vars_os()
            .filter(|(name, _)| name.to_string_lossy().starts_with("MOONLIT_") || name == "RUST_BACKTRACE")
            .map(|(name, _)| (name, None)),
    );
    // SAFETY: this process has one thread: no runtime exists before `worker::run`.
    unsafe { os::set_environment(&kept) };
    for (limit, value, name) in [
        (Limit::Files, main.worker_rlimit_nofile, "RLIMIT_NOFILE"),
        (Limit::Core, main.worker_rlimit_core, "RLIMIT_CORE"),
    ] {
        if let Some(value) = value
            && let Err(error) = os::set_limit(limit, value)
        {
            let message = format!("setrlimit({name}, {value}) failed {}", os_text(&error));
            cycle.log(Level::Alert, &message);
        }
    }
    if change_account && let Some(account) = &cycle.account {
        os::become_account(account).map_err(|(call, error)| {
            let number = if call == "setuid" { account.uid } else { account.gid };
            (Level::Emerg, format!("{call}({number}) failed {}", os_text(&error)))
        })?;
    }
    if let Some(folder) = &main.working_directory {
        let path = full_path(&cycle.config.prefix, folder);
        std::env::set_current_dir(&path).map_err(|error| {
            (Level::Alert, format!("chdir(\"{}\") failed {}", path.display(), os_text(&error)))
        })?;
    }
    Ok(())
}

/// The signals of a process that serves. SIGALRM and SIGIO, which would end it, are caught for the log's sake;
/// system calls go on after any of them unless the configuration says `lua_sa_restart off`.
pub fn worker_signals(config: &Config, has_master: bool) -> io::Result<Signals> {
    let restart = config.http.as_ref().is_none_or(|http| http.lua.settings.lua_sa_restart);
    let mut caught = vec![libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGWINCH];
    caught.extend([libc::SIGALRM, libc::SIGIO]);
    let mut ignored = vec![libc::SIGPIPE, libc::SIGSYS, libc::SIGUSR2];
    if has_master {
        ignored.push(libc::SIGHUP);
    } else {
        caught.push(libc::SIGHUP);
    }
    Signals::install(&caught, &ignored, &[libc::SIGCHLD], restart)
}

/// Without a master: this process reloads by itself.
struct Alone<'f, F: AppFactory> {
    factory: &'f F,
    options: &'f Options,
    bound: Vec<Bound>,
}

fn single<F: AppFactory>(
    mut cycle: Cycle<F::App>,
    factory: &F,
    options: &Options,
    pid_file: PathBuf,
    ready: Ready,
) -> i32 {
    let prepared = enter_worker(&cycle, false).and_then(|()| {
        worker_signals(&cycle.config, false)
            .map_err(|error| (Level::Alert, format!("sigaction() failed {}", os_text(&error))))
    });
    let signals = match prepared {
        Ok(signals) => signals,
        Err((level, message)) => {
            cycle.log(level, &message);
            return FATAL_EXIT;
        }
    };
    let bound = std::mem::take(&mut cycle.bound);
    let info =
        WorkerInfo { id: 0, count: 1, privileged: false, has_master: false, master_pid: std::process::id() };
    let generation = Generation::new(cycle.config, cycle.logs, cycle.app, &bound, 0);
    let mut owner = Alone { factory, options, bound };
    let code = match generation {
        Ok(generation) => worker::run(generation, info, signals, &mut owner, || ready.tell()),
        Err(_) => FATAL_EXIT,
    };
    owner.bound.iter().for_each(listener::unlink);
    let _ = std::fs::remove_file(pid_file);
    code
}

impl<F: AppFactory> Owner<F::App> for Alone<'_, F> {
    fn reload(&mut self, current: &Generation<F::App>) -> Option<Generation<F::App>> {
        let mut tell = |level: Level, message: &str| {
            current.logs.error(&current.config.error_logs, level, None, message.as_bytes());
        };
        let config = load_again(self.options, &mut tell)?;
        let old = Cycle {
            config: current.config.clone(),
            logs: current.logs.clone(),
            app: current.app.clone(),
            bound: std::mem::take(&mut self.bound),
            account: None,
        };
        let cycle = prepare(config, self.factory, Some(&old), &mut tell);
        let Some(cycle) = cycle else {
            self.bound = old.bound;
            return None;
        };
        let generation = Generation::new(cycle.config, cycle.logs, cycle.app, &cycle.bound, 0).ok();
        retire(&old.bound, &cycle.bound);
        self.bound = cycle.bound;
        generation
    }
}

/// Removes the files of Unix sockets that the new configuration does not have.
pub fn retire(old: &[Bound], new: &[Bound]) {
    old.iter().filter(|old| !new.iter().any(|new| new.addr == old.addr)).for_each(listener::unlink);
}

/// Reads the configuration again, for a reload. Whatever there is to say goes to `tell`.
pub fn load_again(options: &Options, tell: &mut dyn FnMut(Level, &str)) -> Option<Config> {
    match conf::load(options) {
        Ok(mut loaded) => {
            for (level, message) in loaded.config.warnings.drain(..) {
                tell(level, &message);
            }
            Some(loaded.config)
        }
        Err(failed) => {
            for (level, message) in &failed.warnings {
                tell(*level, message);
            }
            tell(Level::Emerg, &failed.error.to_string());
            None
        }
    }
}
