//! Tables against a model, and LuaJIT's visible choices.

use std::collections::HashMap;

use super::*;

fn arr(heap: &mut Heap, vals: &[Option<i32>]) -> Gc<Table> {
    let t = heap.new_table(vals.len() as u32 + 1, 0);
    for (i, v) in vals.iter().enumerate() {
        if let Some(v) = v {
            t.seti(heap, i as i64 + 1, Value::int(*v)).unwrap();
        }
    }
    t
}

#[test]
fn length_of_constructor_with_hole_is_last_slot() {
    let mut h = Heap::new();
    assert_eq!(arr(&mut h, &[Some(1), Some(2), None, Some(4)]).len(&h), 4);
    assert_eq!(arr(&mut h, &[Some(1), None, Some(3), None]).len(&h), 1);
    assert_eq!(arr(&mut h, &[None, None, Some(3)]).len(&h), 3);
    assert_eq!(arr(&mut h, &[]).len(&h), 0);
}

#[test]
fn length_continues_into_the_hash_part() {
    let mut h = Heap::new();
    let t = h.new_table(0, 2);
    for i in 1..=4 {
        t.seti(&mut h, i, Value::TRUE).unwrap();
    }
    assert_eq!(t.get(&h).asize, 0);
    assert_eq!(t.len(&h), 4);
}

#[test]
fn appending_grows_the_array_part_by_powers_of_two() {
    let mut h = Heap::new();
    let t = h.new_table(0, 0);
    let mut sizes = Vec::new();
    for i in 1..=20 {
        t.seti(&mut h, i, Value::int(i)).unwrap();
        if sizes.last() != Some(&t.get(&h).asize) {
            sizes.push(t.get(&h).asize);
        }
    }
    // 1 goes to an array part of 3 slots; 3 to one of 5, and so on, as in LuaJIT.
    assert_eq!(sizes, [3, 5, 9, 17, 33]);
    assert_eq!(t.len(&h), 20);
}

#[test]
fn integral_and_negative_zero_keys_are_integers() {
    let mut h = Heap::new();
    let t = h.new_table(0, 0);
    t.setv(&mut h, Value::num(-0.0), Value::int(7)).unwrap();
    assert_eq!(t.geti(&h, 0), Value::int(7));
    t.setv(&mut h, Value::num(3.0), Value::int(8)).unwrap();
    assert_eq!(t.geti(&h, 3), Value::int(8));
    t.setv(&mut h, Value::num(1e15), Value::int(9)).unwrap();
    assert_eq!(t.getv(&h, Value::num(1e15)), Value::int(9));
    assert_eq!(t.setv(&mut h, Value::num(f64::NAN), Value::TRUE), Err(TableErr::NanIndex));
    assert_eq!(t.setv(&mut h, Value::NIL, Value::TRUE), Err(TableErr::NilIndex));
    assert!(t.getv(&h, Value::num(f64::NAN)).is_nil());
    assert!(t.getv(&h, Value::NIL).is_nil());
}

#[test]
fn long_string_keys_are_found_by_contents() {
    let mut h = Heap::new();
    let text = [b'x'; 100];
    let (a, b) = (h.str(&text), h.str(&text));
    assert!(a != b && h.str_eq(a, b));
    let t = h.new_table(0, 0);
    assert!(t.gets(&h, a).is_nil());
    t.sets(&mut h, a, Value::int(1)).unwrap();
    assert_eq!(t.gets(&h, b), Value::int(1));
    assert_eq!(t.getv(&h, Value::obj(b)), Value::int(1));
    assert_eq!(t.next(&h, Value::obj(b)), Ok(None));
}

#[test]
fn fields_assigned_nil_during_traversal_do_not_disturb_it() {
    let mut h = Heap::new();
    let t = h.new_table(0, 0);
    for i in 0..100 {
        let k = h.str(format!("k{i}").as_bytes());
        t.sets(&mut h, k, Value::int(i)).unwrap();
        t.seti(&mut h, i * 3, Value::int(i)).unwrap();
    }
    let (mut key, mut n) = (Value::NIL, 0);
    while let Some((k, _)) = t.next(&h, key).unwrap() {
        t.setv(&mut h, k, Value::NIL).unwrap();
        n += 1;
        key = k;
    }
    assert_eq!(n, 200);
    assert!(t.next(&h, Value::NIL).unwrap().is_none());
    assert_eq!(t.next(&h, Value::num(0.5)), Err(InvalidKey));
}

#[test]
fn copies_of_a_template_are_independent() {
    let mut h = Heap::new();
    for n in [3, 60] {
        let t = h.new_table(n + 1, hash_bits(n as usize));
        for i in 0..n as i32 {
            t.seti(&mut h, i + 1, Value::int(i)).unwrap();
            let k = h.str(format!("f{i}").as_bytes());
            t.sets(&mut h, k, Value::int(-i)).unwrap();
        }
        let c = h.dup_table(t);
        for i in 0..n as i32 {
            let k = h.str(format!("f{i}").as_bytes());
            assert_eq!(c.gets(&h, k), Value::int(-i));
            assert_eq!(c.geti(&h, i + 1), Value::int(i));
            c.sets(&mut h, k, Value::TRUE).unwrap();
            assert_eq!(t.gets(&h, k), Value::int(-i));
        }
        let extra = h.str(b"extra");
        c.sets(&mut h, extra, Value::TRUE).unwrap();
        assert!(t.gets(&h, extra).is_nil());
    }
}

#[test]
fn clear_keeps_the_parts() {
    let mut h = Heap::new();
    let t = h.new_table(5, 2);
    let k = h.str(b"k");
    t.sets(&mut h, k, Value::TRUE).unwrap();
    t.seti(&mut h, 1, Value::TRUE).unwrap();
    t.clear(&mut h);
    assert_eq!((t.get(&h).asize, t.get(&h).hmask), (5, 3));
    assert!(t.next_at(&h, 0).is_none());
    for i in 0..4 {
        t.setv(&mut h, Value::num(i as f64 + 0.5), Value::TRUE).unwrap();
    }
    assert_eq!(t.get(&h).hmask, 3);
}

/// A small generator: tests need no better one.
pub struct Rng(pub u64);
impl Rng {
    /// A number below `below`.
    pub fn next(&mut self, below: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) * below as u64 >> 32) as u32
    }
}

#[test]
fn random_operations_agree_with_a_model() {
    let mut h = Heap::new();
    let mut r = Rng(0x1234_5678_9abc_def1);
    let names: Vec<_> = (0..300).map(|i| h.str(format!("name{i}").as_bytes())).collect();
    let tabs: Vec<_> = (0..50).map(|_| h.new_table(0, 0)).collect();
    for round in 0..60 {
        let t = h.new_table(r.next(8), r.next(3));
        let mut model: HashMap<u64, u64> = HashMap::new();
        for step in 0..600 {
            let key = match r.next(6) {
                0 | 1 => Value::int(r.next(40 + round * 4) as i32 - 5),
                2 => Value::obj(names[r.next(300) as usize]),
                3 => Value::num(r.next(50) as f64 / 4.0),
                4 => Value::obj(tabs[r.next(50) as usize]),
                _ => Value::int(t.len(&h) as i32 + 1),
            };
            if r.next(3) == 0 {
                t.setv(&mut h, key, Value::NIL).unwrap();
                model.remove(&key.0);
            } else {
                let v = Value::int(step);
                t.setv(&mut h, key, v).unwrap();
                model.insert(key.0, v.0);
            }
            let n = t.len(&h);
            assert!(n == 0 || model.contains_key(&Value::int(n as i32).0), "border {n}");
            assert!(!model.contains_key(&Value::int(n as i32 + 1).0), "border {n}");
        }
        let mut seen = HashMap::new();
        let mut at = 0;
        while let Some((next, k, v)) = t.next_at(&h, at) {
            assert_eq!(t.get(&h).position_after(k), Ok(next));
            assert!(seen.insert(k.0, v.0).is_none());
            assert_eq!(t.getv(&h, k), v);
            at = next;
        }
        assert_eq!(seen, model);
        for name in &names {
            assert_eq!(t.gets(&h, *name).is_nil(), !model.contains_key(&Value::obj(*name).0));
        }
    }
}

/// Enough for an array part that the system moves when it grows.
const LARGE_KEYS: i64 = 2_500_000;

#[test]
fn large_parts_grow_and_shrink_with_their_contents() {
    let mut h = Heap::new();
    let t = h.new_table(0, 0);
    for i in 1..=LARGE_KEYS {
        t.seti(&mut h, i, Value::num(i as f64)).unwrap();
        if i % 99 == 0 {
            t.setv(&mut h, Value::num(i as f64 + 0.5), Value::TRUE).unwrap();
        }
    }
    assert_eq!(t.len(&h), LARGE_KEYS as u64);
    for i in (1..=LARGE_KEYS).step_by(77) {
        assert_eq!(t.geti(&h, i), Value::num(i as f64));
    }
    let used = h.total_bytes();
    t.resize(&mut h, 2_000_001, 20).unwrap();
    assert_eq!((t.geti(&h, 100_000), t.geti(&h, 2_299_999)), (Value::num(1e5), Value::num(2_299_999.0)));
    assert_eq!(t.getv(&h, Value::num(99.5)), Value::TRUE);
    t.clear(&mut h);
    t.resize(&mut h, 0, 0).unwrap();
    assert!(h.total_bytes() < used / 20);
}
