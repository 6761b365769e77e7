//! `ngx.sleep`.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use moonlit_vm::host::native::{Entry, NativeResult, Vm};

use super::ApiFn;
use crate::lua::args::expect_args;
use crate::lua::bridge::wait;
use crate::lua::worker::{LuaWorker, here};
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::yields("ngx.sleep", Phases::YIELDABLE, sleep)];

/// A sleep under way.
struct Sleeping {
    worker: Rc<LuaWorker>,
    timer: Pin<Box<tokio::time::Sleep>>,
    over: bool,
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let r = self.timer.as_mut().poll(cx);
        if r.is_ready() {
            self.over = true;
            tell_expired(&self.worker);
        }
        r
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if !self.over {
            self.worker.debug_plain(|| "lua clean up the timer for pending ngx.sleep");
        }
    }
}

fn tell_expired(w: &LuaWorker) {
    w.debug(|| {
        let mut line = b"lua sleep timer expired: \"".to_vec();
        if let Some(req) = w.request() {
            line.extend_from_slice(&req.uri.borrow());
            line.push(b'?');
            line.extend_from_slice(&req.args.borrow());
        }
        line.push(b'"');
        line
    });
}

/// `ngx.sleep(seconds)`: suspends this light thread, not the worker.
///
/// `seconds`: number >= 0, resolution 1 ms; 0 lets others run once. Returns nothing. Raises
/// `invalid sleep duration "N"`, which is in milliseconds. Source: lua-nginx-module README, "ngx.sleep".
fn sleep(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=1, "attempt to pass # arguments, but accepted 1")?;
    let seconds = vm.check_num(0)?;
    if !(seconds >= 0.0) {
        let text = format!("invalid sleep duration \"{:.0}\"", (seconds * 1000.0).trunc());
        return Err(vm.throw_str(text.as_bytes()));
    }
    if seconds < 0.001 {
        let w = here();
        w.debug(|| "lua ready to sleep for 0 ms");
        let mut turn = Box::pin(tokio::task::yield_now());
        let turn = std::future::poll_fn(move |cx| {
            let r = turn.as_mut().poll(cx);
            if r.is_ready() {
                tell_expired(&w);
            }
            r
        });
        return wait(vm, turn, |_, ()| Vec::new());
    }
    let ms = (seconds * 1000.0).min(1e15) as u64;
    let w = here();
    w.debug(|| format!("lua ready to sleep for {ms} ms"));
    let timer = Box::pin(tokio::time::sleep(Duration::from_millis(ms)));
    wait(vm, Sleeping { worker: w, timer, over: false }, |_, ()| Vec::new())
}
