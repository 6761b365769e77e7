//! `ngx.sleep`.

use std::rc::Rc;
use std::time::Duration;

use moonlit_vm::host::native::{Entry, NativeResult, Vm};

use super::ApiFn;
use crate::lua::args::expect_args;
use crate::lua::bridge::wait;
use crate::lua::worker::{LuaWorker, here};
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::yields("ngx.sleep", Phases::YIELDABLE, sleep)];

/// `ngx.sleep(seconds)`: suspends this light thread, not the worker.
///
/// `seconds`: number >= 0, resolution 1 ms; 0 lets others run once. Returns nothing. Raises
/// `invalid sleep duration "N"`. Source: lua-nginx-module README, "ngx.sleep".
fn sleep(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1)?;
    let seconds = vm.check_num(0)?;
    if !(seconds >= 0.0) {
        let text = format!("invalid sleep duration \"{}\"", String::from_utf8_lossy(&vm.raw_text(vm.arg(0))));
        return Err(vm.throw_str(text.as_bytes()));
    }
    if seconds == 0.0 {
        return wait(vm, Box::pin(tokio::task::yield_now()), |_, ()| Vec::new());
    }
    let ms = (seconds * 1000.0).min(1e15) as u64;
    let timer = Box::pin(tokio::time::sleep(Duration::from_millis(ms)));
    let w = here();
    if !w.debugging() {
        return wait(vm, timer, |_, ()| Vec::new());
    }
    wait(vm, Told { timer, worker: Some(w) }, |_, ()| Vec::new())
}

/// A sleep that tells when it is given up.
struct Told {
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
    /// None once it is over.
    worker: Option<Rc<LuaWorker>>,
}

impl Future for Told {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        let polled = self.timer.as_mut().poll(cx);
        if polled.is_ready() {
            self.worker = None;
        }
        polled
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(w) = self.worker.take() {
            w.debug_plain(|| "lua clean up the timer for pending ngx.sleep");
        }
    }
}
