//! Large futures whose memory is used again: runners, each of which does one job after the other.
//!
//! A future of several kilobytes is too large for the allocator's fast path, and to make one means to move it
//! to its place. A runner is made once and never moved; it waits for its next job.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread::LocalKey;

/// Runners that a worker keeps of one kind.
const KEPT_MAX: usize = 64;

/// What a runner and whoever uses it pass to each other.
pub struct Desk<J, R> {
    job: Cell<Option<J>>,
    result: Cell<Option<R>>,
}

impl<J, R> Desk<J, R> {
    /// The next job. To be asked for again when its result is there.
    pub async fn job(&self) -> J {
        poll_fn(|_| self.job.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// The job is done.
    pub fn done(&self, result: R) {
        self.result.set(Some(result));
    }
}

struct Runner<J, R> {
    desk: Rc<Desk<J, R>>,
    future: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// The runners of one kind that have nothing to do.
pub struct Runners<J, R>(RefCell<Vec<Runner<J, R>>>);

impl<J, R> Runners<J, R> {
    /// None yet.
    pub const fn new() -> Runners<J, R> {
        Runners(RefCell::new(Vec::new()))
    }
}

impl<J, R> Default for Runners<J, R> {
    fn default() -> Self {
        Runners::new()
    }
}

/// A job under way. Ready with its result; dropped before, it ends the job and its runner.
pub struct Running<J: 'static, R: 'static> {
    runner: Option<Runner<J, R>>,
    kept: &'static LocalKey<Runners<J, R>>,
}

/// Gives a job to a runner; `make` makes one where all are busy.
pub fn run_on<J, R, F>(
    kept: &'static LocalKey<Runners<J, R>>,
    job: J,
    make: impl FnOnce(Rc<Desk<J, R>>) -> F,
) -> Running<J, R>
where
    F: Future<Output = Infallible> + 'static,
{
    let runner = kept.with(|kept| kept.0.borrow_mut().pop()).unwrap_or_else(|| {
        let desk = Rc::new(Desk { job: Cell::new(None), result: Cell::new(None) });
        Runner { future: Box::pin(make(desk.clone())), desk }
    });
    runner.desk.job.set(Some(job));
    Running { runner: Some(runner), kept }
}

impl<J, R> Future for Running<J, R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let runner = self.runner.as_mut().expect("polled after it was ready");
        let Poll::Pending = runner.future.as_mut().poll(cx);
        let Some(result) = runner.desk.result.take() else { return Poll::Pending };
        let runner = self.runner.take();
        // The list may be gone already when the thread ends.
        let _ = self.kept.try_with(|kept| {
            let mut kept = kept.0.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.extend(runner);
            }
        });
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static KEPT: Runners<usize, usize> = const { Runners::new() };
    }

    async fn double(desk: Rc<Desk<usize, usize>>) -> Infallible {
        loop {
            let n = desk.job().await;
            let space = [n; 500];
            let mut waited = n % 2 == 0;
            poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending })
                .await;
            desk.done(2 * space[n % 500]);
        }
    }

    #[test]
    fn runner_is_used_again_and_one_with_an_unfinished_job_is_not() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let kept = || KEPT.with(|kept| kept.0.borrow().len());
        let mut one = run_on(&KEPT, 3, double);
        assert_eq!(Pin::new(&mut one).poll(&mut cx), Poll::Pending);
        assert_eq!(Pin::new(&mut one).poll(&mut cx), Poll::Ready(6));
        assert_eq!(kept(), 1);
        let mut two = run_on(&KEPT, 4, double);
        assert_eq!(kept(), 0);
        assert_eq!(Pin::new(&mut two).poll(&mut cx), Poll::Ready(8));
        assert_eq!(kept(), 1);
        let mut three = run_on(&KEPT, 5, double);
        assert_eq!(Pin::new(&mut three).poll(&mut cx), Poll::Pending);
        drop(three);
        assert_eq!(kept(), 0);
    }
}
