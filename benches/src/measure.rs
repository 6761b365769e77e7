//! Running one program under one engine and reading what it cost.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::programs::Program;

/// An interpreter with its arguments.
#[derive(Clone)]
pub struct Engine {
    /// Column name.
    pub name: String,
    /// Executable.
    pub program: String,
    /// Arguments before the script.
    pub args: Vec<String>,
    /// First line of `-v`.
    pub version: String,
    /// Has an ffi.
    pub has_ffi: bool,
}

/// What one run cost.
#[derive(Clone)]
pub struct Sample {
    /// User and system seconds.
    pub cpu_s: f64,
    /// Seconds on the clock.
    pub wall_s: f64,
    /// Peak resident memory, KiB.
    pub peak_kib: u64,
    /// Standard output.
    pub output: String,
    /// What `moonlit`'s code generator did, where it tells: traces, microseconds, bytes.
    pub jit: Option<[u64; 3]>,
}

fn version(program: &str) -> Option<String> {
    let out = Command::new(program).arg("-v").stdin(Stdio::null()).output().ok()?;
    let text = if out.stdout.is_empty() { out.stderr } else { out.stdout };
    Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_string())
}

/// An installed engine of that name.
pub fn find(name: &str) -> Option<Engine> {
    let version = version(name)?;
    let has_ffi = name != "lua5.1";
    Some(Engine { name: name.into(), program: name.into(), args: Vec::new(), version, has_ffi })
}

/// The columns: ours with and without the JIT, and every peer that is installed. `$LUAJIT` names another LuaJIT.
pub fn engines(moonlit: &Path) -> Vec<Engine> {
    let path = moonlit.display().to_string();
    let ours = |name: &str, args: &[&str]| Engine {
        name: name.into(),
        program: path.clone(),
        args: args.iter().map(|a| a.to_string()).collect(),
        version: version(&path).unwrap_or_default(),
        has_ffi: true,
    };
    let mut v = vec![ours("moonlit", &[]), ours("moonlit -joff", &["-joff"])];
    let luajit = std::env::var("LUAJIT").unwrap_or_else(|_| "luajit".into());
    if let Some(e) = crate::peer(&luajit) {
        v.push(Engine { name: "luajit".into(), ..e.clone() });
        v.push(Engine { name: "luajit -joff".into(), args: vec!["-joff".into()], ..e });
    } else {
        eprintln!("skipped: no {luajit} is installed");
    }
    match crate::peer("lua5.1") {
        Some(e) => v.push(e),
        None => eprintln!("skipped: no lua5.1 is installed"),
    }
    v
}

/// Runs the program once; the kernel's own accounting of the finished child gives the cost.
pub fn run(e: &Engine, p: &Program) -> Result<Sample, String> {
    let start = Instant::now();
    let mut child = Command::new(&e.program)
        .args(&e.args)
        .arg(&p.path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .env("MOONLIT_JIT_COSTS", "1")
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| format!("{}: {err}", e.program))?;
    let mut stdout = child.stdout.take().ok_or("stdout is piped")?;
    let mut output = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut output).map_err(|err| err.to_string())?;
    let mut errors = String::new();
    if let Some(mut e) = child.stderr.take() {
        std::io::Read::read_to_string(&mut e, &mut errors).map_err(|err| err.to_string())?;
    }
    let (status, usage) = wait_usage(child)?;
    let wall_s = start.elapsed().as_secs_f64();
    if status != 0 {
        return Err(format!("{} under {}: wait status {status}: {errors}", p.name, e.name));
    }
    let secs = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let cpu_s = secs(usage.ru_utime) + secs(usage.ru_stime);
    Ok(Sample {
        cpu_s,
        wall_s,
        peak_kib: usage.ru_maxrss as u64,
        output: output.replace('\t', " "),
        jit: jit_costs(&errors),
    })
}

/// The line `jit costs: N traces, N us, N bytes`.
fn jit_costs(errors: &str) -> Option<[u64; 3]> {
    let line = errors.lines().find_map(|l| l.strip_prefix("jit costs: "))?;
    let mut numbers = line.split([' ', ',']).filter_map(|w| w.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

/// Waits for a child and returns its raw status and what it used.
fn wait_usage(child: Child) -> Result<(i32, libc::rusage), String> {
    let mut status = 0;
    // SAFETY: `rusage` is plain integers, for which all zero bits are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; `child` is owned here, so nobody else reaps it.
    let got = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    if got < 0 { Err(std::io::Error::last_os_error().to_string()) } else { Ok((status, usage)) }
}
