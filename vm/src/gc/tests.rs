//! The collector without a machine: roots are the heap's own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::*;
use crate::heap::roots::RootId;
use crate::string::Str;
use crate::table::Table;
use crate::table::tests::Rng;
use crate::thread::Thread;
use crate::value::Object;

struct Bench {
    heap: Heap,
    roots: Vec<Value>,
    protos_died: u32,
}

impl World for Bench {
    fn heap(&mut self) -> &mut Heap {
        &mut self.heap
    }
    fn running(&mut self) -> Option<Gc<Thread>> {
        None
    }
    fn roots(&mut self, out: &mut Vec<Value>) {
        out.extend_from_slice(&self.roots);
    }
    fn trace_refs(&mut self, _: TraceNo, _: &mut Vec<Value>) {}
    fn cdata_finalizer(&mut self, _: Value) -> Option<Value> {
        Some(Value::TRUE)
    }
    fn proto_died(&mut self, _: Gc<Proto>) {
        self.protos_died += 1;
    }
}

impl Bench {
    fn new() -> Bench {
        Bench { heap: Heap::new(), roots: Vec::new(), protos_died: 0 }
    }
    fn root<T: Object>(&mut self, o: Gc<T>) -> RootId {
        self.heap.roots.add(Value::obj(o))
    }
    fn table(&mut self) -> Gc<Table> {
        self.heap.new_table(0, 0)
    }
    fn set(&mut self, t: Gc<Table>, k: &str, v: Value) {
        t.set_bytes(&mut self.heap, k.as_bytes(), v).unwrap();
    }
    fn full(&mut self) {
        full_world(self);
        check::check_world(self).unwrap();
    }
    fn with_mode(&mut self, mode: &str) -> Gc<Table> {
        let (t, m) = (self.table(), self.table());
        let s = self.heap.str(mode.as_bytes());
        self.set(m, "__mode", Value::obj(s));
        self.heap.set_metatable(t, Some(m));
        t
    }
}

#[test]
fn unreachable_objects_are_freed_and_reachable_ones_stay() {
    let mut b = Bench::new();
    let keep = b.table();
    b.root(keep);
    for i in 0..1000 {
        let (t, u) = (b.heap.new_table(20, 3), b.table());
        keep.seti(&mut b.heap, i + 1, Value::obj(t)).unwrap();
        t.seti(&mut b.heap, 1, Value::obj(u)).unwrap();
    }
    b.full();
    let live = b.heap.total_bytes();
    for _ in 0..20 {
        for i in 0..10000 {
            let t = b.table();
            t.seti(&mut b.heap, i, Value::TRUE).unwrap();
            b.heap.str(format!("garbage {i}").as_bytes());
            b.heap.str(&[b'l'; 700]);
        }
        b.full();
        assert!(b.heap.total_bytes() < live + live / 4 + 8192, "{} {live}", b.heap.total_bytes());
    }
    assert_eq!(keep.len(&b.heap), 1000);
    for i in 0..1000 {
        keep.seti(&mut b.heap, i + 1, Value::NIL).unwrap();
    }
    b.full();
    assert!(b.heap.total_bytes() < live / 4);
}

#[test]
fn collection_by_steps_keeps_memory_bounded() {
    let mut b = Bench::new();
    let keep = b.table();
    b.root(keep);
    let mut most = 0;
    for i in 0..300_000i64 {
        let t = b.heap.new_table(3, 0);
        keep.seti(&mut b.heap, i % 1000 + 1, Value::obj(t)).unwrap();
        b.heap.str(format!("{i}").as_bytes());
        if b.heap.gc_due() {
            step_world(&mut b).unwrap();
        }
        most = most.max(b.heap.total_bytes());
    }
    assert!(b.heap.acct.cycles > 3, "{}", b.heap.acct.cycles);
    assert!(most < 3 << 20, "{most}");
    check::check_world(&mut b).unwrap();
}

#[test]
fn weak_values_go_and_strings_stay() {
    let mut b = Bench::new();
    let w = b.with_mode("v");
    b.root(w);
    let held = b.table();
    b.root(held);
    let s = b.heap.str(b"text");
    let lost = b.table();
    for (i, v) in [Value::obj(held), Value::obj(lost), Value::obj(s), Value::int(5)].iter().enumerate() {
        w.seti(&mut b.heap, i as i64 + 1, *v).unwrap();
        w.setv(&mut b.heap, Value::num(i as f64 + 0.5), *v).unwrap();
    }
    b.full();
    assert_eq!(w.geti(&b.heap, 1), Value::obj(held));
    assert!(w.geti(&b.heap, 2).is_nil() && w.getv(&b.heap, Value::num(1.5)).is_nil());
    assert_eq!(w.geti(&b.heap, 3), Value::obj(s));
    assert_eq!(w.geti(&b.heap, 4), Value::int(5));
}

#[test]
fn weak_keys_go_with_their_values() {
    let mut b = Bench::new();
    let w = b.with_mode("k");
    b.root(w);
    let (held, lost, value) = (b.table(), b.table(), b.table());
    b.root(held);
    w.setv(&mut b.heap, Value::obj(held), Value::obj(value)).unwrap();
    w.setv(&mut b.heap, Value::obj(lost), Value::TRUE).unwrap();
    b.full();
    assert_eq!(w.getv(&b.heap, Value::obj(held)), Value::obj(value));
    assert_eq!(w.next(&b.heap, Value::obj(held)), Ok(None));
    let kv = b.with_mode("kv");
    b.root(kv);
    let (k, v) = (b.table(), b.table());
    kv.setv(&mut b.heap, Value::obj(held), Value::obj(v)).unwrap();
    kv.setv(&mut b.heap, Value::obj(k), Value::obj(held)).unwrap();
    b.full();
    assert_eq!(kv.next_at(&b.heap, 0), None);
}

#[test]
fn finalizers_run_newest_first_once_and_objects_survive_until_then() {
    let mut b = Bench::new();
    let mt = b.table();
    b.root(mt);
    b.set(mt, "__gc", Value::TRUE);
    let dropped = Rc::new(RefCell::new(Vec::new()));
    struct Note(Rc<RefCell<Vec<u32>>>, u32);
    impl Drop for Note {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
        }
    }
    let all: Vec<_> = (0..4).map(|i| b.heap.new_udata(Note(dropped.clone(), i), Some(mt))).collect();
    let plain = b.table();
    b.heap.new_udata(Note(dropped.clone(), 100), Some(plain));
    b.full();
    assert_eq!(*dropped.borrow(), [100]);
    let mut order = Vec::new();
    let mut kept = None;
    while let Some((o, f)) = finalize::next(&mut b) {
        assert_eq!(f, Value::TRUE);
        order.push(o);
        if order.len() == 2 {
            kept = Some(b.heap.roots.add(o));
        }
    }
    assert_eq!(order, all.iter().rev().map(|u| Value::obj(*u)).collect::<Vec<_>>());
    b.full();
    let mut d = dropped.borrow().clone();
    d.sort();
    // The third is resurrected: 0, 1 and 3 are freed, and none is finalized again.
    assert_eq!(d, [0, 1, 3, 100]);
    b.heap.roots.remove(kept.unwrap());
    b.full();
    assert!(finalize::next(&mut b).is_none());
    assert_eq!(dropped.borrow().len(), 5);
}

#[test]
fn finalized_userdata_leave_weak_values_and_stay_as_weak_keys() {
    let mut b = Bench::new();
    let mt = b.table();
    b.root(mt);
    b.set(mt, "__gc", Value::TRUE);
    let (wk, wv) = (b.with_mode("k"), b.with_mode("v"));
    b.root(wk);
    b.root(wv);
    let u = b.heap.new_udata_bytes(8, Some(mt));
    wk.setv(&mut b.heap, Value::obj(u), Value::int(1)).unwrap();
    wv.seti(&mut b.heap, 1, Value::obj(u)).unwrap();
    b.full();
    assert!(wv.geti(&b.heap, 1).is_nil());
    assert_eq!(wk.getv(&b.heap, Value::obj(u)), Value::int(1));
    assert!(finalize::next(&mut b).is_some());
    b.full();
    assert_eq!(wk.next_at(&b.heap, 0), None);
}

#[test]
fn cdata_finalizers_are_queued_and_can_be_taken_back() {
    let mut b = Bench::new();
    let (x, y) = (b.heap.new_cdata(11, 8, 8), b.heap.new_cdata(11, 8, 8));
    b.heap.set_cdata_finalizer(x, true);
    b.heap.set_cdata_finalizer(y, true);
    b.heap.set_cdata_finalizer(y, false);
    b.full();
    assert_eq!(finalize::next(&mut b), Some((Value::obj(x), Value::TRUE)));
    assert_eq!(finalize::next(&mut b), None);
}

#[test]
fn prototypes_free_their_blocks_and_report_their_traces() {
    use crate::bytecode::protodef::{KGc, ProtoDef};
    let mut b = Bench::new();
    let before = b.heap.large.len();
    let s = |s: &str| KGc::Str(s.as_bytes().into());
    let child = ProtoDef { code: vec![1; 200], kgc: vec![s("inner")], ..Default::default() };
    let def = ProtoDef { kgc: vec![s("outer"), KGc::Proto(Box::new(child))], ..Default::default() };
    let p = b.heap.new_proto(&def);
    let env = b.table();
    let f = b.heap.new_lua_func(p, env, &[]);
    let id = b.root(f);
    b.heap.note_traced(p);
    b.full();
    assert!(b.heap.str_find(b"inner").is_some() && b.heap.large.len() == before + 1);
    assert_eq!(b.protos_died, 0);
    b.heap.roots.remove(id);
    b.full();
    assert_eq!(b.heap.large.len(), before);
    assert!(b.heap.str_find(b"inner").is_none());
    assert_eq!(b.protos_died, 1);
}

#[test]
fn open_upvalues_keep_their_stack_and_dead_ones_leave_its_list() {
    let mut b = Bench::new();
    let env = b.table();
    let t = b.heap.new_thread(env, 48);
    let slot = t.get(&b.heap).stack;
    let live = b.heap.new_upval_open(t, slot);
    let dead = b.heap.new_upval_open(t, slot.wrapping_add(1));
    dead.get_mut(&mut b.heap).next = Some(live);
    t.get_mut(&mut b.heap).open = Some(dead);
    t.get_mut(&mut b.heap).top = slot.wrapping_add(2);
    let s = b.heap.str(b"on the stack");
    live.write(&mut b.heap, Value::obj(s));
    b.root(live);
    b.full();
    assert_eq!(t.get(&b.heap).open, Some(live));
    assert_eq!(live.read(&b.heap), Value::obj(s));
    t.get_mut(&mut b.heap).open = None;
    b.heap.close_upval(live);
    b.full();
    assert_eq!(live.read(&b.heap).as_obj::<Str>().unwrap().bytes(&b.heap), b"on the stack");
}

#[test]
fn idle_stacks_are_looked_at_once_unless_they_are_written_to() {
    let mut b = Bench::new();
    let env = b.table();
    let t: Gc<Thread> = b.heap.new_thread(env, 48);
    b.root(t);
    let p = t.get(&b.heap).stack;
    t.get_mut(&mut b.heap).top = p.wrapping_add(2);
    begin(&mut b);
    mark::propagate(&mut b.heap, isize::MAX);
    let (open, ran) = (b.heap.new_upval_open(t, p), b.table());
    b.root(open);
    // The thread has run and holds a new table; a closure elsewhere writes another one through an upvalue.
    // SAFETY: the stack has more than one slot.
    unsafe { *p.add(1) = Value::obj(ran) };
    t.get_mut(&mut b.heap).set_status(crate::thread::Status::Suspended);
    b.heap.set_mark(open.cast());
    b.heap.lists.gray.push(open.cast());
    mark::propagate(&mut b.heap, isize::MAX);
    let s = b.table();
    open.write(&mut b.heap, Value::obj(s));
    atomic::atomic(&mut b);
    assert!(b.heap.is_marked(ran.cast()) && b.heap.is_marked(s.cast()));
    finish_sweep(&mut b.heap);
    b.full();
    assert_eq!(t.get(&b.heap).hdr.flags & crate::thread::SEEN, crate::thread::SEEN);
}

impl Bench {
    /// A heap whose marks stay.
    fn sticky() -> Bench {
        let mut b = Bench::new();
        b.heap.acct.generations_from = 0;
        b.full();
        assert!(b.heap.gens.sticky);
        b
    }
    /// A whole cycle of the kind that is due.
    fn cycle(&mut self) {
        assert!(self.heap.phase == Phase::Pause);
        whole_cycle(self);
        check::check_world(self).unwrap();
    }
    fn minor(&mut self) {
        // The small heaps of tests grow by large shares.
        self.heap.gens.base = 1 << 30;
        self.heap.gens.unpaid = 0;
        self.cycle();
        assert!(self.heap.gens.minor);
    }
}

#[test]
fn a_minor_cycle_frees_the_young_and_keeps_the_old() {
    let mut b = Bench::sticky();
    let top = b.table();
    b.root(top);
    let old = b.table();
    b.set(top, "old", Value::obj(old));
    b.minor();
    assert!(b.heap.is_marked(old.cast()));
    b.set(top, "old", Value::NIL);
    let young = b.heap.str(b"a string that nobody keeps");
    let alive = b.table();
    b.set(old, "orphan", Value::obj(alive));
    let before = b.heap.acct.live;
    b.minor();
    // The table that died old stays until the next major cycle, and so does what it refers to.
    assert!(b.heap.is_marked(old.cast()) && b.heap.is_marked(alive.cast()));
    assert!(b.heap.str_find(b"a string that nobody keeps").is_none());
    let _ = young;
    assert!(b.heap.acct.live > before);
    b.full();
    assert!(b.heap.acct.live < before);
}

#[test]
fn what_is_written_to_between_cycles_is_looked_at_in_a_minor_one() {
    let mut b = Bench::sticky();
    let env = b.table();
    let top = b.table();
    b.root(top);
    let thread: Gc<Thread> = b.heap.new_thread(env, 48);
    b.root(thread);
    let p = thread.get(&b.heap).stack;
    thread.get_mut(&mut b.heap).top = p.wrapping_add(1);
    let open = b.heap.new_upval_open(thread, p);
    b.root(open);
    let weak = b.with_mode("v");
    b.root(weak);
    for _ in 0..2 {
        b.minor();
    }
    assert!(top.get(&b.heap).hdr.gc & crate::cell::header::gcbits::BLACK != 0);
    let (in_table, in_upval, on_stack, weakly) = (b.table(), b.table(), b.table(), b.table());
    b.set(top, "x", Value::obj(in_table));
    b.set(weak, "x", Value::obj(weakly));
    // SAFETY: the slot is the first of the stack.
    unsafe { *p = Value::obj(on_stack) };
    thread.get_mut(&mut b.heap).written();
    open.write(&mut b.heap, Value::obj(in_upval));
    assert!(!b.heap.lists.again.is_empty());
    b.minor();
    for t in [in_table, in_upval] {
        assert!(b.heap.is_marked(t.cast()));
    }
    assert!(weak.get_bytes(&b.heap, b"x").is_nil());
    // A stack that has not been written to since is passed over, and stays what it is.
    b.minor();
    assert!(b.heap.is_marked(thread.cast()) && b.heap.lists.threads == [thread.cast()]);
}

#[test]
fn what_is_born_while_a_cycle_sweeps_is_young() {
    let mut b = Bench::sticky();
    begin(&mut b);
    atomic::atomic(&mut b);
    // Large enough to lie outside the arenas.
    let (env, young) = (b.table(), Value::obj(b.table()));
    let f = b.heap.new_native_func(crate::index::NativeId::new(0), env, std::ptr::null(), &[young; 100]);
    b.root(f);
    finish_sweep(&mut b.heap);
    check::check_world(&mut b).unwrap();
    assert!(!b.heap.is_marked(f.cast()));
    b.minor();
    assert!(b.heap.is_marked(f.cast()) && b.heap.is_marked(young.as_header().unwrap()));
}

#[test]
fn a_major_cycle_comes_in_time_and_minor_ones_stop_when_they_do_not_pay() {
    let mut b = Bench::sticky();
    let top = b.table();
    b.root(top);
    let mut minors = 0;
    loop {
        b.heap.gens.unpaid = 0;
        b.heap.gens.base = 1 << 30;
        b.cycle();
        if !b.heap.gens.minor {
            break;
        }
        minors += 1;
    }
    assert_eq!(minors, 12);
    // Everything survives: each minor cycle looks at as much as was allocated.
    let mut kinds = String::new();
    for round in 0..40 {
        for i in 0..200 {
            let t = b.table();
            top.seti(&mut b.heap, round * 200 + i + 1, Value::obj(t)).unwrap();
        }
        b.heap.gens.base = 1 << 20;
        b.heap.gens.major_work = 1 << 10;
        b.cycle();
        kinds.push(if b.heap.gens.minor { 'm' } else { 'M' });
    }
    assert!(kinds.starts_with("mmMMMMmmMMMMMMMM"), "{kinds}");
}

#[test]
fn a_waiting_coroutine_gets_a_smaller_stack() {
    let mut b = Bench::new();
    let env = b.table();
    let t: Gc<Thread> = b.heap.new_thread(env, 5000);
    b.root(t);
    let p = t.get(&b.heap).stack;
    let s = b.heap.str(b"kept");
    // SAFETY: the stack has more than four slots.
    unsafe { *p.add(3) = Value::obj(s) };
    t.get_mut(&mut b.heap).top = p.wrapping_add(4);
    let u = b.heap.new_upval_open(t, p.wrapping_add(3));
    t.get_mut(&mut b.heap).open = Some(u);
    b.root(u);
    let before = b.heap.total_bytes();
    b.full();
    assert!(t.get(&b.heap).size < 200 && b.heap.total_bytes() < before - 30_000);
    assert_eq!(u.read(&b.heap), Value::obj(s));
}

#[test]
fn slots_above_top_do_not_keep_objects_and_are_cleared() {
    let mut b = Bench::new();
    let env = b.table();
    let t: Gc<Thread> = b.heap.new_thread(env, 48);
    b.root(t);
    let v = b.table();
    let p = t.get(&b.heap).stack;
    // SAFETY: the stack has more than one slot.
    unsafe { *p.add(1) = Value::obj(v) };
    t.get_mut(&mut b.heap).top = p.wrapping_add(1);
    b.full();
    // SAFETY: as above.
    assert!(unsafe { *p.add(1) }.is_nil());
}

#[test]
fn strings_found_while_the_intern_table_is_swept_survive() {
    let mut b = Bench::new();
    let keep = b.table();
    b.root(keep);
    let names: Vec<_> = (0..30000).map(|i| format!("name {i}")).collect();
    for n in &names {
        b.heap.str(n.as_bytes());
    }
    let long = b.heap.str(&[b'w'; 600]);
    b.heap.str_key(long);
    if b.heap.phase == Phase::Mark {
        atomic::atomic(&mut b);
    }
    finish_sweep(&mut b.heap);
    for n in &names {
        b.heap.str(n.as_bytes());
    }
    let long = b.heap.str(&[b'w'; 600]);
    b.heap.str_key(long);
    begin(&mut b);
    atomic::atomic(&mut b);
    assert_eq!(b.heap.phase, Phase::SweepStrings);
    let mut i = 0;
    while b.heap.phase == Phase::SweepStrings {
        for n in &names[i * 100..i * 100 + 100] {
            let s = b.heap.str(n.as_bytes());
            keep.sets(&mut b.heap, s, Value::TRUE).unwrap();
        }
        let again = b.heap.str_find(&[b'w'; 600]);
        if let Some(s) = again {
            keep.sets(&mut b.heap, s, Value::TRUE).unwrap();
        }
        b.heap.intern_sweep(1000);
        sweep::step(&mut b.heap);
        i += 1;
    }
    assert!(i > 1);
    check::check_world(&mut b).unwrap();
    finish_sweep(&mut b.heap);
    check::check_world(&mut b).unwrap();
    b.full();
}

#[test]
fn the_limit_is_reported_and_garbage_does_not_count() {
    let mut b = Bench::new();
    b.heap.set_limit(4 << 20);
    for _ in 0..100_000 {
        b.heap.new_table(8, 2);
        if b.heap.gc_due() {
            step_world(&mut b).unwrap();
        }
    }
    let keep = b.table();
    b.root(keep);
    let mut err = false;
    for i in 0..100_000 {
        let t = b.heap.new_table(8, 2);
        keep.seti(&mut b.heap, i + 1, Value::obj(t)).unwrap();
        if b.heap.gc_due() && step_world(&mut b).is_err() {
            err = true;
            break;
        }
    }
    assert!(err);
    assert!(b.heap.may_alloc(1 << 20).is_err());
    assert_eq!(b.heap.resize(keep, 1 << 20, 0), Err(crate::table::TableErr::Memory));
    keep.clear(&mut b.heap);
    step_world(&mut b).unwrap();
    assert!(b.heap.may_alloc(1 << 20).is_ok());
}

#[test]
fn memory_goes_back_to_the_system() {
    let mut b = Bench::new();
    let keep = b.table();
    b.root(keep);
    for i in 0..200_000 {
        let t = b.heap.new_table(8, 0);
        keep.seti(&mut b.heap, i + 1, Value::obj(t)).unwrap();
    }
    keep.resize(&mut b.heap, 0, 0).unwrap();
    keep.clear(&mut b.heap);
    b.full();
    b.full();
    assert!(b.heap.chunks.idle() <= 16, "{}", b.heap.chunks.idle());
}

/// Objects of all kinds, changed at random while the collector works in steps; a model knows what must
/// be there.
fn torture(seed: u64, zeal: bool, rounds: u32) {
    let mut b = Bench::new();
    if !seed.is_multiple_of(3) {
        b.heap.acct.generations_from = 0;
    }
    if zeal {
        b.heap.set_zeal(Zeal::Collect);
    }
    b.heap.acct.threshold_min = 0;
    let mut r = Rng(seed);
    if r.next(2) == 0 {
        b.heap.acct.fetch_ahead_from = 0;
    }
    let top = b.heap.new_table(0, 0);
    b.root(top);
    // Table i of the model: contents by key; values are numbers of tables or strings.
    let mut model: Vec<HashMap<u32, Result<usize, String>>> = Vec::new();
    const N: usize = 24;
    for i in 0..N {
        let t = b.table();
        top.seti(&mut b.heap, i as i64 + 1, Value::obj(t)).unwrap();
        model.push(HashMap::new());
    }
    let tab = |b: &Bench, i: usize| top.geti(&b.heap, i as i64 + 1).as_obj::<Table>().unwrap();
    for round in 0..rounds {
        for _ in 0..40 {
            let i = r.next(N as u32) as usize;
            let t = tab(&b, i);
            let k = r.next(60);
            let key = match k % 3 {
                0 => Value::int(k as i32 / 3),
                1 => Value::obj(b.heap.str(format!("key {k}").as_bytes())),
                _ => Value::obj(b.heap.str(format!("{k:0100}").as_bytes())),
            };
            match r.next(8) {
                0 | 1 => {
                    t.setv(&mut b.heap, key, Value::NIL).unwrap();
                    model[i].remove(&k);
                }
                2 | 3 => {
                    let j = r.next(N as u32) as usize;
                    let v = Value::obj(tab(&b, j));
                    t.setv(&mut b.heap, key, v).unwrap();
                    model[i].insert(k, Ok(j));
                }
                4 | 5 => {
                    let s = format!("{}{}", r.next(1000), "x".repeat(r.next(3) as usize * 40));
                    let v = Value::obj(b.heap.str(s.as_bytes()));
                    t.setv(&mut b.heap, key, v).unwrap();
                    model[i].insert(k, Err(s));
                }
                6 => {
                    // A fresh table takes the place of an old one everywhere.
                    let n = b.heap.new_table(r.next(6), r.next(4));
                    top.seti(&mut b.heap, i as i64 + 1, Value::obj(n)).unwrap();
                    model[i].clear();
                    for m in model.iter_mut() {
                        m.retain(|_, v| *v != Ok(i));
                    }
                    for j in 0..N {
                        let o = tab(&b, j);
                        let stale: Vec<_> =
                            std::iter::successors(o.next_at(&b.heap, 0), |e| o.next_at(&b.heap, e.0))
                                .filter(|e| e.2 == Value::obj(t))
                                .map(|e| e.1)
                                .collect();
                        for k in stale {
                            o.setv(&mut b.heap, k, Value::NIL).unwrap();
                        }
                    }
                }
                _ => {
                    for _ in 0..20 {
                        b.heap.new_table(r.next(40), r.next(5));
                        b.heap.str(format!("litter {}", r.next(100_000)).as_bytes());
                    }
                    b.heap.new_udata(Rc::new(7), None);
                }
            }
        }
        if zeal {
            step_world(&mut b).unwrap();
        } else {
            for _ in 0..r.next(3) {
                advance_a_little(&mut b, &mut r);
            }
        }
        check::check_world(&mut b).unwrap_or_else(|e| panic!("round {round}, {:?}: {e}", b.heap.phase));
        if round % 16 == 0 {
            for i in 0..N {
                let t = tab(&b, i);
                let n = std::iter::successors(t.next_at(&b.heap, 0), |e| t.next_at(&b.heap, e.0)).count();
                assert_eq!(n, model[i].len(), "round {round}");
                for (k, v) in &model[i] {
                    let key = match k % 3 {
                        0 => Value::int(*k as i32 / 3),
                        1 => Value::obj(b.heap.str(format!("key {k}").as_bytes())),
                        _ => Value::obj(b.heap.str(format!("{k:0100}").as_bytes())),
                    };
                    let got = t.getv(&b.heap, key);
                    match v {
                        Ok(j) => assert_eq!(got, Value::obj(tab(&b, *j))),
                        Err(s) => {
                            assert_eq!(got.as_obj::<Str>().unwrap().bytes(&b.heap), s.as_bytes())
                        }
                    }
                }
            }
        }
    }
    if !zeal {
        assert!(b.heap.acct.cycles >= 3, "{}", b.heap.acct.cycles);
    }
}

/// A very small step: the program gets many chances to write between two of them.
fn advance_a_little(b: &mut Bench, r: &mut Rng) {
    match b.heap.phase {
        Phase::Mark if !mark::is_drained(&b.heap) => {
            mark::propagate(&mut b.heap, r.next(2000) as isize);
        }
        Phase::SweepStrings => {
            if b.heap.intern_sweep(r.next(60) as usize) {
                b.heap.phase = Phase::Sweep;
            }
        }
        Phase::Sweep if r.next(3) > 0 => {
            b.heap.sweep_blocks(1);
        }
        _ => advance(b),
    }
}

#[test]
fn random_changes_during_incremental_cycles_lose_nothing() {
    for seed in 1..=8 {
        torture(seed * 0x9e37_79b9_7f4a_7c15, false, 600);
    }
}

#[test]
fn random_changes_under_zeal_lose_nothing() {
    torture(77, true, 150);
}
