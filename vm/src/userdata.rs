//! Full userdata: a payload with a destructor, a metatable and an environment.

use std::any::TypeId;

use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits};
use crate::heap::Heap;
use crate::heap::arena::Group;
use crate::table::Table;
use crate::value::{Object, Value, tag};

/// A full userdata; the payload (16-byte aligned) follows the struct.
#[repr(C)]
pub struct Userdata {
    /// Header.
    pub hdr: Header,
    /// Metatable.
    pub meta: Option<Gc<Table>>,
    /// Environment.
    pub env: Option<Gc<Table>>,
    /// Payload bytes.
    pub len: u32,
    /// Bytes the payload holds outside the heap, as told by [`Heap::set_udata_extern`].
    pub external: u32,
    /// Identity of the Rust type of the payload (a hash of its `TypeId`), or 0 for plain bytes.
    pub type_id: u64,
    /// Destructor of the payload, run when the object is freed (after `__gc`); must not touch the VM.
    pub drop: Option<unsafe fn(*mut u8)>,
}

// SAFETY: `Userdata` is `repr(C)` and starts with its header of kind `Udata`.
unsafe impl Object for Userdata {
    const TAG: tag::Tag = tag::UDATA;
}

impl Userdata {
    /// Offset of the payload.
    pub const DATA_OFFSET: usize = std::mem::size_of::<Userdata>();

    /// Address of the payload.
    pub fn data_ptr(&self) -> *mut u8 {
        (self as *const Userdata as *mut u8).wrapping_add(Userdata::DATA_OFFSET)
    }
}

/// The identity kept in [`Userdata::type_id`]: cheap, for a payload is looked at with every call of a native
/// that keeps its state in one.
#[inline(always)]
fn type_key<T: 'static>() -> u64 {
    // SAFETY: a `TypeId` is sixteen initialised bytes (`transmute` checks the size), and any bytes are two words.
    let [a, b]: [u64; 2] = unsafe { std::mem::transmute(TypeId::of::<T>()) };
    (a ^ b.rotate_left(32)) | 1
}

/// Destroys a payload of type `T`.
///
/// # Safety
/// `p` points to a `T` that is not used again.
unsafe fn drop_payload<T>(p: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::drop_in_place(p as *mut T) }
}

/// Destroys the payload of a dead userdata.
///
/// # Safety
/// `o` is a userdata whose payload was not destroyed yet.
unsafe fn release(heap: &mut Heap, o: Gc<Header>) {
    // SAFETY: the caller's promise; `drop` belongs to the payload's type.
    unsafe {
        let u = &mut *o.cast::<Userdata>().as_ptr();
        heap.credit_extern(u.external as usize);
        if let Some(f) = u.drop.take() {
            f(u.data_ptr());
        }
    }
}

impl Heap {
    /// A userdata that owns a Rust value. Its destructor runs when the object is freed. The value must not
    /// hold handles, which the collector would not see.
    pub fn new_udata<T: 'static>(&mut self, value: T, meta: Option<Gc<Table>>) -> Gc<Userdata> {
        const { assert!(align_of::<T>() <= 16) };
        let drop: Option<unsafe fn(*mut u8)> =
            if std::mem::needs_drop::<T>() { Some(drop_payload::<T>) } else { None };
        let u = self.udata_alloc(std::mem::size_of::<T>(), type_key::<T>(), drop);
        // SAFETY: the payload has room for a `T` and 16 bytes of alignment; nobody else has seen it.
        unsafe { (u.get(self).data_ptr() as *mut T).write(value) };
        self.set_udata_metatable(u, meta);
        u
    }

    /// A userdata of `len` zero bytes.
    pub fn new_udata_bytes(&mut self, len: usize, meta: Option<Gc<Table>>) -> Gc<Userdata> {
        let u = self.udata_alloc(len, 0, None);
        // SAFETY: the payload has room for `len` bytes.
        unsafe { u.get(self).data_ptr().write_bytes(0, len) };
        self.set_udata_metatable(u, meta);
        u
    }

    fn udata_alloc(&mut self, len: usize, type_id: u64, drop: Option<unsafe fn(*mut u8)>) -> Gc<Userdata> {
        self.release[Kind::Udata as usize] = Some(release);
        // Without a destructor nothing has to be done when it dies.
        let group = if drop.is_some() { Group::Drop } else { Group::Obj };
        let (p, large) = self.alloc(group, Userdata::DATA_OFFSET + len);
        let hdr = Header { kind: Kind::Udata as u8, gc: large, flags: 0, extra: 0, aux: 0 };
        // SAFETY: the allocation has room for the struct.
        unsafe {
            (p as *mut Userdata).write(Userdata {
                hdr,
                meta: None,
                env: None,
                len: len as u32,
                external: 0,
                type_id,
                drop,
            })
        };
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    /// Tells how many bytes the payload holds outside the heap: they count against the limit, and the
    /// collector comes earlier. Only for payloads with a destructor, which frees them.
    pub fn set_udata_extern(&mut self, u: Gc<Userdata>, bytes: usize) {
        let o = u.get_mut(self);
        if o.drop.is_none() {
            return;
        }
        let bytes = bytes.min(u32::MAX as usize);
        let old = std::mem::replace(&mut o.external, bytes as u32) as usize;
        self.charge_extern(bytes);
        self.credit_extern(old);
    }

    /// Sets the metatable, with the barrier. From the first one on the object can have a finalizer.
    pub fn set_udata_metatable(&mut self, u: Gc<Userdata>, meta: Option<Gc<Table>>) {
        let o = u.get_mut(self);
        o.meta = meta;
        if meta.is_some() && o.hdr.gc & gcbits::HAS_FINALIZER == 0 {
            o.hdr.gc |= gcbits::HAS_FINALIZER;
            self.lists.udata.push(u.cast());
        }
        self.barrier(u);
    }
}

impl Gc<Userdata> {
    /// The payload, if it is a `T`.
    pub fn downcast<T: 'static>(self, heap: &Heap) -> Option<&T> {
        let u = self.get(heap);
        if u.type_id != type_key::<T>() {
            return None;
        }
        // SAFETY: the type of the payload was just compared; the borrow is tied to the heap's.
        Some(unsafe { &*(u.data_ptr() as *const T) })
    }

    /// The payload, if it is a `T`, to write.
    pub fn downcast_mut<T: 'static>(self, heap: &mut Heap) -> Option<&mut T> {
        let u = self.get(heap);
        if u.type_id != type_key::<T>() {
            return None;
        }
        // SAFETY: as in `downcast`, and the borrow is exclusive.
        Some(unsafe { &mut *(u.data_ptr() as *mut T) })
    }

    /// Moves the payload out, if it is a `T` with something to drop; the object is plain bytes afterwards.
    pub fn take<T: 'static>(self, heap: &mut Heap) -> Option<T> {
        let u = self.get_mut(heap);
        if u.type_id != type_key::<T>() {
            return None;
        }
        u.type_id = 0;
        u.drop = None;
        // SAFETY: the payload is a `T`, and from here on the object no longer owns it.
        Some(unsafe { (u.data_ptr() as *const T).read() })
    }

    /// As a value.
    pub fn value(self) -> Value {
        Value::obj(self)
    }
}

const _: () = assert!(Userdata::DATA_OFFSET == 48);

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn payload_is_dropped_with_the_heap_and_read_by_type_only() {
        let alive = Rc::new(5);
        let mut h = Heap::new();
        let u = h.new_udata(alive.clone(), None);
        let big = h.new_udata((alive.clone(), [0u8; 2000]), None);
        assert_eq!(u.downcast::<Rc<i32>>(&h).map(|r| **r), Some(5));
        assert!(u.downcast::<i32>(&h).is_none());
        assert!(big.downcast_mut::<(Rc<i32>, [u8; 2000])>(&mut h).is_some());
        let used = h.total_bytes();
        h.set_udata_extern(u, 5000);
        h.set_udata_extern(u, 3000);
        assert_eq!(h.total_bytes(), used + 3000);
        let taken = h.new_udata(alive.clone(), None).take::<Rc<i32>>(&mut h).unwrap();
        drop(taken);
        assert_eq!(Rc::strong_count(&alive), 3);
        drop(h);
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}
