//! The allocator of the binaries: the system's, with a stock of small blocks in front of it.
//!
//! A table, a request, a socket operation take and give back blocks of a few dozen bytes all the time. The system's
//! allocator keeps seven of each size at hand and does real work beyond that (some 180 instructions for a pair of
//! `malloc` and `free`); the stock answers with ten. Blocks are the system's own, of rounded sizes: any thread may give
//! back what another one took, and a thread without a stock (see [`stock_blocks`]) goes to the system. Rust says how large
//! a block is when it is given back, so there is no header.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;

/// Sizes are rounded up to this; also the alignment of every block.
const STEP: usize = 16;
/// Largest block that is kept.
const BLOCK_MAX: usize = 512;
const CLASSES: usize = BLOCK_MAX / STEP + 1;
/// Blocks of a size, and bytes in blocks of a size, that are kept at most: 640 KB in all, if a program ever used as many of every size.
/// A collection gives back many at once, which the next cycle takes again.
const BLOCKS_KEPT: usize = 128;
const BYTES_KEPT: usize = 24 << 10;

/// The stock of a thread. Never dropped: only threads that live as long as the process have one.
struct Stock {
    /// Free blocks of each size; the first word of a block is the address of the next one.
    free: [*mut u8; CLASSES],
    /// How many more of each size are kept.
    room: [u16; CLASSES],
}

struct Cell(UnsafeCell<Stock>);

thread_local! {
    static STOCK: Cell =
        const { Cell(UnsafeCell::new(Stock { free: [std::ptr::null_mut(); CLASSES], room: [0; CLASSES] })) };
}

/// Gives the calling thread a stock. For threads that do not end before the process does: a stock is not given back.
pub fn stock_blocks() {
    STOCK.with(|s| {
        // SAFETY: the stock belongs to this thread, and nobody else uses it during this call, which allocates nothing.
        let stock = unsafe { &mut *s.0.get() };
        for (class, room) in stock.room.iter_mut().enumerate().skip(1) {
            *room = (BYTES_KEPT / (class * STEP)).min(BLOCKS_KEPT) as u16;
        }
    });
}

/// The allocator.
pub struct Stocked;

/// The size class of a layout; `None` when the system's allocator is to have it as it is.
#[inline(always)]
fn class_of(size: usize, align: usize) -> Option<usize> {
    (size <= BLOCK_MAX && align <= STEP).then(|| size.div_ceil(STEP))
}

#[inline(always)]
fn class_layout(class: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and the size is far from the largest one.
    unsafe { Layout::from_size_align_unchecked(class * STEP, STEP) }
}

// SAFETY: every block comes from `System`, of at least the size asked for and aligned to `STEP` or as asked; a block in the
// stock is in nobody's hands and is handed out once.
unsafe impl GlobalAlloc for Stocked {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout.size(), layout.align()) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        STOCK.with(|s| {
            // SAFETY: the stock belongs to this thread; nothing below comes back here while it is borrowed. A block in it
            // has room for an address.
            unsafe {
                let stock = &mut *s.0.get();
                let p = stock.free[class];
                if p.is_null() {
                    return System.alloc(class_layout(class));
                }
                stock.free[class] = *(p as *const *mut u8);
                stock.room[class] += 1;
                p
            }
        })
    }

    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout.size(), layout.align()) else {
            // SAFETY: the caller's promise.
            return unsafe { System.dealloc(p, layout) };
        };
        STOCK.with(|s| {
            // SAFETY: as in `alloc`; the block was made with the layout of its class and is nobody's any more.
            unsafe {
                let stock = &mut *s.0.get();
                if stock.room[class] == 0 {
                    return System.dealloc(p, class_layout(class));
                }
                stock.room[class] -= 1;
                *(p as *mut *mut u8) = stock.free[class];
                stock.free[class] = p;
            }
        })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class_of(layout.size(), layout.align()).is_none() {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise; the block has the layout's size.
        unsafe {
            let p = self.alloc(layout);
            if !p.is_null() {
                p.write_bytes(0, layout.size());
            }
            p
        }
    }

    #[inline]
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (old, new) = (class_of(layout.size(), layout.align()), class_of(size, layout.align()));
        match (old, new) {
            (Some(a), Some(b)) if a == b => p,
            // SAFETY: the caller's promise, and the layout is the one the block was made with.
            (None, None) => unsafe { System.realloc(p, layout, size) },
            // SAFETY: the caller's promise. A block leaves its class for a size that the system keeps as it is.
            (Some(a), None) => unsafe { System.realloc(p, class_layout(a), size) },
            // SAFETY: the caller's promises; both blocks hold the bytes that are copied, and are different ones.
            _ => unsafe {
                let new_layout = Layout::from_size_align_unchecked(size, layout.align());
                let q = self.alloc(new_layout);
                if !q.is_null() {
                    std::ptr::copy_nonoverlapping(p, q, layout.size().min(size));
                    self.dealloc(p, layout);
                }
                q
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of every size keep their contents while they are made larger and smaller, with a stock and without.
    #[test]
    fn blocks_keep_their_contents() {
        let walk = || {
            let sizes = [1, 15, 16, 17, 100, 500, 512, 513, 5000, 513, 512, 300, 16, 3];
            let mut held = Vec::new();
            for round in 0..300usize {
                let mut layout = Layout::from_size_align(sizes[round % sizes.len()], 8).unwrap();
                let fill = round as u8;
                // SAFETY: sizes are not zero, and every block is used within its size.
                unsafe {
                    let mut p = Stocked.alloc(layout);
                    p.write_bytes(fill, layout.size());
                    for size in sizes {
                        let kept = layout.size().min(size);
                        p = Stocked.realloc(p, layout, size);
                        layout = Layout::from_size_align(size, 8).unwrap();
                        assert!((0..kept).all(|i| *p.add(i) == fill), "{size}");
                        p.write_bytes(fill, size);
                    }
                    assert_eq!(p as usize % STEP, 0);
                    held.push((p, layout, fill));
                    let zeroed = Stocked.alloc_zeroed(layout);
                    assert!((0..layout.size()).all(|i| *zeroed.add(i) == 0));
                    Stocked.dealloc(zeroed, layout);
                }
            }
            for (p, layout, fill) in held {
                // SAFETY: the block is the caller's until it is given back here.
                unsafe {
                    assert!((0..layout.size()).all(|i| *p.add(i) == fill));
                    Stocked.dealloc(p, layout);
                }
            }
        };
        std::thread::spawn(walk).join().unwrap();
        std::thread::spawn(move || {
            stock_blocks();
            walk();
            // What is kept is bounded.
            STOCK.with(|s| {
                // SAFETY: nobody else looks at this thread's stock.
                let room = unsafe { (*s.0.get()).room };
                assert!(
                    room[1] < BLOCKS_KEPT as u16 && room.iter().skip(1).all(|r| *r <= BLOCKS_KEPT as u16)
                );
            });
        })
        .join()
        .unwrap();
    }

    #[test]
    fn blocks_may_be_given_back_by_another_thread() {
        let layout = Layout::from_size_align(40, 8).unwrap();
        // SAFETY: the size is not zero; each block is given back once.
        let blocks: Vec<usize> = (0..500).map(|_| unsafe { Stocked.alloc(layout) } as usize).collect();
        std::thread::spawn(move || {
            stock_blocks();
            // SAFETY: as above.
            blocks.iter().for_each(|&p| unsafe { Stocked.dealloc(p as *mut u8, layout) });
            let again: std::collections::HashSet<usize> =
                // SAFETY: as above; these are left to the end of the process.
                (0..500).map(|_| unsafe { Stocked.alloc(layout) } as usize).collect();
            assert_eq!(again.len(), 500);
        })
        .join()
        .unwrap();
    }
}
