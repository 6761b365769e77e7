//! Heap mechanics: cells, headers, handles, accounting. Knows no object kinds beyond their headers.

pub mod accounting;
pub mod alloc;
pub mod arena;
pub mod barrier;
pub mod roots;
pub mod str_numbers;
pub mod zeal;

pub use crate::cell::{gc_ref, header};

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};

use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use crate::index::TraceNo;
use accounting::Accounting;
use alloc::{Large, Run};
use arena::{Chunks, RUNS};
use roots::Roots;
use str_numbers::StrNumbers;
use zeal::Zeal;

/// What the collector is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Nothing; the next cycle has not begun.
    Pause = 0,
    /// Marking.
    Mark = 1,
    /// Throwing dead strings out of the intern table.
    SweepStrings = 2,
    /// Looking for dead cells.
    Sweep = 3,
}

/// The intern table's slots; the code is in `string::intern`.
pub struct InternSlots {
    /// Zero: empty; 1: deleted; else address with [`InternSlots::LARGE`] and some bits of the hash above.
    pub slots: Box<[u64]>,
    /// Strings in the table.
    pub live: usize,
    /// Slots that are not empty.
    pub used: usize,
    /// While in [`Phase::SweepStrings`]: slots below this position have still to be looked at.
    pub sweep_at: usize,
    /// Most strings that were in the table since its last sweep.
    pub peak: usize,
}

impl InternSlots {
    /// Bit of a slot: the string is a large object.
    pub const LARGE: u64 = 2;
    /// A deleted slot.
    pub const DELETED: u64 = 1;
}

/// Releases what a dead object holds outside the heap.
///
/// Called with a dead object of the kind it was registered for, once; must not allocate.
pub type Release = unsafe fn(&mut Heap, Gc<Header>);

/// The blocks of one group and class.
#[derive(Default)]
pub struct BlockList {
    /// All blocks. While sweeping, those in `kept..swept` are gone and those from `swept` to
    /// `sweep_end` still have to be looked at.
    pub blocks: Vec<Gc<arena::Block>>,
    /// Blocks that may have holes, to allocate from.
    pub avail: Vec<Gc<arena::Block>>,
    /// The block the current run was cut from.
    pub current: Option<Gc<arena::Block>>,
    /// Sweep: blocks kept so far.
    pub kept: usize,
    /// Sweep: next block to look at.
    pub swept: usize,
    /// Sweep: end of the blocks that existed when marking ended.
    pub sweep_end: usize,
}

/// Lists of the collector that the barrier and the allocator have to reach.
pub struct Lists {
    /// Marked objects whose contents have not been looked at.
    pub gray: Vec<Gc<Header>>,
    /// Objects written to after they had been looked at; between cycles, old ones written to since.
    pub again: Vec<Gc<Header>>,
    /// Large tables that are looked at slice by slice: position to go on from.
    pub sliced: Vec<(Gc<Header>, usize)>,
    /// Weak tables met in this cycle.
    pub weak: Vec<Gc<Header>>,
    /// The running coroutine, as of this step.
    pub running: Option<Gc<Header>>,
    /// Live coroutines met in this cycle; between cycles the old ones.
    pub threads: Vec<Gc<Header>>,
    /// Userdata that ever had a metatable, oldest first.
    pub udata: Vec<Gc<Header>>,
    /// C data with a finalizer, oldest first.
    pub cdata: Vec<Gc<Header>>,
    /// Dead objects whose finalizer has to be called, in this order.
    pub finalize: VecDeque<Gc<Header>>,
    /// Traces of the prototypes met in this cycle, to be marked.
    pub traced: Vec<TraceNo>,
    /// Prototypes with traces.
    pub traced_protos: Vec<Gc<Header>>,
    /// Steps made in the stress mode.
    pub small_steps: u32,
    /// How often this cycle has looked again at what was written to.
    pub rounds: u32,
}

/// What the collector knows of generations; `gc::pace` decides with it.
///
/// After a cycle its marks may stay: what has them is old, and the next cycle (a minor one) looks only at what is new, at
/// the roots, and at old objects that were written to.
#[derive(Default)]
pub struct Generations {
    /// Marks stay, so stores into marked objects are remembered between cycles too (in [`Lists::again`]). Changes when a
    /// major cycle begins, and only then: old objects that nobody remembers must not be relied on.
    pub sticky: bool,
    /// The running (or last) cycle is a minor one.
    pub minor: bool,
    /// The next cycle is to be a major one.
    pub force_major: bool,
    /// Minor cycles since the last major one.
    pub minors: u32,
    /// ... of these the last so many did not pay.
    pub unpaid: u32,
    /// Major cycles for which there are no minor ones in between.
    pub pause: u32,
    /// ... and how many there will be the next time.
    pub next_pause: u32,
    /// Bytes alive after the last major cycle.
    pub base: usize,
    /// Marking done in this cycle, in bytes looked at.
    pub work: u64,
    /// ... and in the last major one.
    pub major_work: u64,
    /// [`Accounting::allocated`] when the last cycle ended.
    pub allocated_before: usize,
}

/// The heap of one VM.
#[repr(C)]
pub struct Heap {
    /// Current runs, indexed by [`arena::run_index`]; machine code allocates from them.
    pub runs: [Run; RUNS],
    /// Totals, limits and the flag that asks for a step.
    pub acct: Accounting,
    /// The node that stands for an empty hash part: nil value, nil key, no next. Never written.
    pub nil_node: Box<[u64; 3]>,
    /// Phase of the collector.
    pub phase: Phase,
    /// Number of the running (or last) cycle: the mark of large objects it has reached.
    pub epoch: u32,
    /// Which of the two bit sets the running (or next) cycle marks in.
    pub mark_set: u8,
    /// Stress mode.
    pub(crate) zeal: Zeal,
    /// Strings by content.
    pub intern: InternSlots,
    /// The strings of one byte as far as they were made since the last sweep began: addresses, or 0.
    pub one_byte: Box<[u64; 256]>,
    /// Secret of the string hash.
    pub seed: u64,
    /// Numbers of the strings to come.
    pub str_numbers: StrNumbers,
    /// Generations.
    pub gens: Generations,
    /// Lists of the collector.
    pub lists: Lists,
    /// Objects the host holds.
    pub roots: Roots,
    /// The strings `__mode` and `__gc`, once the collector has run.
    pub gc_names: Option<[Gc<Header>; 2]>,
    /// Blocks by group and class.
    pub blocks: Vec<BlockList>,
    /// Large objects.
    pub large: Vec<Large>,
    /// Where the sweep of large objects is.
    pub large_swept: usize,
    /// Run list the sweep is at.
    pub sweep_list: usize,
    /// System memory.
    pub chunks: Chunks,
    /// How to release a dead object of the group `Drop`, by kind; set by whoever allocates that kind.
    pub release: [Option<Release>; 16],
}

impl crate::cell::gc_ref::HeapAccess for Heap {}

/// Slots of a fresh intern table.
const INTERN_START: usize = 256;

impl Default for Heap {
    fn default() -> Heap {
        Heap::new()
    }
}

impl Heap {
    /// An empty heap with a random string hash.
    pub fn new() -> Heap {
        let mut h = std::hash::RandomState::new().build_hasher();
        h.write_u64(0x6d6f_6f6e);
        Heap::with_seed(h.finish())
    }

    /// An empty heap whose string hash is repeatable.
    pub fn with_seed(seed: u64) -> Heap {
        let mut blocks = Vec::new();
        blocks.resize_with(RUNS, BlockList::default);
        let mut acct = Accounting::new();
        acct.charge(INTERN_START * 8);
        Heap {
            runs: [const { Run::EMPTY }; RUNS],
            acct,
            nil_node: Box::new([!0, !0, 0]),
            phase: Phase::Pause,
            epoch: 1,
            mark_set: 0,
            zeal: Zeal::Off,
            intern: InternSlots {
                slots: vec![0; INTERN_START].into_boxed_slice(),
                live: 0,
                used: 0,
                sweep_at: 0,
                peak: 0,
            },
            one_byte: Box::new([0; 256]),
            seed,
            str_numbers: StrNumbers::new(seed),
            gens: Generations::default(),
            lists: Lists {
                gray: Vec::new(),
                again: Vec::new(),
                sliced: Vec::new(),
                weak: Vec::new(),
                running: None,
                threads: Vec::new(),
                udata: Vec::new(),
                cdata: Vec::new(),
                finalize: VecDeque::new(),
                traced: Vec::new(),
                traced_protos: Vec::new(),
                small_steps: 0,
                rounds: 0,
            },
            roots: Roots::default(),
            gc_names: None,
            blocks,
            large: Vec::new(),
            large_swept: 0,
            sweep_list: 0,
            chunks: Chunks::new(),
            release: [None; 16],
        }
    }
}
