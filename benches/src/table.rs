//! Medians, ratios and the printed table.

use std::fmt::Write;

use crate::measure::{Engine, Sample};
use crate::programs::Program;

/// One program's figures.
pub struct Row {
    name: String,
    question: String,
    samples: Vec<Vec<Sample>>,
}

fn median(mut v: Vec<f64>) -> f64 {
    if v.is_empty() {
        return f64::NAN;
    }
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

/// Which engine each of ours is held against: `moonlit` against `luajit`, `moonlit -joff` against `luajit -joff`.
fn peer_of(engines: &[Engine], i: usize) -> Option<usize> {
    let peer = match engines[i].name.as_str() {
        "moonlit" => "luajit",
        "moonlit -joff" => "luajit -joff",
        _ => return None,
    };
    engines.iter().position(|e| e.name == peer)
}

impl Row {
    /// From the samples of every engine.
    pub fn new(p: &Program, _engines: &[Engine], samples: Vec<Vec<Sample>>) -> Row {
        Row { name: p.name.clone(), question: p.question.clone(), samples }
    }

    fn ratio(&self, a: usize, b: usize, f: fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples[a].iter().zip(&self.samples[b]);
        median(pairs.map(|(x, y)| f(x).max(0.005) / f(y).max(0.005)).collect())
    }

    /// Prints one line per engine.
    pub fn print(&self, engines: &[Engine]) {
        println!("{}: {}", self.name, self.question);
        for (i, e) in engines.iter().enumerate().filter(|(i, _)| !self.samples[*i].is_empty()) {
            let s = &self.samples[i];
            let cpu = median(s.iter().map(|x| x.cpu_s).collect());
            let wall = median(s.iter().map(|x| x.wall_s).collect());
            let peak = s.iter().map(|x| x.peak_kib).max().unwrap_or(0);
            let mut line = format!(
                "  {:14} cpu {cpu:7.3} s  wall {wall:7.3} s  peak {:6.1} MiB",
                e.name,
                peak as f64 / 1024.0
            );
            if let Some(p) = peer_of(engines, i).filter(|p| !self.samples[*p].is_empty()) {
                let _ = write!(
                    line,
                    "  cpu {:.2}x  wall {:.2}x of {}",
                    self.ratio(i, p, |s| s.cpu_s),
                    self.ratio(i, p, |s| s.wall_s),
                    engines[p].name
                );
            }
            if let Some([traces, us, bytes]) = s.iter().rev().find_map(|x| x.jit).filter(|j| j[0] > 0) {
                let _ = write!(line, "  ({traces} traces: {us} us, {bytes} bytes)");
            }
            println!("{line}");
        }
    }
}

/// Geometric means of the ratios.
pub fn print_means(rows: &[Row], engines: &[Engine]) {
    for (i, e) in engines.iter().enumerate() {
        let Some(p) = peer_of(engines, i) else { continue };
        let ratios: Vec<(f64, f64)> = rows
            .iter()
            .filter(|r| !r.samples[i].is_empty() && !r.samples[p].is_empty())
            .map(|r| (r.ratio(i, p, |s| s.cpu_s), r.ratio(i, p, |s| s.wall_s)))
            .collect();
        let n = ratios.len().max(1) as f64;
        let cpu = (ratios.iter().map(|r| r.0.ln()).sum::<f64>() / n).exp();
        let wall = (ratios.iter().map(|r| r.1.ln()).sum::<f64>() / n).exp();
        println!(
            "geometric mean of {} programs: {} cpu {cpu:.2}x wall {wall:.2}x of {}",
            ratios.len(),
            e.name,
            engines[p].name
        );
    }
}

/// The same as JSON.
pub fn json(rows: &[Row], engines: &[Engine]) -> String {
    let mut out = String::from("{\"programs\":[");
    for (n, r) in rows.iter().enumerate() {
        let _ = write!(out, "{}\n{{\"name\":\"{}\"", if n > 0 { "," } else { "" }, r.name);
        for (i, e) in engines.iter().enumerate().filter(|(i, _)| !r.samples[*i].is_empty()) {
            let s = &r.samples[i];
            let cpu = median(s.iter().map(|x| x.cpu_s).collect());
            let wall = median(s.iter().map(|x| x.wall_s).collect());
            let peak = s.iter().map(|x| x.peak_kib).max().unwrap_or(0);
            let _ = write!(
                out,
                ",\"{}\":{{\"cpu_s\":{cpu:.3},\"wall_s\":{wall:.3},\"peak_kib\":{peak}}}",
                e.name
            );
        }
        out.push('}');
    }
    out.push_str("\n]}\n");
    out
}
