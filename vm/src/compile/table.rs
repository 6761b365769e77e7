//! Table constructors: constants become a template to copy, the rest is stored one by one.

use std::collections::hash_map::Entry;

use super::emit::OPERAND_MAX;
use super::expr::{Exp, Val};
use super::*;
use crate::bytecode::protodef::{KVal, TSETM_BIAS};
use crate::limits::TABLE_ARRAY_MAX;
use crate::syntax::hash::{FastMap, Seed};

impl Compiler<'_> {
    pub(super) fn table(&mut self, fields: List<Field>, open: Tok, end: Tok) -> Result<Exp> {
        self.place = open.saturating_sub(1);
        let reg = self.fs.free;
        let pc = self.emit(Instr::ad(Op::TNEW, reg, 0))?;
        self.reserve(1)?;
        let first_free = reg + 1;
        self.place = open;
        let mut template: Option<Template> = None;
        let (mut narr, mut nhash) = (1u32, 0u32);
        let mut needs_array = false;
        // The last item is a call or `...` in array position.
        let mut open_ended = false;
        for i in fields.range() {
            let field = self.ast.fields[i];
            open_ended = false;
            let mut target = Exp::new(Val::Reg(reg));
            let mut key = match field.key {
                FieldKey::Expr(id) => {
                    let mut key = self.expr(id)?;
                    self.to_value(&mut key)?;
                    self.place += 1;
                    if !key.val.is_constant() {
                        self.index(&mut target, &mut key)?;
                    }
                    if key.val == Val::Num(0.0) {
                        needs_array = true;
                    } else {
                        nhash += 1;
                    }
                    // The `=`.
                    self.place += 1;
                    key
                }
                FieldKey::Name(name, tok) => {
                    self.place = tok + 1;
                    nhash += 1;
                    Exp::new(Val::Str(name))
                }
                FieldKey::Position => {
                    let key = Exp::new(Val::Num(narr as f64));
                    narr += 1;
                    needs_array = true;
                    open_ended = true;
                    key
                }
            };
            let mut value = self.expr(field.value)?;
            let constant = value.is_constant_value();
            let mut done = false;
            if key.val.is_constant() && key.val != Val::Nil && (matches!(key.val, Val::Str(_)) || constant) {
                open_ended = false;
                if template.is_none() {
                    let k = self.add_kgc(KGc::TableTemplate { array: Vec::new(), hash: Vec::new() })?;
                    self.fs.code[pc as usize] = Instr::ad(Op::TDUP, reg, k);
                    let array_size = if needs_array { narr } else { 0 };
                    template = Some(Template::new(k, array_size, nhash, self.seed));
                }
                if let Some(t) = &mut template {
                    // A key whose value is made later is reserved with nil.
                    if let FieldKey::Position = field.key {
                        t.set_next(key.val, value.val);
                    } else {
                        t.set_key(key.val, constant.then_some(value.val));
                    }
                }
                done = constant;
            }
            if !done {
                if !matches!(value.val, Val::Call { .. }) {
                    self.to_any_reg(&mut value)?;
                    open_ended = false;
                }
                if key.val.is_constant() {
                    self.index(&mut target, &mut key)?;
                }
                self.store(&target, &mut value)?;
            }
            self.fs.free = first_free;
            self.place = field.end;
        }
        self.place = end;
        if open_ended {
            self.open_end(first_free, narr)?;
        }
        let result = if pc == self.pc() - 1 {
            self.fs.free -= 1;
            Val::Open(pc)
        } else {
            Val::Reg(reg)
        };
        match template {
            None => {
                let array = match narr {
                    _ if !needs_array => 0,
                    n if n < 3 => 3,
                    n => n.min(0x7ff),
                };
                let d = array | fold::hash_bits(nhash) << 11;
                self.fs.code[pc as usize] = self.fs.code[pc as usize].with_d(d);
            }
            Some(t) => {
                let array_size = if needs_array { narr } else { 0 };
                let at = t.constant as usize;
                let template = t.finish(array_size, &mut |id| self.text(id));
                self.fs.kgc[at] = template;
            }
        }
        Ok(Exp::new(result))
    }

    /// Turns the store of the last array item, the first value of an open-ended call, into a store
    /// of all its values.
    fn open_end(&mut self, reg: Reg, narr: u32) -> Result<()> {
        // Keys past 255 had to be loaded first; that load is between call and store.
        if narr - 1 > OPERAND_MAX {
            self.unemit();
        }
        let k = self.num_const(TSETM_BIAS + (narr - 1) as f64)?;
        let last = self.fs.code.len() - 1;
        self.fs.code[last] = Instr::ad(Op::TSETM, reg, k);
        self.fs.code[last - 1] = self.fs.code[last - 1].with_b(0);
        Ok(())
    }
}

/// The constant part of a table constructor.
///
/// Follows the sizes the table would have if it were filled item by item, so that integer keys written out (`{[1] = x,
/// [2] = y}`) end up in the array part when they are dense, and `#` finds the same border among nils as LuaJIT's.
struct Template {
    constant: u32,
    items: Vec<Item>,
    index: FastMap<(u8, u64), usize>,
    /// Some key was written out. Until then items are distinct and end up in the array part.
    has_keys: bool,
    /// Size of the array part.
    array_size: u32,
    /// Nodes of the hash part.
    hash_size: u32,
    /// How many of them are taken.
    hash_used: u32,
}

struct Item {
    key: Val,
    value: Val,
    /// Counts as filled although its value is nil: the key is to be kept.
    kept: bool,
}

impl Item {
    /// The key as an index an array part may have.
    fn array_index(&self) -> Option<u32> {
        match self.key {
            Val::Num(n) if n >= 0.0 && n < TABLE_ARRAY_MAX as f64 && n.fract() == 0.0 => Some(n as u32),
            _ => None,
        }
    }

    fn is_filled(&self) -> bool {
        self.kept || self.value != Val::Nil
    }
}

impl Template {
    fn new(constant: u32, array_size: u32, hash_keys: u32, seed: Seed) -> Template {
        let hash_size = match fold::hash_bits(hash_keys) {
            0 => 0,
            bits => 1 << bits,
        };
        Template {
            constant,
            items: Vec::new(),
            index: FastMap::with_hasher(seed),
            has_keys: false,
            array_size,
            hash_size,
            hash_used: 0,
        }
    }

    /// Sets the next array index to a constant.
    fn set_next(&mut self, key: Val, value: Val) {
        if self.has_keys {
            self.set(Item { key, value, kept: false });
        } else {
            self.items.push(Item { key, value, kept: false });
        }
    }

    /// Sets a constant key to a constant, or reserves it (`None`).
    fn set_key(&mut self, key: Val, value: Option<Val>) {
        self.follow_sizes();
        let kept = value.is_none() || matches!(key, Val::Str(_));
        self.set(Item { key, value: value.unwrap_or(Val::Nil), kept });
    }

    /// From now on sizes are followed; what is there already counts first.
    fn follow_sizes(&mut self) {
        if !self.has_keys {
            self.has_keys = true;
            for item in std::mem::take(&mut self.items) {
                self.set(item);
            }
        }
    }

    /// Are items missing, or nil? Then the size of the array part decides what `#` finds.
    fn has_holes(&self) -> bool {
        let whole = |(i, item): (usize, &Item)| item.is_filled() && item.array_index() == Some(i as u32 + 1);
        !self.items.iter().enumerate().all(whole)
    }

    fn set(&mut self, item: Item) {
        let key = item.key;
        let id = match key {
            Val::Num(n) => (0, n.to_bits()),
            Val::Str(s) => (1, s.0 as u64),
            _ => (2, key.primitive() as u64),
        };
        match self.index.entry(id) {
            Entry::Occupied(at) => {
                self.items[*at.get()] = item;
                return;
            }
            Entry::Vacant(at) => {
                at.insert(self.items.len());
            }
        }
        let index = item.array_index();
        if index.is_none_or(|i| i >= self.array_size) {
            if self.hash_used == self.hash_size {
                self.resize(&item);
            }
            if index.is_none_or(|i| i >= self.array_size) {
                self.hash_used += 1;
            }
        }
        self.items.push(item);
    }

    /// Grows for one more item: the array part becomes the largest that is more than half full.
    fn resize(&mut self, extra: &Item) {
        let mut bins = [0u32; 28];
        let mut candidates = 0;
        let mut total = 0;
        let filled = self.items.iter().filter(|i| i.is_filled());
        for item in filled.chain([extra]) {
            total += 1;
            if let Some(i) = item.array_index() {
                // Bin b holds the indices from 2^b + 1 to 2^(b+1); bin 0 those up to 2.
                bins[if i > 2 { (i - 1).ilog2() as usize } else { 0 }] += 1;
                candidates += 1;
            }
        }
        let (mut sum, mut size, mut in_array) = (0, 0, 0);
        for (b, &n) in bins.iter().enumerate() {
            if 2 * candidates <= 1 << b || sum == candidates {
                break;
            }
            sum += n;
            if n > 0 && 2 * sum > 1 << b {
                size = (2 << b) + 1;
                in_array = sum;
            }
        }
        self.array_size = size;
        self.hash_size = match fold::hash_bits(total - in_array) {
            0 => 0,
            bits => 1 << bits,
        };
        let in_hash = |i: &&Item| i.is_filled() && i.array_index().is_none_or(|k| k >= size);
        self.hash_used = self.items.iter().filter(in_hash).count() as u32;
    }

    fn finish(mut self, array_size: u32, text: &mut dyn FnMut(StrId) -> Text) -> KGc<Text, Made> {
        if !self.has_keys && self.has_holes() {
            self.follow_sizes();
        }
        let mut constant = |v: Val| match v {
            Val::False => KVal::Bool(false),
            Val::True => KVal::Bool(true),
            Val::Num(n) => KVal::Num(n),
            Val::Str(id) => KVal::Str(text(id)),
            _ => KVal::Nil,
        };
        let mut array = vec![KVal::Nil; array_size.max(self.array_size) as usize];
        let mut hash = Vec::new();
        for item in self.items {
            match item.array_index().and_then(|i| array.get_mut(i as usize)) {
                Some(slot) => *slot = constant(item.value),
                None => hash.push((constant(item.key), constant(item.value))),
            }
        }
        KGc::TableTemplate { array, hash }
    }
}
