//! A trace: its IR, its snapshots and where it leads. Knows no bytecode beyond opaque addresses.

pub mod link;
pub mod penalty;
pub mod snapshot;
pub mod text;

use crate::ir::buffer::IrBuf;
use crate::ir::refs::{Ref, SnapNo};
use crate::ir::ty::Ty;
use link::Link;
use snapshot::{Snap, SnapEntry};

/// A C function that the trace calls, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CCall {
    /// What is called.
    pub target: Target,
    /// Types of the arguments as they are passed.
    pub args: Vec<Ty>,
    /// Type of the result.
    pub ret: Option<Ty>,
    /// Address of the program's `errno` between calls (32 bits).
    pub errno_saved: u64,
    /// Address of the thread's own `errno`.
    pub errno: u64,
    /// Set if a callback may run meanwhile: the frames are written back first.
    pub frame: Option<CFrame>,
}

/// What a C call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The function at this address, with the arguments in the IR.
    Function(u64),
    /// The ffi's general call with the arguments on the stack.
    Ffi {
        /// Address of the function of the ffi.
        entry: u64,
        /// The ffi's state.
        ffi: u64,
        /// The called object, boxed.
        object: u64,
    },
}

/// A C call with the frames written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CFrame {
    /// Slot of the first argument, from the base of the calling frame.
    pub first: u32,
    /// Number of arguments.
    pub count: u32,
    /// Address of the word that names the VM for callbacks.
    pub calling_vm: u64,
    /// Address of the count of callbacks.
    pub callbacks_run: u64,
    /// Address of the place for the stack position of a call that was made; the result's word follows.
    pub made: u64,
}

/// An object that is made only when the trace is left: it lives in registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sunk {
    /// The allocation.
    pub at: Ref,
    /// Type of the object.
    pub ctypeid: u32,
    /// Its size in bytes.
    pub size: u32,
    /// What was stored in it, in order: position of the store, offset in bytes, type and value.
    pub stores: Vec<(Ref, u32, Ty, Ref)>,
}

/// A trace as recorded and optimised: self-contained, no heap object is followed through it.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Instructions.
    pub ir: IrBuf,
    /// Snapshots in order of their position.
    pub snaps: Vec<Snap>,
    /// Entries of all snapshots.
    pub map: Vec<SnapEntry>,
    /// Where it leads at its end.
    pub link: Link,
    /// C functions that it calls.
    pub ccalls: Vec<CCall>,
    /// Objects that are made at its exits.
    pub sunk: Vec<Sunk>,
    /// Distance in slots from this trace's base to the base of what it links to.
    pub link_base: i32,
}

impl Trace {
    /// Entries of a snapshot.
    pub fn entries(&self, s: SnapNo) -> &[SnapEntry] {
        let s = &self.snaps[s.index()];
        &self.map[s.map as usize..s.map as usize + s.len as usize]
    }

    /// The snapshot through which a guard at `r` leaves.
    pub fn snap_at(&self, r: Ref) -> SnapNo {
        SnapNo::new(self.snaps.iter().rposition(|s| s.at <= r).unwrap_or(0))
    }

    /// Live values of a snapshot, in the order of the exit buffer: every referenced instruction once. `nil`,
    /// `false` and `true` have no value beyond their type and take no place.
    pub fn live_values(&self, s: SnapNo) -> Vec<Ref> {
        let mut out: Vec<Ref> = Vec::new();
        let mut add = |r: Ref| {
            if r.is_ins() && !self.ir.ty(r).is_pri() && !out.contains(&r) {
                out.push(r);
            }
        };
        for e in self.entries(s) {
            match self.sunk_at(e.value) {
                None => add(e.value),
                Some(o) => self.stores_before(o, s).for_each(|(_, _, v)| add(v)),
            }
        }
        out
    }

    /// The object that `r` makes, if it is made only at exits.
    pub fn sunk_at(&self, r: Ref) -> Option<&Sunk> {
        self.sunk.iter().find(|o| o.at == r)
    }

    /// What is in a sunk object when the trace is left through snapshot `s`, in the order of the stores: offset, type, value.
    pub fn stores_before<'a>(
        &self,
        o: &'a Sunk,
        s: SnapNo,
    ) -> impl Iterator<Item = (u32, Ty, Ref)> + use<'a> {
        let end = self.snaps[s.index()].at;
        o.stores.iter().filter(move |(at, ..)| *at < end).map(|&(_, offset, ty, v)| (offset, ty, v))
    }
}
