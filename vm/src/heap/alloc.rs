//! Allocation: runs of free cells, large objects, and the mechanics of the sweep. Never collects.

use std::alloc::Layout;
use std::ptr::NonNull;

use super::arena::{self, BLOCK, Block, CELL_MAX, CELL_SIZE, CLASSES, FIRST, Group, RUNS};
use super::zeal::Zeal;
use super::{Heap, Phase};
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, gcbits};

/// A run of free cells: the next one, and the end. Both null when there is none.
#[repr(C)]
pub struct Run {
    /// Next free cell.
    pub bump: *mut u8,
    /// End of the run.
    pub end: *mut u8,
}

impl Run {
    /// No cells.
    pub const EMPTY: Run = Run { bump: std::ptr::null_mut(), end: std::ptr::null_mut() };

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.end as usize - self.bump as usize
    }
}

/// A cell of class `class` of the group `Obj`, if the current run has one: for callers that borrow nothing.
///
/// # Safety
/// `heap` is alive and nobody else uses it; `class` is a class.
#[inline(always)]
pub unsafe fn take_cell(heap: *mut Heap, class: usize) -> *mut u8 {
    // SAFETY: the caller's promise; the runs of the first group come first.
    unsafe {
        let r = (&raw mut (*heap).runs as *mut Run).add(class);
        let p = (*r).bump;
        if p < (*r).end {
            (*r).bump = p.wrapping_add(*(&raw const CELL_SIZE as *const u16).add(class) as usize);
            p
        } else {
            std::ptr::null_mut()
        }
    }
}

/// Longest run handed out, bytes: it is charged as a whole.
const RUN_MAX: usize = 8 * 1024;

/// A large object or table part; a [`LargeFront`] lies before it.
#[derive(Clone, Copy)]
pub struct Large {
    /// The object itself.
    pub ptr: NonNull<u8>,
}

/// What lies in front of a large object.
#[repr(C)]
struct LargeFront {
    size: usize,
    /// Cycle that reached it last.
    mark: u32,
    /// Position in the heap's list, and the group in the top two bits.
    index: u32,
}

/// Mark of a large object that no cycle has reached.
const UNMARKED: u32 = 0;
/// Mark of one born while a cycle swept: that sweep passes it over, and it is not marked. One value for every other
/// cycle: the next sweep takes it when nobody reached it.
const NEWBORN: u32 = u32::MAX - 1;

const FRONT: usize = std::mem::size_of::<LargeFront>();
const GROUP_SHIFT: u32 = 30;
const INDEX_MASK: u32 = (1 << GROUP_SHIFT) - 1;
const _: () = assert!(FRONT == 16);

#[inline(always)]
fn front(p: *const u8) -> *mut LargeFront {
    (p as usize - FRONT) as *mut LargeFront
}

fn layout_of(size: usize) -> Layout {
    Layout::from_size_align(size + FRONT, 16).expect("sizes are far below the address space")
}

impl Heap {
    /// Memory for an object or part of `bytes` bytes, 16-byte aligned, uninitialised; and the header bit
    /// it must carry ([`gcbits::LARGE`] or 0). The caller fills it in before anything else happens.
    #[inline(always)]
    pub fn alloc(&mut self, g: Group, bytes: usize) -> (*mut u8, u8) {
        if bytes <= CELL_MAX {
            (self.alloc_cell(g, arena::class_of(bytes)), 0)
        } else {
            (self.alloc_large(g, bytes), gcbits::LARGE)
        }
    }

    /// A cell of a class.
    #[inline(always)]
    pub fn alloc_cell(&mut self, g: Group, class: usize) -> *mut u8 {
        let index = arena::run_index(g, class);
        let r = &mut self.runs[index];
        let p = r.bump;
        if p < r.end {
            r.bump = p.wrapping_add(CELL_SIZE[class] as usize);
            return p;
        }
        self.alloc_slow(index)
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&mut self, index: usize) -> *mut u8 {
        self.refill(index);
        let r = &mut self.runs[index];
        let p = r.bump;
        r.bump = p.wrapping_add(CELL_SIZE[index % CLASSES] as usize);
        p
    }

    /// Finds the next run of a class and charges it.
    fn refill(&mut self, index: usize) {
        let group = index / CLASSES;
        let strings = group == Group::Str as usize;
        // Holes are known only from swept blocks. While dead strings still sit in the intern table,
        // their cells must not be reused.
        let holes = !(strings && self.phase == Phase::SweepStrings);
        loop {
            if let Some(b) = self.blocks[index].current {
                // SAFETY: blocks in the lists are mapped, and the heap is borrowed exclusively.
                let block = unsafe { &mut *b.as_ptr() };
                if let Some((start, end)) = block.next_hole() {
                    let cell = block.cell as usize;
                    let cells = if self.acct.counting() { 1 } else { (RUN_MAX / cell).max(1) };
                    let end = end.min(start + cells * cell);
                    block.scan = end as u32;
                    block.charged += (end - start) as u32;
                    let base = b.as_ptr() as *mut u8;
                    self.runs[index] = Run { bump: base.wrapping_add(start), end: base.wrapping_add(end) };
                    self.acct.charge(end - start);
                    return;
                }
                self.blocks[index].current = None;
            }
            if holes {
                if let Some(b) = self.blocks[index].avail.pop() {
                    self.blocks[index].current = Some(b);
                    continue;
                }
                let l = &self.blocks[index];
                if matches!(self.phase, Phase::Sweep | Phase::SweepStrings) && l.swept < l.sweep_end {
                    self.sweep_block(index);
                    continue;
                }
            }
            let b = self.new_block(index);
            self.blocks[index].blocks.push(b);
            self.blocks[index].current = Some(b);
        }
    }

    fn new_block(&mut self, index: usize) -> Gc<Block> {
        let b = self.chunks.take();
        let cell = CELL_SIZE[index % CLASSES] as u32;
        // SAFETY: the block is fresh and ours; its front was zeroed.
        unsafe {
            let block = b.as_ptr();
            (*block).cell = cell;
            (*block).index = index as u32;
            (*block).scan = FIRST as u32;
            (*block).end = FIRST as u32 + (BLOCK - FIRST) as u32 / cell * cell;
            (*block).live_set = self.mark_set as u32;
            if index / CLASSES == Group::Drop as usize {
                // A zero kind byte tells an unused cell from an object.
                (block as *mut u8).add(FIRST).write_bytes(0, BLOCK - FIRST);
            }
        }
        Gc::from_ptr(b)
    }

    /// Memory for something larger than a cell.
    #[cold]
    pub fn alloc_large(&mut self, g: Group, bytes: usize) -> *mut u8 {
        let layout = layout_of(bytes);
        // SAFETY: the size is not zero.
        let p = unsafe { std::alloc::alloc(layout) };
        if p.is_null() || p as u64 >= 1 << 47 {
            std::alloc::handle_alloc_error(layout);
        }
        // Born after marking ended: this cycle's sweep must not take it. Nobody has looked inside, so it is not
        // marked either; what holds nothing may be.
        let mark = match self.phase {
            Phase::Pause | Phase::Mark => UNMARKED,
            Phase::Sweep | Phase::SweepStrings if g == Group::Str => self.epoch,
            Phase::Sweep | Phase::SweepStrings => self.newborn(),
        };
        let index = self.large.len() as u32 | (g as u32) << GROUP_SHIFT;
        // SAFETY: the front fits before the object in the memory just allocated.
        let obj = unsafe {
            (p as *mut LargeFront).write(LargeFront { size: bytes, mark, index });
            p.add(FRONT)
        };
        self.large.push(Large { ptr: NonNull::new(obj).expect("not null: inside an allocation") });
        self.acct.charge(bytes + FRONT);
        obj
    }

    /// Frees a large part or a dead large object at once. Its contents are not looked at.
    ///
    /// # Safety
    /// `p` came from [`Heap::alloc_large`] of this heap and nothing refers to it any more.
    pub unsafe fn free_large(&mut self, p: *mut u8) {
        // SAFETY: the caller's promise: the front is intact.
        let (size, index) = unsafe { ((*front(p)).size, ((*front(p)).index & INDEX_MASK) as usize) };
        debug_assert!(self.large[index].ptr.as_ptr() == p);
        self.large.swap_remove(index);
        if let Some(moved) = self.large.get(index) {
            let f = front(moved.ptr.as_ptr());
            // SAFETY: every entry of the list has its front.
            unsafe { (*f).index = (*f).index & !INDEX_MASK | index as u32 };
        }
        self.acct.freed(size + FRONT);
        // SAFETY: allocated with this layout in `alloc_large`.
        unsafe { std::alloc::dealloc(front(p) as *mut u8, layout_of(size)) };
    }

    /// Memory for a table part (no header): `bytes` bytes.
    #[inline]
    pub fn alloc_part(&mut self, bytes: usize) -> *mut u8 {
        self.alloc(Group::Part, bytes).0
    }

    /// Makes a large table part larger, where it stands or elsewhere; the new bytes are uninitialised. The system
    /// moves pages instead of bytes, so a growing array costs neither a copy nor twice its memory.
    ///
    /// # Safety
    /// `p` came from [`Heap::alloc_part`] with `old` bytes, more than [`CELL_MAX`]; `new` is not less; nothing
    /// uses `p` afterwards.
    pub unsafe fn grow_part(&mut self, p: *mut u8, old: usize, new: usize) -> *mut u8 {
        // SAFETY: the caller's promise: a large part with its front, which names its place in the list.
        let (moved, index) = unsafe {
            let index = ((*front(p)).index & INDEX_MASK) as usize;
            let moved = std::alloc::realloc(front(p) as *mut u8, layout_of(old), layout_of(new).size());
            (moved, index)
        };
        if moved.is_null() || moved as u64 >= 1 << 47 {
            std::alloc::handle_alloc_error(layout_of(new));
        }
        // SAFETY: the front moved along with the part.
        let part = unsafe {
            (*(moved as *mut LargeFront)).size = new;
            moved.add(FRONT)
        };
        self.large[index].ptr = NonNull::new(part).expect("not null: inside an allocation");
        self.acct.charge(new - old);
        part
    }

    /// A table part is no longer used. Large ones are freed at once, small ones left to the sweep.
    ///
    /// # Safety
    /// `p` came from [`Heap::alloc_part`] with these `bytes`, and nothing refers to it any more.
    pub unsafe fn free_part(&mut self, p: *mut u8, bytes: usize) {
        if bytes > CELL_MAX {
            // Freed before the collector saw it die: as if it had not been allocated.
            self.acct.credit += (bytes + FRONT) as isize;
            // SAFETY: parts of this size are large; the rest is the caller's promise.
            unsafe { self.free_large(p) }
        }
    }

    /// Marks a table part.
    #[inline]
    pub fn mark_part(&mut self, p: *mut u8, bytes: usize) -> bool {
        if bytes > CELL_MAX { self.mark_large(p) } else { self.mark_cell(p) }
    }

    /// Has the running cycle reached this large object?
    #[inline(always)]
    pub fn large_marked(&self, p: *const u8) -> bool {
        // SAFETY: only asked for large objects, which have their front.
        unsafe { (*front(p)).mark == self.epoch }
    }

    /// Marks a large object or part; returns whether it was unmarked.
    #[inline(always)]
    pub fn mark_large(&mut self, p: *mut u8) -> bool {
        // SAFETY: only asked for large objects, which have their front.
        unsafe { std::mem::replace(&mut (*front(p)).mark, self.epoch) != self.epoch }
    }

    /// As [`Heap::mark_large`] for `mark_shared`.
    pub(super) fn mark_large_shared(&self, p: *mut u8) {
        // SAFETY: only asked for large objects, which have their front; nobody keeps a reference to it.
        unsafe { (*front(p)).mark = self.epoch }
    }

    /// Bytes of a large object.
    pub fn large_size(&self, p: *const u8) -> usize {
        // SAFETY: only asked for large objects, which have their front.
        unsafe { (*front(p)).size }
    }

    // -- sweep mechanics; `gc::sweep` decides when

    /// Marking has ended: from now on unmarked cells are free. Runs are given up, so that what is left
    /// of them is found again as holes.
    pub fn begin_sweep(&mut self) {
        for (r, l) in self.runs.iter_mut().zip(&mut self.blocks) {
            *r = Run::EMPTY;
            l.current = None;
            l.avail.clear();
            l.kept = 0;
            l.swept = 0;
            l.sweep_end = l.blocks.len();
        }
        self.large_swept = 0;
        self.sweep_list = 0;
        self.intern.sweep_at = self.intern.slots.len();
        // Those that are dead are not to be found any more.
        self.one_byte.fill(0);
        self.intern.peak = self.intern.live;
        self.acct.live_sum = 0;
    }

    /// A new cycle begins: the other set of bits, clear since the last sweep, takes the marks. In a minor cycle they join
    /// those of the last one.
    pub fn begin_mark(&mut self) {
        if self.gens.minor {
            return;
        }
        self.mark_set ^= 1;
        self.epoch = if self.epoch + 1 == NEWBORN { UNMARKED + 1 } else { self.epoch + 1 };
    }

    /// The mark of large objects born while this cycle sweeps.
    fn newborn(&self) -> u32 {
        NEWBORN + (self.acct.cycles & 1) as u32
    }

    /// Looks at the next block of a list: releases dead objects, frees the block or offers its holes.
    pub fn sweep_block(&mut self, index: usize) {
        let l = &mut self.blocks[index];
        let b = l.blocks[l.swept];
        l.swept += 1;
        let set = self.mark_set as usize;
        let group = index / CLASSES;
        if group == Group::Drop as usize {
            self.release_dead(b, set);
        }
        if self.zeal != Zeal::Off {
            super::zeal::poison_dead(b, set);
        }
        // SAFETY: blocks in the lists are mapped, and the heap is borrowed exclusively.
        let block = unsafe { &mut *b.as_ptr() };
        block.bits[set ^ 1].fill(0);
        block.live_set = set as u32;
        block.scan = FIRST as u32;
        let live = block.count(set) * block.cell;
        let freed = (block.charged - live) as usize;
        block.charged = live;
        self.acct.freed(freed);
        self.acct.live_sum += live as usize;
        let l = &mut self.blocks[index];
        if live == 0 {
            self.chunks.give(NonNull::new(b.as_ptr()).expect("a handle is not null"));
        } else {
            l.blocks[l.kept] = b;
            l.kept += 1;
            // A block with very few holes costs more to refill from than it gives.
            if (BLOCK as u32 - live) > BLOCK as u32 / 16 {
                l.avail.push(b);
            }
        }
        if l.swept == l.sweep_end {
            l.blocks.drain(l.kept..l.sweep_end);
            (l.kept, l.swept, l.sweep_end) = (0, 0, 0);
        }
    }

    fn release_dead(&mut self, b: Gc<Block>, set: usize) {
        // SAFETY: the block is mapped; cells of this group have a kind byte, zero when unused.
        unsafe {
            let (cell, end) = ((*b.as_ptr()).cell as usize, (*b.as_ptr()).end as usize);
            let mut off = FIRST;
            while off < end {
                let h = (b.as_ptr() as *mut u8).add(off) as *mut Header;
                if (*h).kind != 0 && !(*b.as_ptr()).is_set(set, off) {
                    self.release_object(h);
                    (*h).kind = 0;
                }
                off += cell;
            }
        }
    }

    /// Calls the destructor of a dead object.
    ///
    /// # Safety
    /// `h` is a dead object of the group `Drop` that was not released yet.
    unsafe fn release_object(&mut self, h: *mut Header) {
        // SAFETY: the caller's promise.
        let kind = unsafe { (*h).kind } as usize;
        if let (Some(f), Some(o)) = (self.release[kind & 15], Gc::from_addr(h as u64)) {
            // SAFETY: registered for this kind by whoever allocates it.
            unsafe { f(self, o) }
        }
    }

    /// Looks at up to `max` large objects; returns whether all were looked at.
    pub fn sweep_large(&mut self, max: usize) -> bool {
        for _ in 0..max {
            let Some(l) = self.large.get(self.large_swept).copied() else { return true };
            let p = l.ptr.as_ptr();
            // SAFETY: every entry of the list has its front; unmarked ones are referred to by nobody.
            unsafe {
                if (*front(p)).mark == self.newborn() {
                    self.large_swept += 1;
                    continue;
                }
                if (*front(p)).mark == self.epoch {
                    self.large_swept += 1;
                    self.acct.live_sum += (*front(p)).size;
                    continue;
                }
                if (*front(p)).index >> GROUP_SHIFT == Group::Drop as u32 {
                    self.release_object(p as *mut Header);
                }
                self.free_large(p);
            }
        }
        self.large_swept >= self.large.len()
    }

    /// Looks at up to `max` blocks; returns whether all were looked at.
    pub fn sweep_blocks(&mut self, max: usize) -> bool {
        let mut left = max;
        while self.sweep_list < RUNS {
            while self.blocks[self.sweep_list].swept < self.blocks[self.sweep_list].sweep_end {
                if left == 0 {
                    return false;
                }
                left -= 1;
                self.sweep_block(self.sweep_list);
            }
            self.sweep_list += 1;
        }
        true
    }
}

impl Drop for Heap {
    /// Runs the destructors of all objects; finalizers (`__gc`) were the VM's business before.
    fn drop(&mut self) {
        for class in 0..CLASSES {
            let l = std::mem::take(&mut self.blocks[arena::run_index(Group::Drop, class)]);
            let swept = if l.sweep_end > 0 { l.swept } else { 0 };
            for b in l.blocks[..l.kept].iter().chain(&l.blocks[swept.max(l.kept)..]) {
                // SAFETY: the block is mapped; nothing will use its objects any more.
                unsafe {
                    let (cell, end) = ((*b.as_ptr()).cell as usize, (*b.as_ptr()).end as usize);
                    let mut off = FIRST;
                    while off < end {
                        let h = (b.as_ptr() as *mut u8).add(off) as *mut Header;
                        if (*h).kind != 0 {
                            self.release_object(h);
                            (*h).kind = 0;
                        }
                        off += cell;
                    }
                }
            }
        }
        while let Some(l) = self.large.last().copied() {
            let p = l.ptr.as_ptr();
            // SAFETY: every entry of the list has its front; nothing will use it any more.
            unsafe {
                if (*front(p)).index >> GROUP_SHIFT == Group::Drop as u32 {
                    self.release_object(p as *mut Header);
                }
                self.free_large(p);
            }
        }
    }
}
