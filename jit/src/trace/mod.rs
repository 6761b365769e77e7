//! A trace: its IR, its snapshots and where it leads. Knows no bytecode beyond opaque addresses.

pub mod link;
pub mod penalty;
pub mod snapshot;
pub mod text;

use crate::ir::buffer::IrBuf;
use crate::ir::refs::{Ref, SnapNo};
use link::Link;
use snapshot::{Snap, SnapEntry};

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
        for e in self.entries(s) {
            if e.value.is_ins() && !self.ir.ty(e.value).is_pri() && !out.contains(&e.value) {
                out.push(e.value);
            }
        }
        out
    }
}
