//! Large futures whose memory is used again: one block per future under way, kept by the worker.
//!
//! A future of several kilobytes is too large for the allocator's fast path; one that is made per request
//! would pay for that each time.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::LocalKey;

/// Blocks that wait for a future.
pub type Blocks = RefCell<Vec<Box<dyn Any>>>;

/// Blocks that a worker keeps of one kind.
const KEPT_MAX: usize = 64;

/// A future in a block of the worker's. Ready, or dropped, it gives the block back.
pub struct Pooled<F: Future + 'static> {
    block: Option<Pin<Box<Option<F>>>>,
    blocks: &'static LocalKey<Blocks>,
}

/// Puts a future into a block. Each kind of future has blocks of its own.
pub fn pooled<F: Future + 'static>(blocks: &'static LocalKey<Blocks>, future: F) -> Pooled<F> {
    let kept = blocks.with_borrow_mut(Vec::pop);
    let block = kept.and_then(|b| b.downcast::<Pin<Box<Option<F>>>>().ok());
    let block = match block {
        Some(mut block) => {
            block.set(Some(future));
            *block
        }
        None => Box::pin(Some(future)),
    };
    Pooled { block: Some(block), blocks }
}

impl<F: Future + 'static> Pooled<F> {
    fn give_back(&mut self) {
        let Some(mut block) = self.block.take() else { return };
        block.set(None);
        // The list may be gone already when the thread ends.
        let _ = self.blocks.try_with(|blocks| {
            let mut blocks = blocks.borrow_mut();
            if blocks.len() < KEPT_MAX {
                blocks.push(Box::new(block));
            }
        });
    }
}

impl<F: Future + 'static> Future for Pooled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.block.as_mut().and_then(|block| block.as_mut().as_pin_mut());
        let result = future.expect("polled after it was ready").poll(cx);
        if result.is_ready() {
            self.give_back();
        }
        result
    }
}

impl<F: Future + 'static> Drop for Pooled<F> {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static BLOCKS: Blocks = const { RefCell::new(Vec::new()) };
    }

    async fn large(n: usize) -> usize {
        let space = [n; 500];
        std::future::ready(()).await;
        space[n % 500]
    }

    #[test]
    fn block_is_used_again_and_unfinished_futures_are_dropped() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut one = Box::pin(pooled(&BLOCKS, large(3)));
        assert_eq!(one.as_mut().poll(&mut cx), Poll::Ready(3));
        assert_eq!(BLOCKS.with_borrow(Vec::len), 1);
        let two = pooled(&BLOCKS, large(4));
        assert_eq!(BLOCKS.with_borrow(Vec::len), 0);
        drop(two);
        drop(one);
        assert_eq!(BLOCKS.with_borrow(Vec::len), 1);
    }
}
