//! A mapping shared by forked processes under a robust process-shared mutex.
//!
//! The lock hands out the zone's bytes as one mutable slice, so everything
//! above this file is safe code with range-checked offsets. A mutation sets the
//! dirty flag before its first write and clears it when it is complete; whoever
//! finds the flag set under a fresh lock knows that its predecessor died (or
//! panicked) half-way. This file must not know what the bytes mean.
//!
//! ```text
//! +0     pthread_mutex_t, dirty flag     CONTROL_BYTES, never in the slice
//! +128   zone bytes                      what `Guard` shows
//! ```

use std::cell::UnsafeCell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::mapping::Mapping;

/// Bytes in front of the zone's own bytes, for the lock and the dirty flag.
const CONTROL_BYTES: usize = 128;

/// Lock and flag at the start of the mapping.
#[repr(C)]
struct Control {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    dirty: AtomicU32,
}

const _: () = assert!(size_of::<Control>() <= CONTROL_BYTES);

/// The mapping with its lock. Children forked after its creation share it.
pub struct Region {
    map: Mapping,
    len: usize,
}

// SAFETY: the mapping's bytes are reached only through `Guard`, which holds the process-shared
// mutex, and through the atomic flag; the mapping lives as long as the `Region`.
unsafe impl Send for Region {}
// SAFETY: as above; the mutex excludes threads just as it excludes processes.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` zeroed bytes and initialises the lock. Errors are the system's.
    pub fn new(len: usize) -> io::Result<Region> {
        let total = len.checked_add(CONTROL_BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        let region = Region { map: Mapping::new(total)?, len };
        region.init_mutex()?;
        Ok(region)
    }

    fn control(&self) -> &Control {
        // SAFETY: the mapping starts page-aligned, is longer than `Control` (asserted above), and zeroed
        // bytes are a valid `Control`; both fields allow shared mutation.
        unsafe { self.map.base().cast::<Control>().as_ref() }
    }

    fn init_mutex(&self) -> io::Result<()> {
        let check = |rc: libc::c_int| if rc == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(rc)) };
        // SAFETY: a zeroed attribute object is storage for pthread_mutexattr_init to fill.
        let mut attr: libc::pthread_mutexattr_t = unsafe { std::mem::zeroed() };
        // SAFETY: `attr` lives on this stack; the mutex storage is ours alone, nobody else knows it yet.
        unsafe {
            check(libc::pthread_mutexattr_init(&mut attr))?;
            check(libc::pthread_mutexattr_setpshared(&mut attr, libc::PTHREAD_PROCESS_SHARED))?;
            check(libc::pthread_mutexattr_setrobust(&mut attr, libc::PTHREAD_MUTEX_ROBUST))?;
            check(libc::pthread_mutex_init(self.control().mutex.get(), &attr))?;
            check(libc::pthread_mutexattr_destroy(&mut attr))
        }
    }

    /// Length of the zone's bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the zone has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the lock. `Guard::was_dirty` tells whether the last holder left a mutation unfinished.
    pub fn lock(&self) -> Guard<'_> {
        let c = self.control();
        // SAFETY: the mutex was initialised in `new` and is never destroyed while mapped.
        let rc = unsafe { libc::pthread_mutex_lock(c.mutex.get()) };
        if rc == libc::EOWNERDEAD {
            // SAFETY: EOWNERDEAD means that we hold the mutex in its inconsistent state, the one state in
            // which this call is allowed. The bytes are judged by the dirty flag.
            unsafe { libc::pthread_mutex_consistent(c.mutex.get()) };
        } else if rc != 0 {
            // ENOTRECOVERABLE and EDEADLK cannot happen: every EOWNERDEAD is made consistent, and no
            // guard is taken twice by one thread. Going on without the lock would corrupt the zone.
            panic!("shared zone lock failed: {}", io::Error::from_raw_os_error(rc));
        }
        let was_dirty = c.dirty.load(Ordering::Relaxed) != 0;
        Guard { region: self, was_dirty, owner_died: rc == libc::EOWNERDEAD }
    }
}

/// The lock, held; dereferences to the zone's bytes.
pub struct Guard<'a> {
    region: &'a Region,
    was_dirty: bool,
    owner_died: bool,
}

impl Guard<'_> {
    /// A former holder did not finish its mutation: the bytes cannot be trusted.
    pub fn was_dirty(&self) -> bool {
        self.was_dirty
    }

    /// The former holder died with the lock in its hands.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Announces a mutation. Must come before its first write.
    pub fn set_dirty(&mut self) {
        self.region.control().dirty.store(1, Ordering::Relaxed);
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    /// Declares the bytes consistent again.
    pub fn set_clean(&mut self) {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        self.region.control().dirty.store(0, Ordering::Relaxed);
        self.was_dirty = false;
    }
}

impl Deref for Guard<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies inside the mapping made in `Region::new`; the mutex is held, so no other
        // thread or process writes while the returned borrow (tied to the guard) lives.
        unsafe {
            std::slice::from_raw_parts(self.region.map.base().as_ptr().add(CONTROL_BYTES), self.region.len)
        }
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the borrow is exclusive because it comes from `&mut self`.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.region.map.base().as_ptr().add(CONTROL_BYTES),
                self.region.len,
            )
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread holds the mutex since `Region::lock`.
        unsafe { libc::pthread_mutex_unlock(self.region.control().mutex.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_written_under_the_lock_are_seen_by_the_next_holder() {
        let r = Region::new(4096).unwrap();
        r.lock()[4095] = 7;
        let g = r.lock();
        assert_eq!(g[4095], 7);
        assert!(!g.was_dirty());
    }

    #[test]
    fn unfinished_mutation_shows_as_dirty() {
        let r = Region::new(64).unwrap();
        {
            let mut g = r.lock();
            g.set_dirty();
        }
        let mut g = r.lock();
        assert!(g.was_dirty());
        g.set_clean();
        drop(g);
        assert!(!r.lock().was_dirty());
    }

    use super::super::shdict::{ShDict, StoreMode, Value};
    use std::sync::atomic::AtomicUsize;

    fn fork(child: impl FnOnce()) -> libc::pid_t {
        // SAFETY: the child runs only `child` and then leaves without running any destructor of the parent.
        match unsafe { libc::fork() } {
            0 => {
                child();
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(0) }
            }
            pid => pid,
        }
    }

    fn wait(pid: libc::pid_t) -> i32 {
        let mut status = 0;
        // SAFETY: `pid` is a child of ours and `status` lives on this stack.
        unsafe { libc::waitpid(pid, &mut status, 0) };
        status
    }

    static ALERTS: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn child_killed_inside_a_mutation_leaves_an_emptied_usable_zone() {
        let d = ShDict::new("z", 64 * 1024, |_| {
            ALERTS.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        d.store(StoreMode::Set, false, b"k", Value::Number(1.0), 0, 0, 1).unwrap();
        let status = wait(fork(|| {
            let mut g = d.region().lock();
            g.set_dirty();
            g[300..4000].fill(0xff);
            // SAFETY: signals the child itself; the lock stays held by a dead process.
            unsafe { libc::raise(libc::SIGKILL) };
        }));
        assert_eq!(libc::WTERMSIG(status), libc::SIGKILL);
        assert_eq!(d.get(b"k", 1, false, |f| f.is_some()), Ok(false));
        assert_eq!(ALERTS.load(Ordering::Relaxed), 1);
        d.store(StoreMode::Set, false, b"k", Value::Number(2.0), 0, 0, 1).unwrap();
        assert_eq!(d.get(b"k", 1, false, |f| f.is_some()), Ok(true));
        assert!(d.check());
    }

    #[test]
    fn child_killed_at_any_moment_leaves_a_consistent_zone() {
        let d = ShDict::new("z", 64 * 1024, |_| {}).unwrap();
        for round in 0..12u64 {
            let pid = fork(|| {
                let mut i = 0u64;
                loop {
                    i += 1;
                    let k = (i % 97).to_string();
                    let v = [b'v'; 900];
                    let n = (i * 37 % 900) as usize;
                    let _ = d.store(StoreMode::Set, false, k.as_bytes(), Value::String(&v[..n]), 0, 0, i);
                    let _ = d.push(b"list", i % 2 == 0, Value::Number(1.0), i);
                    if i % 5 == 0 {
                        let _ = d.pop(b"list", true, i);
                    }
                }
            });
            std::thread::sleep(std::time::Duration::from_micros(1500 + round * 731));
            // SAFETY: `pid` is our own child, not yet waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            wait(pid);
            assert!(d.check());
            d.store(StoreMode::Set, false, b"after", Value::Bool(true), 0, 0, 1).unwrap();
        }
    }
}
