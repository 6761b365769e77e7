//! `limit_req` and `limit_conn`: what is counted per key in zones that all workers share.

use std::rc::Rc;
use std::time::Duration;

use super::{Run, Verdict, Worker, Zones};
use crate::conf::directives::limits::{LimitReq, LimitZone};
use crate::conf::model::Level;
use crate::http1::clock;
use crate::request::Request;

/// Longest key of a request limit, and of a connection limit.
const REQ_KEY_BYTES_MAX: usize = 65_000;
const CONN_KEY_BYTES_MAX: usize = 255;
/// A bucket that nobody has touched for so long is empty whatever its rate.
const IDLE_MS: u64 = 24 * 3_600_000;

/// Runs both kinds. `Verdict::Next` lets the request pass.
pub fn run(w: &Rc<Worker>, req: &Rc<Request>) -> Run {
    {
        let level = req.location();
        if level.parts.limit_reqs.is_empty() && level.parts.limit_conns.is_empty() {
            return Run::Ready(Verdict::Next);
        }
    }
    let Some(zones) = w.zones.clone() else { return Run::Ready(Verdict::Status(500)) };
    let req = req.clone();
    Run::Wait(Box::pin(async move {
        let level = req.level.borrow().clone();
        match requests(&req, &*zones, &level.parts.limit_reqs).await {
            Verdict::Next => connections(&req, &zones),
            other => other,
        }
    }))
}

/// A bucket: how full it is (times 1000), when it was last looked at.
#[derive(Clone, Copy)]
struct Bucket {
    excess: u64,
    last_ms: u64,
}

impl Bucket {
    fn from_bytes(b: &[u8]) -> Option<Bucket> {
        let (excess, last) = b.split_first_chunk::<8>()?;
        let last = last.first_chunk::<8>()?;
        Some(Bucket { excess: u64::from_ne_bytes(*excess), last_ms: u64::from_ne_bytes(*last) })
    }

    fn bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.excess.to_ne_bytes());
        out[8..].copy_from_slice(&self.last_ms.to_ne_bytes());
        out
    }

    /// How full it is with one more request now.
    fn with_one(self, rate: u64, now_ms: u64) -> u64 {
        let ms = now_ms.saturating_sub(self.last_ms);
        (self.excess + 1000).saturating_sub((u128::from(rate) * u128::from(ms) / 1000) as u64)
    }
}

fn key_of(req: &Rc<Request>, zone: &LimitZone, max: usize) -> Option<Vec<u8>> {
    let key = req.eval(&zone.key);
    if key.len() > max {
        let (shown, name) = (String::from_utf8_lossy(&key), String::from_utf8_lossy(&zone.key_text));
        let max = if max == CONN_KEY_BYTES_MAX { 255 } else { 65535 };
        let text = format!("the value of the \"{name}\" key is more than {max} bytes: \"{shown}\"");
        req.log(Level::Error, text.as_bytes());
        return None;
    }
    (!key.is_empty()).then_some(key)
}

async fn requests(req: &Rc<Request>, zones: &dyn Zones, limits: &[LimitReq]) -> Verdict {
    if limits.is_empty() || req.main().limits.get().req.is_some() {
        return Verdict::Next;
    }
    let level = req.level.borrow().clone();
    let now = clock::update();
    let dry = level.filters.limit_req_dry_run;
    let mut counted: Vec<(&LimitReq, Vec<u8>)> = Vec::new();
    let set = |status| {
        let mut outcome = req.main().limits.get();
        outcome.req = Some(status);
        req.main().limits.set(outcome);
    };
    // First whether all let it pass; only then it is counted.
    for limit in limits {
        let zone = &req.env.http().limit_zones[limit.zone];
        let rate = zone.rate.unwrap_or(1);
        let Some(key) = key_of(req, zone, REQ_KEY_BYTES_MAX) else { continue };
        let mut excess = 0;
        zones.update(limit.zone, &key, IDLE_MS, &mut |old| {
            excess = old.and_then(Bucket::from_bytes).map_or(0, |b| b.with_one(rate, now));
            None
        });
        if excess > limit.burst {
            let dry_text = if dry { ", dry run" } else { "" };
            let text = format!(
                "limiting requests{dry_text}, excess: {}.{:03} by zone \"{}\"",
                excess / 1000,
                excess % 1000,
                zone.name
            );
            req.log(level.filters.limit_req_log_level, text.as_bytes());
            set(if dry { "REJECTED_DRY_RUN" } else { "REJECTED" });
            return if dry { Verdict::Next } else { Verdict::Status(level.filters.limit_req_status) };
        }
        counted.push((limit, key));
    }
    if counted.is_empty() {
        return Verdict::Next;
    }
    let mut longest: (u64, u64, usize) = (0, 0, 0);
    for (limit, key) in counted {
        let rate = req.env.http().limit_zones[limit.zone].rate.unwrap_or(1);
        let mut excess = 0;
        let stored = zones.update(limit.zone, &key, IDLE_MS, &mut |old| {
            let old = old.and_then(Bucket::from_bytes);
            excess = old.map_or(0, |b| b.with_one(rate, now));
            let last_ms = old.map_or(now, |b| b.last_ms.max(now));
            Some(Bucket { excess, last_ms }.bytes().to_vec())
        });
        if !stored {
            let name = &req.env.http().limit_zones[limit.zone].name;
            req.log(Level::Alert, format!("could not allocate node in limit_req zone \"{name}\"").as_bytes());
            return Verdict::Status(level.filters.limit_req_status);
        }
        let delay_ms = excess.saturating_sub(limit.delay) * 1000 / rate;
        if delay_ms > longest.0 {
            longest = (delay_ms, excess, limit.zone);
        }
    }
    let (delay_ms, excess, zone) = longest;
    if delay_ms == 0 {
        set("PASSED");
        return Verdict::Next;
    }
    let dry_text = if dry { ", dry run" } else { "" };
    let text = format!(
        "delaying request{dry_text}, excess: {}.{:03}, by zone \"{}\"",
        excess / 1000,
        excess % 1000,
        req.env.http().limit_zones[zone].name
    );
    // Delays are one step less grave than refusals.
    let quieter = match level.filters.limit_req_log_level {
        Level::Info => Level::Info,
        loud => Level::from_number(loud as i64 + 1).unwrap_or(Level::Info),
    };
    req.log(quieter, text.as_bytes());
    if dry {
        set("DELAYED_DRY_RUN");
        return Verdict::Next;
    }
    set("DELAYED");
    let client_left = async {
        std::future::poll_fn(|cx| {
            if !req.conn.is_broken() {
                std::task::Poll::Pending
            } else {
                req.conn.poll_readable(cx).map(|_| ())
            }
        })
        .await;
    };
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(delay_ms)) => Verdict::Next,
        () = client_left => Verdict::Status(499),
    }
}

/// Gives a connection's place back.
struct Place {
    zones: Rc<dyn Zones>,
    zone: usize,
    key: Vec<u8>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.zones.update(self.zone, &self.key, 0, &mut |old| {
            let n = old.and_then(count).unwrap_or(0).saturating_sub(1);
            Some(if n == 0 { Vec::new() } else { n.to_ne_bytes().to_vec() })
        });
    }
}

fn count(b: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(*b.first_chunk::<8>()?))
}

fn connections(req: &Rc<Request>, zones: &Rc<dyn Zones>) -> Verdict {
    let level = req.level.borrow().clone();
    if level.parts.limit_conns.is_empty() || req.main().limits.get().conn.is_some() {
        return Verdict::Next;
    }
    let dry = level.filters.limit_conn_dry_run;
    let set = |status| {
        let mut outcome = req.main().limits.get();
        outcome.conn = Some(status);
        req.main().limits.set(outcome);
    };
    let mut places = Vec::new();
    for limit in &level.parts.limit_conns {
        let zone = &req.env.http().limit_zones[limit.zone];
        let Some(key) = key_of(req, zone, CONN_KEY_BYTES_MAX) else { continue };
        set("PASSED");
        let mut full = false;
        let stored = zones.update(limit.zone, &key, 0, &mut |old| {
            let n = old.and_then(count).unwrap_or(0);
            full = n >= limit.max;
            (!full).then(|| (n + 1).to_ne_bytes().to_vec())
        });
        if full {
            let dry_text = if dry { ", dry run," } else { "" };
            let text = format!("limiting connections{dry_text} by zone \"{}\"", zone.name);
            req.log(level.filters.limit_conn_log_level, text.as_bytes());
        }
        if full || !stored {
            // What was taken in other zones is given back with `places`.
            set(if dry { "REJECTED_DRY_RUN" } else { "REJECTED" });
            return if dry { Verdict::Next } else { Verdict::Status(level.filters.limit_conn_status) };
        }
        places.push(Place { zones: zones.clone(), zone: limit.zone, key });
    }
    for place in places {
        req.at_end.borrow_mut().push(Box::new(place));
    }
    Verdict::Next
}
