//! The code arena: one memfd mapped twice, a writable and an executable view, so that publishing a trace
//! is a copy and no page ever changes its protection.
//!
//! Such a mapping is shared with children of a fork, therefore the arena is made at the first compiled
//! trace and not before. A child that is forked later gets a private copy, made before the fork, and never writes into the shared arena again: the engine makes itself a new one.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

static FORKS: AtomicU64 = AtomicU64::new(0);

/// Arenas of this process that a child needs a copy of: address of the executable view (0 when the row is
/// free), bytes in use from its start, and during a fork the copy with its length.
static ARENAS: [Row; ARENAS_MAX] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0)) };
        ARENAS_MAX];

type Row = (AtomicUsize, AtomicUsize, AtomicUsize, AtomicUsize);

/// Held from before a fork until after it.
static FORKING: AtomicBool = AtomicBool::new(false);

/// Most arenas of one process.
const ARENAS_MAX: usize = 1024;

/// How many forks lie between this process and the one that first used machine code.
pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Before the fork: copies the code, because the parent may change it while the child starts.
extern "C" fn before_fork() {
    while FORKING.swap(true, Ordering::Acquire) {
        std::thread::yield_now();
    }
    for (addr, used, copy, copied) in &ARENAS {
        let (addr, len) = (addr.load(Ordering::Relaxed), used.load(Ordering::Relaxed));
        copied.store(pages(len), Ordering::Relaxed);
        copy.store(if addr != 0 && len != 0 { private_copy(addr, pages(len)) } else { 0 }, Ordering::Relaxed);
    }
}

extern "C" fn in_parent() {
    for (_, _, copy, copied) in &ARENAS {
        let p = copy.swap(0, Ordering::Relaxed);
        if p != 0 {
            let len = copied.load(Ordering::Relaxed);
            // SAFETY: the copy was mapped in `before_fork` and is known to nobody else.
            unsafe { libc::munmap(p as *mut libc::c_void, len) };
        }
    }
    FORKING.store(false, Ordering::Release);
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    for (addr, _, copy, copied) in &ARENAS {
        let p = copy.swap(0, Ordering::Relaxed);
        if p != 0 {
            let (addr, len) = (addr.load(Ordering::Relaxed), copied.load(Ordering::Relaxed));
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            // SAFETY: the copy takes the place of the shared view's first pages in one step, with equal
            // contents, so code in it, even code that is running, does not notice.
            unsafe { libc::mremap(p as *mut libc::c_void, len, len, flags, addr as *mut libc::c_void) };
        }
    }
    FORKING.store(false, Ordering::Release);
}

fn pages(len: usize) -> usize {
    len.div_ceil(4096) * 4096
}

/// A private executable copy of the first `len` bytes of an executable view; 0 when there is no memory.
fn private_copy(addr: usize, len: usize) -> usize {
    // SAFETY: `addr` is the start of a live executable view of at least `len` bytes: rows are cleared before
    // a view is unmapped.
    unsafe {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let p = libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0);
        if p == libc::MAP_FAILED {
            return 0;
        }
        std::ptr::copy_nonoverlapping(addr as *const u8, p.cast::<u8>(), len);
        if libc::mprotect(p, len, libc::PROT_READ | libc::PROT_EXEC) != 0 {
            libc::munmap(p, len);
            return 0;
        }
        p as usize
    }
}

/// From now on, children of a fork copy the arenas and count up [`forks`].
pub fn watch_forks() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: registers a handlers that only use atomics and system calls; they are never unregistered, and
        // the code stays for the process's life.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    });
}

/// Why no code memory could be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArenaError {
    /// The system refused executable memory (hardened kernels do).
    Refused,
    /// The arena's limit is reached.
    Full,
}

/// A piece of code memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    offset: usize,
    len: usize,
}

impl Block {
    fn end(self) -> usize {
        self.offset + self.len
    }
}

/// Dual-mapped code memory with a limit.
#[derive(Debug)]
pub struct Arena {
    rw: NonNull<u8>,
    rx: NonNull<u8>,
    size: usize,
    /// Bytes of the parts in which memory goes back to the system.
    area: usize,
    top: usize,
    /// Free pieces, by offset, not adjacent to one another.
    free: Vec<Block>,
    /// Row in the table of arenas.
    row: usize,
}

const ALIGN: usize = 64;

fn round(n: usize) -> usize {
    n.div_ceil(ALIGN) * ALIGN
}

impl Arena {
    /// Maps an arena of `size` bytes (address space; pages are taken when written, and given back `area` bytes at a time, when
    /// all of them are free).
    pub fn new(size: usize, area: usize) -> Result<Arena, ArenaError> {
        let (size, area) = (pages(size), pages(area.max(1)));
        // SAFETY: plain system calls; the name is a NUL-terminated literal, and every result is checked
        // before it is used. The descriptor is closed on every path; the mappings keep the memory alive.
        unsafe {
            let fd = libc::memfd_create(c"moonlit-code".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(ArenaError::Refused);
            }
            let map = |prot| libc::mmap(std::ptr::null_mut(), size, prot, libc::MAP_SHARED, fd, 0);
            if libc::ftruncate(fd, size as libc::off_t) != 0 {
                libc::close(fd);
                return Err(ArenaError::Refused);
            }
            let rw = map(libc::PROT_READ | libc::PROT_WRITE);
            let rx = map(libc::PROT_READ | libc::PROT_EXEC);
            libc::close(fd);
            if rw == libc::MAP_FAILED || rx == libc::MAP_FAILED {
                for p in [rw, rx] {
                    if p != libc::MAP_FAILED {
                        libc::munmap(p, size);
                    }
                }
                return Err(ArenaError::Refused);
            }
            let (Some(rw), Some(rx)) = (NonNull::new(rw.cast::<u8>()), NonNull::new(rx.cast::<u8>())) else {
                return Err(ArenaError::Refused);
            };
            watch_forks();
            let claim = |(a, ..): &Row| {
                a.compare_exchange(0, rx.as_ptr() as usize, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            };
            let Some(row) = ARENAS.iter().position(claim) else {
                libc::munmap(rw.as_ptr().cast(), size);
                libc::munmap(rx.as_ptr().cast(), size);
                return Err(ArenaError::Full);
            };
            Ok(Arena { rw, rx, size, area, top: 0, free: Vec::new(), row })
        }
    }

    /// Copies code into the arena.
    pub fn publish(&mut self, code: &[u8]) -> Result<Block, ArenaError> {
        let len = round(code.len().max(1));
        let b = self.take(len).ok_or(ArenaError::Full)?;
        // SAFETY: `b` lies within the mapping (`take` checks it against `size`) and is not in use by
        // published code: it came from the free list or from above `top`.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), self.rw.as_ptr().add(b.offset), code.len()) };
        Ok(b)
    }

    fn take(&mut self, len: usize) -> Option<Block> {
        if let Some(i) = self.free.iter().position(|f| f.len >= len) {
            let f = &mut self.free[i];
            let b = Block { offset: f.offset, len };
            f.offset += len;
            f.len -= len;
            if f.len == 0 {
                self.free.remove(i);
            }
            return Some(b);
        }
        (self.top + len <= self.size).then(|| {
            let b = Block { offset: self.top, len };
            self.top += len;
            ARENAS[self.row].1.store(self.top, Ordering::Relaxed);
            b
        })
    }

    /// Gives a piece back. The caller knows that no machine frame is inside it any more.
    pub fn release(&mut self, b: Block) {
        let mut i = self.free.partition_point(|f| f.offset < b.offset);
        self.free.insert(i, b);
        if i + 1 < self.free.len() && self.free[i].end() == self.free[i + 1].offset {
            self.free[i].len += self.free[i + 1].len;
            self.free.remove(i + 1);
        }
        if i > 0 && self.free[i - 1].end() == self.free[i].offset {
            self.free[i - 1].len += self.free[i].len;
            self.free.remove(i);
            i -= 1;
        }
        let mut hole = self.free[i];
        if hole.end() == self.top {
            self.free.remove(i);
            self.top = hole.offset;
            ARENAS[self.row].1.store(self.top, Ordering::Relaxed);
            // What lies above is free, too.
            hole.len = hole.len.next_multiple_of(self.area).min(self.size - hole.offset);
        }
        self.give_back(hole, b);
    }

    /// Gives the areas back that `b` was the last piece in: they lie in the free piece `hole` as a whole.
    fn give_back(&self, hole: Block, b: Block) {
        let area = self.area;
        let from = (b.offset / area * area).max(hole.offset.next_multiple_of(area));
        let to = b.end().next_multiple_of(area).min(hole.end() / area * area);
        if from < to {
            // SAFETY: the range lies within the mapping (the free piece does), and nothing in it is in use. Where the system
            // cannot do it, the memory stays.
            unsafe { libc::madvise(self.rw.as_ptr().add(from).cast(), to - from, libc::MADV_REMOVE) };
        }
    }

    /// Address of a piece in the executable view.
    pub fn address(&self, b: Block) -> usize {
        self.rx.as_ptr() as usize + b.offset
    }

    /// The first `len` bytes of a piece.
    pub fn bytes(&self, b: Block, len: usize) -> Vec<u8> {
        let len = len.min(b.len);
        // SAFETY: `b` came from `take`, so it lies within the mapping, and code in it changes under `&mut self` only.
        unsafe { std::slice::from_raw_parts(self.rw.as_ptr().add(b.offset), len).to_vec() }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.top - self.free.iter().map(|f| f.len).sum::<usize>()
    }

    /// Does the address lie in the executable view?
    pub fn contains(&self, addr: usize) -> bool {
        addr.wrapping_sub(self.rx.as_ptr() as usize) < self.size
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        ARENAS[self.row].1.store(0, Ordering::Relaxed);
        ARENAS[self.row].0.store(0, Ordering::Relaxed);
        // SAFETY: both views were mapped with this size in `new` and are unmapped only here.
        unsafe {
            libc::munmap(self.rw.as_ptr().cast(), self.size);
            libc::munmap(self.rx.as_ptr().cast(), self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pieces_join_and_are_used_again() {
        let mut a = Arena::new(4096, 4096).expect("code memory");
        let b: Vec<_> = (0..5).map(|_| a.publish(&[0x90; 100]).expect("room")).collect();
        assert_eq!(a.used(), 5 * 128);
        a.release(b[1]);
        a.release(b[3]);
        a.release(b[2]);
        assert_eq!(a.free.len(), 1);
        let big = a.publish(&[0xc3; 300]).expect("joined piece is large enough");
        assert_eq!(a.address(big), a.address(b[1]));
        assert_eq!(a.publish(&[0; 8192]), Err(ArenaError::Full));
    }

    #[test]
    fn free_areas_go_back_to_the_system() {
        let area = 8192;
        let mut a = Arena::new(8 * area, area).expect("code memory");
        let b: Vec<_> = (0..16).map(|_| a.publish(&vec![0x90; area / 2]).expect("room")).collect();
        let first = |a: &Arena, n: usize| a.bytes(b[n], 1)[0];
        // Half an area stays.
        a.release(b[2]);
        assert_eq!(first(&a, 2), 0x90);
        a.release(b[3]);
        assert_eq!((first(&a, 1), first(&a, 2), first(&a, 3), first(&a, 4)), (0x90, 0, 0, 0x90));
        // At the end, the arena shrinks.
        a.release(b[15]);
        assert_eq!(first(&a, 15), 0x90);
        a.release(b[14]);
        assert_eq!((a.top, first(&a, 14), first(&a, 13)), (7 * area, 0, 0x90));
        for n in (0..14).filter(|n| ![2, 3].contains(n)) {
            a.release(b[n]);
        }
        assert_eq!((a.top, a.used(), a.free.len()), (0, 0, 0));
        assert!((0..16).all(|n| first(&a, n) == 0));
        a.publish(&[0xc3; 100]).expect("room");
    }
}
