//! Runs as futures, host operations as suspensions, and the phases' `Scripts`.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use moonlit_vm::host::native::{NativeResult, Value, Vm};

use super::args::results;
use super::cache::{NoCode, closure};
use super::thread::{Handoff, Run};
use super::worker::{LuaWorker, here};
use crate::conf::model::{Level, LuaCode};
use crate::flow::filters::{gathers, prepare_head};
use crate::flow::{self, Scripts, Verdict, Wait};
use crate::phase::Phase;
use crate::request::Request;
use crate::request::body::{BodyError, read_body};
use crate::request::response::{Chunk, HeadState};

/// Finishes an operation on the spot if it is ready, else suspends the running code until it is.
/// `finish` turns the result into the native's return values.
pub fn wait<F>(
    vm: &mut Vm,
    mut operation: F,
    mut finish: impl FnMut(&mut Vm, F::Output) -> Vec<Value> + 'static,
) -> NativeResult
where
    F: Future + Unpin + 'static,
{
    let w = here();
    match w.with_cx(|cx| Pin::new(&mut operation).poll(cx)) {
        Poll::Ready(out) => {
            let values = finish(vm, out);
            results(vm, &values)
        }
        Poll::Pending => {
            let pending = move |vm: &mut Vm, cx: &mut Context<'_>| {
                Pin::new(&mut operation).poll(cx).map(|out| finish(vm, out))
            };
            Ok(w.suspend(Handoff::Wait(Box::new(pending)), 0))
        }
    }
}

/// A run as a future: ready when it is over. Dropped, it ends its threads.
pub struct Drive {
    run: Rc<Run>,
    start: Option<Start>,
}

/// What the entry thread is made of.
pub enum Start {
    /// The code of a directive.
    Code(Arc<LuaCode>),
    /// A function with arguments, kept alive.
    Function(Vec<super::worker::Rooted>),
}

/// Drives a run that has not begun.
pub fn drive(run: &Rc<Run>, start: Start) -> Drive {
    Drive { run: run.clone(), start: Some(start) }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        let run = me.run.clone();
        let w = run.worker.clone();
        if let Some(req) = &run.req {
            req.phase.set(run.phase);
        }
        if me.start.is_none() {
            // Time has passed while the run waited.
            crate::http1::clock::update();
            w.enter(|vm| run.watch_client_early(vm, cx));
            if run.is_over() {
                run.kill_all();
                return Poll::Ready(());
            }
        }
        w.enter(|vm| match me.start.take() {
            None => run.advance(vm, cx),
            Some(Start::Code(code)) => match closure(&w, vm, &code, run.req.as_ref()) {
                Ok(f) => run.begin(vm, f, Vec::new(), cx),
                Err(NoCode { status, text }) => {
                    run.failed.set(true);
                    *run.result.borrow_mut() = text.unwrap_or_default();
                    *run.outcome.borrow_mut() = Some(Verdict::Status(status));
                }
            },
            Some(Start::Function(parts)) => {
                let values: Vec<Value> = parts.iter().map(|p| p.get(vm)).collect();
                run.begin(vm, values[0], values[1..].to_vec(), cx);
            }
        });
        while !run.is_over() && run.poll_children(cx) {
            w.enter(|vm| run.advance(vm, cx));
        }
        if !run.is_over() {
            w.enter(|vm| run.watch_client(vm, cx));
        }
        if run.is_over() {
            run.kill_all();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.run.kill_all();
    }
}

/// The phases' view of Lua.
pub struct LuaScripts(pub Rc<LuaWorker>);

impl LuaScripts {
    fn verdict(run: &Run) -> Verdict {
        let req = run.req.as_ref().expect("handlers of phases have a request");
        if let Some(v) = run.outcome.borrow_mut().take() {
            let begun = {
                let res = req.response.borrow();
                res.head != HeadState::Open || !res.lane.is_empty()
            };
            return match v {
                // Output has begun: the status cannot be changed any more.
                Verdict::Status(s) if begun && !matches!(s, 408 | 444 | 499) && !run.failed.get() => {
                    Verdict::Done
                }
                v => v,
            };
        }
        let begun = {
            let res = req.response.borrow();
            res.head != HeadState::Open || !res.lane.is_empty() || res.gathering
        };
        if run.phase == Phase::Content {
            if !begun {
                // A handler that wrote nothing still answers.
                prepare_head(req);
                let gathers = gathers(req);
                req.response.borrow_mut().gathering = gathers;
            }
            return Verdict::Done;
        }
        if begun { Verdict::Done } else { Verdict::Next }
    }
}

/// A request's own VM.
struct OwnVm(Rc<LuaWorker>);

impl Drop for OwnVm {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl LuaScripts {
    /// The VM that a request's code runs in: the worker's, or with `lua_code_cache off` one of its own.
    fn worker_of(&self, req: &Rc<Request>) -> Rc<LuaWorker> {
        if req.location().lua_code_cache {
            return self.0.clone();
        }
        let own = |x: &Box<dyn std::any::Any>| x.downcast_ref::<OwnVm>().map(|o| o.0.clone());
        if let Some(w) = req.at_end.borrow().iter().find_map(own) {
            return w;
        }
        match self.0.fresh.get().map(|make| make()) {
            Some(Ok(w)) => {
                req.at_end.borrow_mut().push(Box::new(OwnVm(w.clone())));
                w
            }
            Some(Err(text)) => {
                req.log(Level::Error, format!("failed to initialize Lua VM: {text}").as_bytes());
                self.0.clone()
            }
            None => self.0.clone(),
        }
    }
}

/// A handler's run as its phase waits for it.
struct Handling(Drive);

impl Future for Handling {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        Pin::new(&mut self.0).poll(cx).map(|()| LuaScripts::verdict(&self.0.run))
    }
}

impl Scripts for LuaScripts {
    fn run(&self, req: &Rc<Request>, phase: Phase, code: &Arc<LuaCode>, cx: &mut Context<'_>) -> flow::Run {
        let run = Run::new(&self.worker_of(req), Some(req), phase);
        let mut handling = Handling(drive(&run, Start::Code(code.clone())));
        if !req.location().lua_need_request_body {
            return match Pin::new(&mut handling).poll(cx) {
                Poll::Ready(verdict) => {
                    drop(handling);
                    Run::give_back(run);
                    flow::Run::Ready(verdict)
                }
                Poll::Pending => flow::Run::Wait(Box::pin(handling)),
            };
        }
        let req = req.clone();
        flow::Run::Wait(Box::pin(async move {
            match read_body(&req).await {
                Ok(()) => handling.await,
                Err(BodyError::Status(s)) => Verdict::Status(s),
                Err(BodyError::Gone) => Verdict::Close,
            }
        }))
    }

    fn set(&self, req: &Rc<Request>, code: &Arc<LuaCode>, args: Vec<Vec<u8>>) -> Wait<Result<Vec<u8>, ()>> {
        let run = Run::new(&self.worker_of(req), Some(req), Phase::Set);
        *run.set_args.borrow_mut() = args;
        let code = code.clone();
        Box::pin(async move {
            drive(&run, Start::Code(code)).await;
            if run.failed.get() { Err(()) } else { Ok(run.result.take()) }
        })
    }

    fn header_filter(&self, req: &Rc<Request>, code: &Arc<LuaCode>) -> Wait<Result<(), u16>> {
        let run = Run::new(&self.worker_of(req), Some(req), Phase::HeaderFilter);
        let code = code.clone();
        Box::pin(async move {
            drive(&run, Start::Code(code)).await;
            if run.failed.get() {
                return Err(0);
            }
            match run.later_exit.get() {
                Some(-1) => Err(0),
                Some(s) if s > 200 => Err(s as u16),
                _ => Ok(()),
            }
        })
    }

    fn body_filter(&self, req: &Rc<Request>, code: &Arc<LuaCode>, chunk: Chunk) -> Wait<Result<Chunk, ()>> {
        let run = Run::new(&self.worker_of(req), Some(req), Phase::BodyFilter);
        let (code, req) = (code.clone(), req.clone());
        Box::pin(async move {
            {
                let mut arg = run.body_arg.borrow_mut();
                arg.data = chunk.data;
                arg.eof = chunk.last;
            }
            drive(&run, Start::Code(code)).await;
            if run.failed.get() {
                return Err(());
            }
            let arg = run.body_arg.take();
            if arg.eof && !chunk.last {
                // The filter ends the response: what comes later is dropped.
                req.response.borrow_mut().eof = true;
            }
            Ok(Chunk { data: arg.data, last: arg.eof, flush: chunk.flush, head_only: false })
        })
    }

    fn balancer(&self, req: &Rc<Request>, code: &Arc<LuaCode>) -> Wait<Result<(), u16>> {
        let run = Run::new(&self.worker_of(req), Some(req), Phase::Balancer);
        let code = code.clone();
        Box::pin(async move {
            drive(&run, Start::Code(code)).await;
            if run.failed.get() {
                return Err(500);
            }
            match run.later_exit.get() {
                Some(s) if s >= 200 => Err(s as u16),
                Some(s) if s < 0 => Err(500),
                _ => Ok(()),
            }
        })
    }

    fn log(&self, req: &Rc<Request>, code: &Arc<LuaCode>) -> Wait<()> {
        let run = Run::new(&self.worker_of(req), Some(req), Phase::Log);
        let code = code.clone();
        Box::pin(async move {
            drive(&run, Start::Code(code)).await;
        })
    }

    fn end(&self, _req: &Rc<Request>) {}
}

/// Runs code that belongs to no request (`init_worker`, `exit_worker`) to its end.
pub async fn run_detached(w: &Rc<LuaWorker>, phase: Phase, code: &Arc<LuaCode>) {
    let run = Run::new(w, None, phase);
    drive(&run, Start::Code(code.clone())).await;
}

/// Runs `init_by_lua` on the spot: there is no runtime, so nothing in it can wait.
pub fn run_init(w: &Rc<LuaWorker>, code: &Arc<LuaCode>) -> Result<(), String> {
    let run = Run::new(w, None, Phase::Init);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut d = drive(&run, Start::Code(code.clone()));
    let over = Pin::new(&mut d).poll(&mut cx).is_ready();
    if !over {
        w.log_plain(Level::Error, b"init_by_lua error: attempt to wait before the workers are there");
        return Err("init_by_lua error: attempt to wait before the workers are there".into());
    }
    if !run.failed.get() {
        return Ok(());
    }
    let text = run.result.take();
    Err(if text.is_empty() {
        "init_by_lua error".into()
    } else {
        String::from_utf8_lossy(&text).into_owned()
    })
}
