//! Runs cases and compares.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::header::Header;
use crate::modes::{MODES, Mode};

/// Longest time one run may take.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);

/// What happened over all cases.
#[derive(Debug, Default)]
pub struct Summary {
    /// Runs made.
    pub runs: usize,
    /// Failure texts.
    pub failures: Vec<String>,
}

fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for e in entries.flatten() {
        let p = e.path();
        if p.is_dir() {
            collect(&p, out);
        } else if p.extension().is_some_and(|x| x == "lua") && p.with_extension("out").exists()
            || p.extension().is_some_and(|x| x == "lua") && std::env::var_os("BLESS").is_some()
        {
            out.push(p);
        }
    }
}

/// Runs every case below `dir` whose path contains the value of `CASE`, if that is set. Without `ffi` the cases
/// that need it are left out.
pub fn run_dir(binary: &Path, dir: &Path, modes: &[&str], ffi: bool) -> Summary {
    let mut cases = Vec::new();
    collect(dir, &mut cases);
    cases.sort();
    if let Ok(filter) = std::env::var("CASE") {
        cases.retain(|p| p.to_string_lossy().contains(&filter));
    }
    let next = AtomicUsize::new(0);
    let summary = Mutex::new(Summary::default());
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get());
    std::thread::scope(|s| {
        for _ in 0..workers {
            s.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (runs, failures) = run_case(binary, dir, case, modes, ffi);
                    let mut sum = summary.lock().expect("no run panics while it holds the summary");
                    sum.runs += runs;
                    sum.failures.extend(failures);
                }
            });
        }
    });
    let mut sum = summary.into_inner().expect("all runs are joined");
    sum.failures.sort();
    sum
}

fn run_case(binary: &Path, dir: &Path, case: &Path, modes: &[&str], ffi: bool) -> (usize, Vec<String>) {
    let name = case.strip_prefix(dir).unwrap_or(case).display().to_string();
    let source = match std::fs::read(case) {
        Ok(s) => String::from_utf8_lossy(&s).into_owned(),
        Err(e) => return (0, vec![format!("{name}: {e}")]),
    };
    let header = match Header::parse(&source) {
        Ok(h) => h,
        Err(e) => return (0, vec![format!("{name}: {e}")]),
    };
    if header.ffi && !ffi {
        return (0, Vec::new());
    }
    let golden = case.with_extension("out");
    let (mut runs, mut failures) = (0, Vec::new());
    for mode in MODES.iter().filter(|m| m.wants(&header) && modes.contains(&m.name)) {
        runs += 1;
        let got = match run_once(binary, case, mode, &header) {
            Ok(o) => o,
            Err(e) => {
                failures.push(format!("{name} [{}]: {e}", mode.name));
                continue;
            }
        };
        if std::env::var_os("BLESS").is_some() && mode.name == MODES[0].name {
            if let Err(e) = std::fs::write(&golden, &got) {
                failures.push(format!("{name}: cannot bless: {e}"));
            }
            continue;
        }
        let want = std::fs::read(&golden).unwrap_or_default();
        if got != want {
            failures.push(format!("{name} [{}]: {}", mode.name, first_difference(&want, &got)));
        }
    }
    (runs, failures)
}

fn run_once(binary: &Path, case: &Path, mode: &Mode, header: &Header) -> Result<Vec<u8>, String> {
    let file = case.file_name().ok_or("a case has a file name")?;
    let mut cmd = Command::new(binary);
    cmd.current_dir(case.parent().unwrap_or(Path::new("."))).args(mode.args).arg(file);
    cmd.env_remove("LUA_INIT")
        .env_remove("LUA_PATH")
        .env_remove("LUA_CPATH")
        .env("TZ", "UTC")
        .env("LC_ALL", "C");
    for (k, v) in mode.env {
        cmd.env(k, v);
    }
    if header.compat52 {
        cmd.env("MOONLIT_COMPAT52", "1");
    }
    let out_file = tempfile()?;
    let err_file = tempfile()?;
    cmd.stdin(Stdio::null());
    cmd.stdout(out_file.1.try_clone().map_err(|e| e.to_string())?);
    cmd.stderr(err_file.1.try_clone().map_err(|e| e.to_string())?);
    let mut child = cmd.spawn().map_err(|e| format!("cannot start: {e}"))?;
    let start = Instant::now();
    let status = loop {
        if let Some(s) = child.try_wait().map_err(|e| e.to_string())? {
            break s;
        }
        if start.elapsed() > RUN_TIME_MAX {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("still running after {} s", RUN_TIME_MAX.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut out = std::fs::read(&out_file.0).map_err(|e| e.to_string())?;
    let err = std::fs::read(&err_file.0).map_err(|e| e.to_string())?;
    let _ = std::fs::remove_file(&out_file.0);
    let _ = std::fs::remove_file(&err_file.0);
    if header.error {
        out.extend_from_slice(b"--- stderr\n");
        out.extend_from_slice(&mask_addresses(&err));
        if status.code() != Some(1) {
            return Err(format!("expected exit code 1, got {status}"));
        }
    } else if !status.success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&err).trim_end()));
    }
    Ok(out)
}

/// Messages and tracebacks without the digits of their addresses.
fn mask_addresses(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|w| w == b"0x") {
        out.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 2..];
        let digits = rest.iter().take_while(|c| c.is_ascii_hexdigit()).count();
        rest = &rest[digits..];
    }
    out.extend_from_slice(rest);
    out
}

fn tempfile() -> Result<(PathBuf, std::fs::File), String> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("moonlit-case-{}-{n}", std::process::id()));
    let file = std::fs::File::create(&path).map_err(|e| e.to_string())?;
    Ok((path, file))
}

fn first_difference(want: &[u8], got: &[u8]) -> String {
    let (w, g) = (String::from_utf8_lossy(want), String::from_utf8_lossy(got));
    let (mut wl, mut gl) = (w.lines(), g.lines());
    let mut n = 1;
    loop {
        match (wl.next(), gl.next()) {
            (None, None) => return "differs in its line ends".to_string(),
            (a, b) if a == b => n += 1,
            (a, b) => {
                return format!(
                    "line {n}\n    expected: {}\n    got:      {}",
                    a.unwrap_or("<end>"),
                    b.unwrap_or("<end>")
                );
            }
        }
    }
}
