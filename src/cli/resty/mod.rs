//! `resty`: Lua code with the whole API of the server, run from the command line.
//!
//! The code runs in a timer of a one-worker server without listeners, a process of its own; this one makes the
//! files it needs, passes signals on and clears up.

mod conf;
mod options;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use moonlit_server::serve::os;
use tokio::signal::unix::{Signal, SignalKind, signal};

use conf::Places;
use options::{Options, Refused, Tool, split};

/// The version of resty-cli whose options these are.
const VERSION: &str = "0.29";
/// How long a process that was interrupted may take to end.
const INTERRUPT_WAIT: Duration = Duration::from_millis(100);
/// Folders tried before giving up.
const FOLDERS_MAX: u32 = 1000;

const USAGE: &str = "resty [options] [lua-file [args]]

Options:
    -c NUM              Connections at most (default: 64).
    -e PROG             Run this code.
    --errlog-level LEVEL
                        Level of the error log: debug, info, notice, warn, error,
                        crit, alert or emerg.
    --gdb               Run the server under gdb.
    --gdb-opts OPTS     Options for gdb.
    --help              Print this text.
    --http-conf CONF    Put this into the http {} block (may be repeated).
    --http-include PATH Include this file in the http {} block (may be repeated).
    -I DIR              Look for Lua modules here, too (may be repeated).
    -j dump             Show the traces of the compiler in full.
    -j off              Switch the compiler off.
    -j v                Show a line for each trace.
    -l LIB              Require this module first.
    --load-module MOD   Load this module of the server (may be repeated).
    --main-conf CONF    Put this outside of all blocks (may be repeated).
    --main-include PATH Include this file outside of all blocks (may be repeated).
    --nginx PATH        The server to run.
    --no-stream         Accepted: there is no stream {} block.
    --ns IP             Ask this name server (may be repeated).
    --resolve-ipv6      Ask the name servers for IPv6 addresses, too.
    --rr                Record the server with rr.
    --shdict 'NAME SIZE'
                        Make this shared dictionary (may be repeated).
    --user-runner CMD   Run the server under this command.
    -V                  Print versions.
    --dump-nginx-conf   Print the configuration and do nothing else.
    --valgrind          Run the server under valgrind.
    --valgrind-opts OPTS
                        Options for valgrind.
";

/// The command line.
pub fn main(args: &[OsString]) -> ExitCode {
    let options = match Options::parse(args.get(1..).unwrap_or_default()) {
        Ok(options) => options,
        Err(refused) => return refuse(&refused),
    };
    if options.help {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if options.version {
        eprintln!("resty {VERSION}");
        let (mut command, _) = server(&options);
        let error = command.arg("-V").exec();
        eprintln!("ERROR: failed to run the server: {error}");
        return ExitCode::FAILURE;
    }
    match run(&options, args.first().map_or(b"resty", |a| a.as_bytes())) {
        Ok(code) => code,
        Err(refused) => refuse(&refused),
    }
}

fn refuse(refused: &Refused) -> ExitCode {
    eprint!("{}", refused.text);
    if refused.usage {
        eprint!("{USAGE}");
    }
    ExitCode::from(refused.code)
}

fn failed(text: String) -> Refused {
    Refused { text, usage: false, code: 2 }
}

/// The server's program: the one named, the one beside this one, or this one itself under its name. The second
/// value is the path when it needs no such name.
fn server(o: &Options) -> (Command, Option<PathBuf>) {
    if let Some(path) = &o.nginx {
        return (Command::new(path), Some(path.into()));
    }
    let this = std::env::current_exe().unwrap_or_else(|_| "resty".into());
    match this.parent().map(|dir| dir.join("moonlitd")).filter(|path| path.is_file()) {
        Some(path) => (Command::new(&path), Some(path)),
        None => {
            let mut command = Command::new(this);
            command.arg0("moonlitd");
            (command, None)
        }
    }
}

/// A folder that nobody else has, gone when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, Refused> {
        use std::hash::{BuildHasher, Hasher};
        let base = std::env::temp_dir();
        for _ in 0..FOLDERS_MAX {
            let mut hasher = std::hash::RandomState::new().build_hasher();
            hasher.write_u32(std::process::id());
            let path = base.join(format!("resty_{:016x}", hasher.finish()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Folder(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(format!("Cannot mkdir {}: {e}\n", path.display()))),
            }
        }
        Err(failed(format!("no folder could be made in {}\n", base.display())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("failed to remove temp directory {}: {e}", self.0.display());
        }
    }
}

fn run(o: &Options, program: &[u8]) -> Result<ExitCode, Refused> {
    if let Some(file) = &o.file
        && !Path::new(file).exists()
    {
        return Err(failed(format!("Lua input file {} not found.\n", file.to_string_lossy())));
    }
    let env: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    if o.dump {
        let prefix = std::env::temp_dir().join("resty");
        let conf = conf::nginx_conf(o, &Places { prefix, inline: None }, &env).map_err(failed)?;
        // Standard output that is gone has nobody to be told.
        let _ = std::io::stdout().write_all(&conf);
        return Ok(ExitCode::SUCCESS);
    }
    let folder = Folder::new()?;
    let mut places = Places { prefix: folder.0.clone(), inline: None };
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes)
            .map_err(|e| failed(format!("Cannot open {} for writing: {e}\n", path.display())))
    };
    for sub in ["conf", "logs"] {
        let path = folder.0.join(sub);
        std::fs::create_dir(&path)
            .map_err(|e| failed(format!("failed to mkdir {}: {e}\n", path.display())))?;
    }
    if !o.code.is_empty() {
        let path = places.file("a.lua");
        write(&path, &o.code.join(&b"; "[..]))?;
        places.inline = Some(path);
    }
    write(&places.file("nginx.conf"), &conf::nginx_conf(o, &places, &env).map_err(failed)?)?;
    write(&places.file("init.lua"), include_bytes!("init.lua"))?;
    write(&places.file("run.lua"), &conf::run_lua(o, &places, program))?;
    let mut command = command(o)?;
    command.arg("-p").arg(folder.0.join("")).args(["-c", "conf/nginx.conf"]);
    wait(command)
}

/// The command that runs the server, under another program where that is asked for.
fn command(o: &Options) -> Result<Command, Refused> {
    let (direct, path) = server(o);
    let Some((tool, options)) = &o.tool else { return Ok(direct) };
    let Some(path) = path else {
        return Err(failed(
            "ERROR: the program moonlitd is not beside this one: say where with --nginx\n".into(),
        ));
    };
    let options = split(options.as_deref().unwrap_or_default())?;
    let words: Vec<String> = match tool {
        Tool::Gdb => [vec!["gdb".to_owned()], options, vec!["--args".to_owned()]].concat(),
        Tool::Rr => vec!["rr".to_owned(), "record".to_owned()],
        Tool::Valgrind => [vec!["valgrind".to_owned()], options].concat(),
        Tool::User => options,
    };
    let Some((first, rest)) = words.split_first() else { return Ok(direct) };
    let mut command = Command::new(first);
    command.args(rest).arg(path);
    Ok(command)
}

/// Runs the server to its end; signals are its.
fn wait(mut command: Command) -> Result<ExitCode, Refused> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(format!("ERROR: {e}\n")))?;
    runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|e| failed(format!("ERROR: {e}\n")));
        let mut ended = listen(SignalKind::child())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut broken = listen(SignalKind::pipe())?;
        let mut others: Vec<(i32, Signal)> = Vec::new();
        for (kind, passed) in [
            (SignalKind::terminate(), libc::SIGTERM),
            (SignalKind::quit(), libc::SIGQUIT),
            // The terminal is gone: the code may finish.
            (SignalKind::hangup(), libc::SIGQUIT),
            (SignalKind::user_defined1(), libc::SIGUSR1),
            (SignalKind::user_defined2(), libc::SIGUSR2),
            (SignalKind::window_change(), libc::SIGWINCH),
        ] {
            others.push((passed, listen(kind)?));
        }
        let mut child = command.spawn().map_err(|e| {
            let program = command.get_program().to_string_lossy().into_owned();
            failed(format!("ERROR: failed to run command \"{program}\": {e}\n"))
        })?;
        let mut terminated = false;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(code_of(status, terminated)),
                Ok(None) => {}
                Err(e) => return Err(failed(format!("ERROR: failed to wait on the server: {e}\n"))),
            }
            tokio::select! {
                _ = ended.recv() => {}
                _ = interrupt.recv() => {
                    stop(&mut child, &mut ended).await;
                    return Ok(ExitCode::from(130));
                }
                _ = broken.recv() => {
                    stop(&mut child, &mut ended).await;
                    return Ok(ExitCode::from(141));
                }
                passed = any(&mut others) => {
                    terminated |= passed == libc::SIGTERM;
                    // Who has ended in the meantime is seen at the next turn.
                    let _ = os::kill(child.id(), passed);
                }
            }
        }
    })
}

/// The next one of several signals.
async fn any(signals: &mut [(i32, Signal)]) -> i32 {
    std::future::poll_fn(|cx| {
        for (number, signal) in signals.iter_mut() {
            if signal.poll_recv(cx).is_ready() {
                return std::task::Poll::Ready(*number);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Asks the server to end, and then does not ask any more.
async fn stop(child: &mut Child, ended: &mut Signal) {
    let _ = os::kill(child.id(), libc::SIGQUIT);
    let _ = tokio::time::timeout(INTERRUPT_WAIT, async {
        while matches!(child.try_wait(), Ok(None)) {
            ended.recv().await;
        }
    })
    .await;
    let _ = child.kill();
    let _ = child.wait();
}

fn code_of(status: ExitStatus, terminated: bool) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(0), _) if terminated => ExitCode::from(143),
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (None, Some(signal)) => ExitCode::from(u8::try_from(signal).unwrap_or(1)),
        (None, None) => ExitCode::FAILURE,
    }
}
