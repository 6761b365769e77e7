//! `Gc<T>`: a copyable handle to an object. A handle does not keep its object alive.

use std::marker::PhantomData;
use std::ptr::NonNull;

/// Borrowing this proves that no safepoint can run meanwhile. Implemented by the heap alone.
pub trait HeapAccess {}

/// A handle to a heap object. Reading through it asks for the heap, so that no reference lives
/// across a safepoint; the handle itself can become stale, which is why handles are read out of
/// rooted slots only and why this type stays inside the crate and `raw`.
pub struct Gc<T> {
    ptr: NonNull<T>,
    _not_send: PhantomData<*mut T>,
}

impl<T> Clone for Gc<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Gc<T> {}
impl<T> PartialEq for Gc<T> {
    fn eq(&self, other: &Self) -> bool {
        self.ptr == other.ptr
    }
}
impl<T> Eq for Gc<T> {}
impl<T> std::hash::Hash for Gc<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.ptr.hash(state)
    }
}
impl<T> std::fmt::Debug for Gc<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gc@{:x}", self.addr())
    }
}

impl<T> Gc<T> {
    /// Handle from an address; `None` for zero.
    #[inline(always)]
    pub fn from_addr(addr: u64) -> Option<Gc<T>> {
        NonNull::new(addr as *mut T).map(|ptr| Gc { ptr, _not_send: PhantomData })
    }

    /// Handle from a pointer that the heap returned.
    #[inline(always)]
    pub fn from_ptr(ptr: NonNull<T>) -> Gc<T> {
        Gc { ptr, _not_send: PhantomData }
    }

    /// The address.
    #[inline(always)]
    pub fn addr(self) -> u64 {
        self.ptr.as_ptr() as u64
    }

    /// The pointer.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut T {
        self.ptr.as_ptr()
    }

    /// The same object seen as another type (a header, or a kind found out from it).
    #[inline(always)]
    pub fn cast<U>(self) -> Gc<U> {
        Gc { ptr: self.ptr.cast(), _not_send: PhantomData }
    }

    /// Looks inside. The borrow of the heap ends before the next safepoint can run.
    #[inline(always)]
    pub fn get<H: HeapAccess>(self, _heap: &H) -> &T {
        // SAFETY: handles are made only from live objects of this kind (tag check or allocation) and
        // nothing is freed while the heap is borrowed.
        unsafe { self.ptr.as_ref() }
    }

    /// Looks inside, to write. The exclusive borrow of the heap excludes other references into it.
    #[inline(always)]
    pub fn get_mut<H: HeapAccess>(mut self, _heap: &mut H) -> &mut T {
        // SAFETY: as for `get`; `&mut Heap` makes this the only reference into the heap.
        unsafe { self.ptr.as_mut() }
    }
}
