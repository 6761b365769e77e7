//! nginx's command line: `-t -T -q -s -p -c -e -g -v -V -h`, its messages and exit codes.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::AppFactory;
use crate::application::{Gateways, VmFactory};
use crate::conf::directive::full_path;
use crate::conf::error::{ConfError, os_text};
use crate::conf::model::Level;
use crate::conf::{self, Loaded, Options};
use crate::log::{error_line, open_failed};
use crate::serve::start::{self, NGINX_VERSION, SERVER_NAME};
use crate::serve::{os, signal};

/// Where relative paths start from when `-p` does not say.
const DEFAULT_PREFIX: &str = conf::DEFAULT_PREFIX;
/// The main file, relative to the prefix.
const DEFAULT_CONF: &str = "conf/nginx.conf";
/// The error log, relative to the prefix.
const DEFAULT_ERROR_LOG: &str = "logs/error.log";

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Command {
    help: bool,
    version: bool,
    configure: bool,
    test: bool,
    dump: bool,
    quiet: bool,
    signal: Option<String>,
    prefix: Option<OsString>,
    conf: Option<OsString>,
    error_log: Option<OsString>,
    globals: Option<OsString>,
}

fn parse(args: &[OsString]) -> Result<Command, String> {
    let mut command = Command::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        let Some((b'-', letters)) = bytes.split_first() else {
            return Err(format!("invalid option: \"{}\"", arg.to_string_lossy()));
        };
        for (at, letter) in letters.iter().enumerate() {
            let rest = &letters[at + 1..];
            let mut value = |what: &str| -> Result<OsString, String> {
                if !rest.is_empty() {
                    return Ok(OsStr::from_bytes(rest).to_owned());
                }
                args.next()
                    .cloned()
                    .ok_or_else(|| format!("option \"-{}\" requires {what}", char::from(*letter)))
            };
            match letter {
                b'?' | b'h' => {
                    command.version = true;
                    command.help = true;
                }
                b'v' => command.version = true,
                b'V' => {
                    command.version = true;
                    command.configure = true;
                }
                b't' => command.test = true,
                b'T' => {
                    command.test = true;
                    command.dump = true;
                }
                b'q' => command.quiet = true,
                b'p' => {
                    command.prefix = Some(value("directory name")?);
                    break;
                }
                b'c' => {
                    command.conf = Some(value("file name")?);
                    break;
                }
                b'e' => {
                    command.error_log = Some(value("file name")?);
                    break;
                }
                b'g' => {
                    command.globals = Some(value("parameter")?);
                    break;
                }
                b's' => {
                    let name = value("parameter")?.to_string_lossy().into_owned();
                    if signal::of_command(&name).is_none() {
                        return Err(format!("invalid option: \"-s {name}\""));
                    }
                    command.signal = Some(name);
                    break;
                }
                other => return Err(format!("invalid option: \"{}\"", char::from(*other))),
            }
        }
    }
    Ok(command)
}

fn say(text: &str) {
    // Standard error that is gone has nobody to be told.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Messages before the configuration's own logs are open: to the terminal, and to the `-e` log.
struct Console {
    /// `None` when the log is standard error itself.
    log: Option<PathBuf>,
    on_stderr: bool,
}

impl Console {
    fn new(options: &Options) -> Console {
        let on_stderr = options.error_log.as_os_str() == "stderr";
        let log = (!on_stderr).then(|| options.prefix.join(&options.error_log));
        let mut console = Console { log, on_stderr };
        if let Some(path) = &console.log
            && let Err(error) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            say(&format!("nginx: [alert] could not open error log file: {}\n", open_failed(path, &error)));
            console.log = None;
        }
        console
    }

    fn tell(&self, level: Level, message: &str) {
        let line = error_line(level, None, message.as_bytes());
        if self.on_stderr {
            let _ = std::io::stderr().write_all(&line);
            return;
        }
        if level <= Level::Warn {
            say(&format!("nginx: [{}] {message}\n", level.name()));
        }
        if let Some(path) = &self.log
            && level <= Level::Notice
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            let _ = file.write_all(&line);
        }
    }

    fn tell_error(&self, error: &ConfError) {
        self.tell(Level::Emerg, &error.to_string());
        if let Some(hint) = &error.hint {
            say(&format!("nginx: {hint}\n"));
        }
    }
}

/// Runs the server's command line with VMs from `vms`. `args` are without the program's name.
pub fn main<V: VmFactory>(args: &[OsString], vms: V) -> ExitCode {
    run(args, &Gateways { vms })
}

/// Runs the command line for any application. `args` are without the program's name.
pub fn run<F: AppFactory>(args: &[OsString], factory: &F) -> ExitCode {
    start::note_process();
    let command = match parse(args) {
        Ok(command) => command,
        Err(message) => {
            say(&format!("nginx: {message}\n"));
            return ExitCode::FAILURE;
        }
    };
    if command.version {
        show_version(&command);
        if !command.test {
            return ExitCode::SUCCESS;
        }
    }
    let options = options_of(&command);
    let console = Console::new(&options);
    let loaded = conf::load(&options);
    if command.test {
        return exit_code(test(&command, &options, loaded, factory, &console));
    }
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(failed) => {
            failed.warnings.iter().for_each(|(level, message)| console.tell(*level, message));
            console.tell_error(&failed.error);
            return ExitCode::FAILURE;
        }
    };
    for (level, message) in &loaded.config.warnings {
        console.tell(*level, message);
    }
    if let Some(name) = &command.signal {
        let pid_file = full_path(&loaded.config.prefix, &loaded.config.main.pid);
        return exit_code(send_signal(name, &pid_file, &console));
    }
    if let Some(user) = &loaded.config.main.user
        && !os::is_superuser()
    {
        let message = format!(
            "the \"user\" directive makes sense only if the master process runs with super-user privileges, \
             ignored in {}:{}",
            user.place.file.display(),
            user.place.line
        );
        console.tell(Level::Warn, &message);
    }
    let mut tell = |level: Level, message: &str| console.tell(level, message);
    let Some(cycle) = start::prepare(loaded.config, factory, None, &mut tell) else {
        return ExitCode::FAILURE;
    };
    exit_code(start::run(cycle, factory, &options, &mut tell))
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn options_of(command: &Command) -> Options {
    let prefix = PathBuf::from(command.prefix.clone().unwrap_or_else(|| DEFAULT_PREFIX.into()));
    let or = |given: &Option<OsString>, default: &str| {
        PathBuf::from(given.clone().unwrap_or_else(|| default.into()))
    };
    Options {
        prefix,
        file: or(&command.conf, DEFAULT_CONF),
        error_log: or(&command.error_log, DEFAULT_ERROR_LOG),
        globals: command
            .globals
            .as_ref()
            .map_or_else(String::new, |text| text.to_string_lossy().into_owned()),
    }
}

fn show_version(command: &Command) {
    say(&format!("nginx version: {SERVER_NAME}\n"));
    if command.help {
        say(&format!(
            "Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]\n\
             \x20            [-e filename] [-c filename] [-g directives]\n\n\
             Options:\n\
             \x20 -?,-h         : this help\n\
             \x20 -v            : show version and exit\n\
             \x20 -V            : show version and configure options then exit\n\
             \x20 -t            : test configuration and exit\n\
             \x20 -T            : test configuration, dump it and exit\n\
             \x20 -q            : suppress non-error messages during configuration testing\n\
             \x20 -s signal     : send signal to a master process: stop, quit, reopen, reload\n\
             \x20 -p prefix     : set prefix path (default: {DEFAULT_PREFIX})\n\
             \x20 -e filename   : set error log file (default: {DEFAULT_ERROR_LOG})\n\
             \x20 -c filename   : set configuration file (default: {DEFAULT_CONF})\n\
             \x20 -g directives : set global directives out of configuration file\n\n"
        ));
    }
    if command.configure {
        let moonlit = env!("CARGO_PKG_VERSION");
        say(&format!(
            "built by Moonlit {moonlit} (nginx {NGINX_VERSION}, lua-nginx-module 0.10.32)\n\
             built with OpenSSL 3.5.5\n\
             configure arguments: {}\n",
            conf::CONFIGURE_ARGUMENTS
        ));
    }
}

fn test<F: AppFactory>(
    command: &Command,
    options: &Options,
    loaded: Result<Loaded, conf::Failed>,
    factory: &F,
    console: &Console,
) -> i32 {
    let file = options.prefix.join(&options.file);
    let shown = file.display();
    let ok = || {
        if !command.quiet {
            say(&format!("nginx: the configuration file {shown} syntax is ok\n"));
        }
    };
    let failed = || {
        say(&format!("nginx: configuration file {shown} test failed\n"));
        1
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(failure) => {
            failure.warnings.iter().for_each(|(level, message)| console.tell(*level, message));
            if failure.error.syntax_ok {
                ok();
            }
            console.tell_error(&failure.error);
            return failed();
        }
    };
    for (level, message) in &loaded.config.warnings {
        console.tell(*level, message);
    }
    if let Err(error) = conf::check_lua(&loaded, &mut *factory.chunk_check()) {
        console.tell_error(&error);
        return failed();
    }
    if let Err(message) = start::account_of(&loaded.config) {
        console.tell(Level::Emerg, &message);
        return failed();
    }
    ok();
    if let Err(message) = crate::log::Logs::open(&loaded.config) {
        console.tell(Level::Emerg, &message);
        return failed();
    }
    if !command.quiet {
        say(&format!("nginx: configuration file {shown} test is successful\n"));
    }
    if command.dump {
        let mut out = std::io::stdout().lock();
        for (path, text) in &loaded.config.sources {
            let _ = write!(out, "# configuration file {}:\n", path.display());
            let _ = out.write_all(text);
            let _ = out.write_all(b"\n");
        }
    }
    0
}

fn send_signal(name: &str, pid_file: &Path, console: &Console) -> i32 {
    let text = match std::fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(error) => {
            console.tell(Level::Error, &open_failed(pid_file, &error));
            return 1;
        }
    };
    let digits = text.trim_end_matches(['\n', '\r']);
    let Some(pid) = digits.parse::<u32>().ok().filter(|pid| *pid > 0) else {
        let message = format!("invalid PID number \"{digits}\" in \"{}\"", pid_file.display());
        console.tell(Level::Error, &message);
        return 1;
    };
    let number = signal::of_command(name).expect("the command line was checked");
    match os::kill(pid, number) {
        Ok(()) => 0,
        Err(error) => {
            console.tell(Level::Alert, &format!("kill({pid}, {number}) failed {}", os_text(&error)));
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, String> {
        parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_alone_and_together() {
        let command = parsed(&["-tq", "-c", "a.conf", "-p/srv", "-g", "daemon off;"]).expect("parses");
        assert!(command.test && command.quiet && !command.dump);
        assert_eq!(command.conf.as_deref(), Some(OsStr::new("a.conf")));
        assert_eq!(command.prefix.as_deref(), Some(OsStr::new("/srv")));
        assert_eq!(command.globals.as_deref(), Some(OsStr::new("daemon off;")));
    }

    #[test]
    fn complaints_are_nginx_s() {
        let fail = |args: &[&str]| parsed(args).expect_err("wrong");
        assert_eq!(fail(&["x"]), "invalid option: \"x\"");
        assert_eq!(fail(&["-x"]), "invalid option: \"x\"");
        assert_eq!(fail(&["-c"]), "option \"-c\" requires file name");
        assert_eq!(fail(&["-s", "foo"]), "invalid option: \"-s foo\"");
    }
}
