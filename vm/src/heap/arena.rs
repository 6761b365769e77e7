//! Blocks of equal cells with mark bits beside them. Knows cells, not objects.
//!
//! ```text
//!   chunk (1 MiB and more, from the system) = blocks of 64 KiB, aligned to their size
//!   block = | bits[2]: one bit per 16 bytes, twice | header | cell | cell | ...
//! ```
//! An object's bit is the one of the 16 bytes it starts in. Two sets of bits: one is being built by
//! the running cycle, the other still says which cells the last cycle found alive.

use std::ptr::NonNull;

/// Bytes of a block; blocks are aligned to it.
pub const BLOCK: usize = 64 * 1024;
/// Bytes one mark bit stands for.
pub const GRANULE: usize = 16;
/// Words of one bitmap.
pub const WORDS: usize = BLOCK / GRANULE / 64;

/// Size classes: by 16 up to 256, then four coarser ones.
pub const CLASSES: usize = 20;
/// Largest cell, bytes. What is larger is a large object.
pub const CELL_MAX: usize = 512;

/// Cell size of each class, bytes.
pub static CELL_SIZE: [u16; CLASSES] = SIZES;
const SIZES: [u16; CLASSES] = {
    let mut t = [0u16; CLASSES];
    let mut i = 0;
    while i < 16 {
        t[i] = (i as u16 + 1) * 16;
        i += 1;
    }
    t[16] = 320;
    t[17] = 384;
    t[18] = 448;
    t[19] = 512;
    t
};

/// Class of a size in granules (`ceil(bytes / 16)`).
static CLASS_OF_GRANULES: [u8; CELL_MAX / GRANULE + 1] = CLASS_OF;
const CLASS_OF: [u8; CELL_MAX / GRANULE + 1] = {
    let mut t = [0u8; CELL_MAX / GRANULE + 1];
    let mut g = 1;
    while g <= CELL_MAX / GRANULE {
        let mut c = 0;
        while (SIZES[c] as usize) < g * GRANULE {
            c += 1;
        }
        t[g] = c as u8;
        g += 1;
    }
    t
};

/// Class of a size in bytes; the size is at most [`CELL_MAX`].
#[inline(always)]
pub const fn class_of(bytes: usize) -> usize {
    CLASS_OF[bytes.div_ceil(GRANULE)] as usize
}

/// [`class_of`] without a check of the size.
///
/// # Safety
/// `bytes` is at most [`CELL_MAX`].
#[inline(always)]
pub unsafe fn class_of_small(bytes: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { *(&raw const CLASS_OF_GRANULES as *const u8).add((bytes + GRANULE - 1) / GRANULE) as usize }
}

/// What lives in a block. Each group has blocks of its own, so that a sweep knows what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Group {
    /// Objects that hold references and need nothing done when they die.
    Obj = 0,
    /// Strings.
    Str = 1,
    /// Objects with something to release: coroutines, userdata.
    Drop = 2,
    /// Parts of tables: no header, kept alive by their table.
    Part = 3,
}

/// Number of groups.
pub const GROUPS: usize = 4;
/// Number of run slots: one per group and class.
pub const RUNS: usize = GROUPS * CLASSES;

/// Slot of a group and class.
#[inline(always)]
pub const fn run_index(g: Group, class: usize) -> usize {
    g as usize * CLASSES + class
}

/// Front of a block.
#[repr(C)]
pub struct Block {
    /// Mark bits, two sets.
    pub bits: [[u64; WORDS]; 2],
    /// Bytes per cell.
    pub cell: u32,
    /// Bytes handed out and not known dead.
    pub charged: u32,
    /// Where the allocator looks next for a hole (byte offset); `BLOCK` when it is through.
    pub scan: u32,
    /// Group and class, as a run index.
    pub index: u32,
    /// Offset behind the last cell.
    pub end: u32,
    /// Set of bits that tells live cells from holes.
    pub live_set: u32,
    _pad: [u32; 10],
}

/// Offset of the first cell.
pub const FIRST: usize = std::mem::size_of::<Block>();
const _: () = assert!(FIRST.is_multiple_of(GRANULE) && FIRST == 1088);

/// Asks the processor to fetch a line.
#[inline(always)]
pub fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect a program can observe, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch(p as *const i8, std::arch::x86_64::_MM_HINT_T0)
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// The block an arena cell lies in.
#[inline(always)]
pub fn block_of(p: *const u8) -> *mut Block {
    (p as usize & !(BLOCK - 1)) as *mut Block
}

/// Address of the mark word of a cell, for [`prefetch`]; of a large object, some address.
#[inline(always)]
pub fn mark_word(p: *const u8, set: u8) -> *const u8 {
    let (w, _) = bit_of(p);
    (block_of(p) as *const u8).wrapping_add((set as usize * WORDS + w) * 8)
}

/// Word and bit of a cell.
#[inline(always)]
pub fn bit_of(p: *const u8) -> (usize, u64) {
    let g = (p as usize & (BLOCK - 1)) / GRANULE;
    (g / 64, 1 << (g % 64))
}

impl Block {
    /// First offset at or above `from` whose bit is set, or `BLOCK`.
    pub fn next_set(&self, set: usize, from: usize) -> usize {
        let mut w = from / GRANULE / 64;
        if w >= WORDS {
            return BLOCK;
        }
        let mut word = self.bits[set][w] & (!0u64 << (from / GRANULE % 64));
        loop {
            if word != 0 {
                return (w * 64 + word.trailing_zeros() as usize) * GRANULE;
            }
            w += 1;
            if w == WORDS {
                return BLOCK;
            }
            word = self.bits[set][w];
        }
    }

    /// Is the bit of the cell at `off` set?
    #[inline(always)]
    pub fn is_set(&self, set: usize, off: usize) -> bool {
        let g = off / GRANULE;
        self.bits[set][g / 64] >> (g % 64) & 1 != 0
    }

    /// Number of bits set.
    pub fn count(&self, set: usize) -> u32 {
        self.bits[set].iter().map(|w| w.count_ones()).sum()
    }

    /// The next hole at or after `scan`: offsets of its start and end. `None` when there is none left.
    pub fn next_hole(&mut self) -> Option<(usize, usize)> {
        let (set, cell, end) = (self.live_set as usize, self.cell as usize, self.end as usize);
        let mut p = self.scan as usize;
        while p < end && self.is_set(set, p) {
            p += cell;
        }
        if p >= end {
            self.scan = BLOCK as u32;
            return None;
        }
        let e = self.next_set(set, p).min(end);
        self.scan = e as u32;
        Some((p, e))
    }
}

/// Memory from the system, cut into blocks.
pub struct Chunks {
    /// Address and size of each chunk.
    chunks: Vec<(NonNull<u8>, usize)>,
    /// Blocks nobody uses.
    free: Vec<NonNull<u8>>,
    /// Free blocks whose pages were given back to the system.
    returned: Vec<NonNull<u8>>,
    /// Bytes mapped.
    mapped: usize,
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks::new()
    }
}

impl Chunks {
    /// No memory yet.
    pub const fn new() -> Chunks {
        Chunks { chunks: Vec::new(), free: Vec::new(), returned: Vec::new(), mapped: 0 }
    }

    /// Bytes of address space taken from the system.
    pub fn mapped(&self) -> usize {
        self.mapped
    }

    /// Blocks that are free and still hold pages.
    pub fn idle(&self) -> usize {
        self.free.len()
    }

    /// A block with cleared bits. Aborts the process when the system has no memory left.
    pub fn take(&mut self) -> NonNull<Block> {
        if let Some(p) = self.free.pop() {
            // SAFETY: the block is ours and unused; its front is plain data.
            unsafe { p.as_ptr().write_bytes(0, FIRST) };
            return p.cast();
        }
        if let Some(p) = self.returned.pop() {
            return p.cast();
        }
        self.grow();
        match self.returned.pop() {
            Some(p) => p.cast(),
            None => std::alloc::handle_alloc_error(
                std::alloc::Layout::from_size_align(BLOCK, BLOCK).expect("constant layout"),
            ),
        }
    }

    /// Takes a block back.
    pub fn give(&mut self, b: NonNull<Block>) {
        self.free.push(b.cast());
    }

    fn grow(&mut self) {
        let size = match self.mapped >> 20 {
            0..4 => 1 << 20,
            4..64 => 4 << 20,
            _ => 32 << 20,
        };
        let Some(base) = sys::map(size) else { return };
        self.chunks.push((base, size));
        self.mapped += size;
        for i in (0..size / BLOCK).rev() {
            // SAFETY: `i * BLOCK` lies inside the mapping just made.
            self.returned.push(unsafe { base.add(i * BLOCK) });
        }
    }

    /// Gives the pages of free blocks back to the system, except for `keep` blocks.
    pub fn release(&mut self, keep: usize) {
        while self.free.len() > keep {
            let Some(p) = self.free.pop() else { break };
            // SAFETY: the block is ours and unused; its contents may be lost.
            unsafe { sys::discard(p, BLOCK) };
            self.returned.push(p);
        }
    }
}

/// Gives back what the system's allocator holds of freed memory: large objects, stacks and buffers come from it. It looks at
/// all it has.
pub fn release_freed() {
    sys::trim();
}

impl Drop for Chunks {
    fn drop(&mut self) {
        for (p, size) in self.chunks.drain(..) {
            // SAFETY: mapped by `grow` with this size; the heap that used it is going away.
            unsafe { sys::unmap(p, size) };
        }
    }
}

#[cfg(target_os = "linux")]
mod sys {
    use super::{BLOCK, NonNull};

    /// Maps zeroed memory aligned to a block. Addresses lie below 2^47 on every system we map on: the
    /// result is checked, because a value has no more room.
    pub fn map(size: usize) -> Option<NonNull<u8>> {
        // SAFETY: an anonymous private mapping at a place of the system's choice; the ends that are cut
        // off belong to it and to nobody else.
        unsafe {
            let p = libc::mmap(
                std::ptr::null_mut(),
                size + BLOCK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if p == libc::MAP_FAILED {
                return None;
            }
            let start = p as usize;
            let base = (start + BLOCK - 1) & !(BLOCK - 1);
            if base > start {
                libc::munmap(p, base - start);
            }
            let end = start + size + BLOCK;
            if end > base + size {
                libc::munmap((base + size) as *mut libc::c_void, end - base - size);
            }
            if base + size > 1 << 47 {
                libc::munmap(base as *mut libc::c_void, size);
                return None;
            }
            // No huge pages: the system clears each of them in one go, which is the longest stop a program would see
            // (6 ms and more on a virtual machine, against 0.5 ms of the longest collector step), for 4 % of speed.
            NonNull::new(base as *mut u8)
        }
    }

    /// Gives the pages back; they read as zero afterwards.
    ///
    /// # Safety
    /// `p..p + size` is mapped by [`map`] and holds nothing of value.
    pub unsafe fn discard(p: NonNull<u8>, size: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::madvise(p.as_ptr() as *mut libc::c_void, size, libc::MADV_DONTNEED) };
    }

    /// # Safety
    /// `p` and `size` are those of a mapping made by [`map`]; nothing uses it any more.
    pub unsafe fn unmap(p: NonNull<u8>, size: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(p.as_ptr() as *mut libc::c_void, size) };
    }

    /// The allocator's free pages go back.
    pub fn trim() {
        // SAFETY: it touches free memory only.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0)
        };
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use super::{BLOCK, NonNull};
    use std::alloc::Layout;

    /// Zeroed memory aligned to a block.
    pub fn map(size: usize) -> Option<NonNull<u8>> {
        let layout = Layout::from_size_align(size, BLOCK).ok()?;
        // SAFETY: the size is not zero.
        let p = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        if p.as_ptr() as usize + size > 1 << 47 {
            // SAFETY: allocated just above with this layout.
            unsafe { std::alloc::dealloc(p.as_ptr(), layout) };
            return None;
        }
        Some(p)
    }

    /// Clears the pages (there is no portable way to give them back).
    ///
    /// # Safety
    /// `p..p + size` belongs to a [`map`]ped area and holds nothing of value.
    pub unsafe fn discard(p: NonNull<u8>, size: usize) {
        // SAFETY: the caller's promise.
        unsafe { p.as_ptr().write_bytes(0, size) };
    }

    /// # Safety
    /// `p` and `size` are those of an area made by [`map`]; nothing uses it any more.
    pub unsafe fn unmap(p: NonNull<u8>, size: usize) {
        let layout = Layout::from_size_align(size, BLOCK).expect("the layout it was made with");
        // SAFETY: the caller's promise.
        unsafe { std::alloc::dealloc(p.as_ptr(), layout) };
    }

    /// Nothing: there is no portable way.
    pub fn trim() {}
}
