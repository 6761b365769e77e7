//! Prepared signatures of variadic calls: one per combination of extra argument types that was met.

use std::collections::HashMap;
use std::rc::Rc;

use super::classify::{NotCallable, Prepared};
use crate::ctype::{CTypeId, CTypeTable, FuncType, Kind};

/// Combinations kept; beyond it the cache starts afresh.
const COMBINATIONS_MAX: usize = 1024;

/// What was prepared so far.
#[derive(Default)]
pub struct VarargCache {
    by_types: HashMap<(CTypeId, Box<[CTypeId]>), Rc<Prepared>>,
}

impl VarargCache {
    /// The prepared form of `func`, whose type is `id`, with `extra` arguments of these (already promoted) types.
    pub fn get(
        &mut self,
        table: &CTypeTable,
        id: CTypeId,
        func: &FuncType,
        extra: &[CTypeId],
    ) -> Result<Rc<Prepared>, NotCallable> {
        let key = (id, Box::from(extra));
        if let Some(prepared) = self.by_types.get(&key) {
            return Ok(prepared.clone());
        }
        let prepared = Rc::new(Prepared::new(table, func, extra)?);
        if self.by_types.len() >= COMBINATIONS_MAX {
            self.by_types.clear();
        }
        self.by_types.insert(key, prepared.clone());
        Ok(prepared)
    }
}

/// C's default promotions for an argument after `...`.
pub fn promote(table: &CTypeTable, id: CTypeId) -> CTypeId {
    match table.kind(id) {
        Kind::Float { bytes: 4 } => CTypeId::DOUBLE,
        Kind::Bool | Kind::Int { bytes: 1 | 2, .. } => CTypeId::INT32,
        _ => id,
    }
}
