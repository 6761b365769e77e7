//! Times our Lua programs under `moonlit` and the peers that are installed, interleaved, results checked.
//!
//! ```text
//! cargo run --release -p moonlit-benches -- [-n RUNS] [-f NAME] [--json FILE] [--moonlit PATH]
//! ```
//! Every figure is a median; ratios are medians of the ratios within one round, by CPU and by wall time.
//! A program that prints something else than its header says fails the run.

mod measure;
mod programs;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use measure::{Engine, Sample};

struct Options {
    runs: usize,
    filter: String,
    json: Option<PathBuf>,
    moonlit: PathBuf,
}

fn options() -> Result<Options, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let beside = exe.parent().map(|d| d.join("moonlit")).unwrap_or_default();
    let mut o = Options { runs: 5, filter: String::new(), json: None, moonlit: beside };
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        let mut value = || args.next().ok_or(format!("{a} needs a value"));
        match a.as_str() {
            "-n" => o.runs = value()?.parse().map_err(|e| format!("-n: {e}"))?,
            "-f" => o.filter = value()?,
            "--json" => o.json = Some(value()?.into()),
            "--moonlit" => o.moonlit = value()?.into(),
            other => return Err(format!("unknown option {other}")),
        }
    }
    if !o.moonlit.exists() {
        return Err(format!("no moonlit at {}: build it first (cargo build --release)", o.moonlit.display()));
    }
    Ok(o)
}

fn run() -> Result<bool, String> {
    let o = options()?;
    let engines = measure::engines(&o.moonlit);
    for e in &engines {
        eprintln!("{:14} {}", e.name, e.version);
    }
    let mut ok = true;
    let mut rows = Vec::new();
    for p in programs::all()?.into_iter().filter(|p| p.name.contains(&o.filter)) {
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); engines.len()];
        for round in 0..=o.runs {
            for (i, e) in engines.iter().enumerate().filter(|(_, e)| p.runs_on(e)) {
                let s = measure::run(e, &p)?;
                if s.output.trim_end() != p.expected {
                    eprintln!("{} under {}: wrong result: {}", p.name, e.name, s.output.trim_end());
                    ok = false;
                }
                // The first round warms caches and is not counted.
                if round > 0 {
                    samples[i].push(s);
                }
            }
        }
        let row = table::Row::new(&p, &engines, samples);
        row.print(&engines);
        rows.push(row);
    }
    table::print_means(&rows, &engines);
    if let Some(path) = o.json {
        std::fs::write(&path, table::json(&rows, &engines))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(ok)
}

/// Used by `measure` to find peers.
pub(crate) fn peer(name: &str) -> Option<Engine> {
    measure::find(name)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("benches: {e}");
            ExitCode::from(2)
        }
    }
}
