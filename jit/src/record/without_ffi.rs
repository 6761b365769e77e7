//! C data on traces where the ffi is not part of the program: there is none but literals, and nothing to ask about them.

use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::refs::Ref;
use crate::view::At;
use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;

const NONE: Abort = Abort::NyiTypes("C data without an ffi");

/// Two operands as 64-bit integers or addresses.
pub(super) struct Pair {
    pub(super) x: Ref,
    pub(super) y: Ref,
    pub(super) unsigned: bool,
    pub(super) now: (u64, u64),
}

impl Rec {
    pub(super) fn rec_call_cdata(
        &mut self,
        _: &Vm,
        _: (At, u32),
        _: (TRef, Value),
        _: &[(TRef, Value)],
    ) -> R<Vec<TRef>> {
        Err(NONE)
    }

    pub(super) fn rec_ffi(&mut self, _: &Vm, _: &str, _: &[(TRef, Value)]) -> R<Vec<TRef>> {
        Err(NONE)
    }

    pub(super) fn cdata_get(&mut self, _: &Vm, _: TRef, _: Value, _: TRef, _: Value) -> R<Result<TRef, ()>> {
        Err(NONE)
    }

    pub(super) fn cdata_set(
        &mut self,
        _: &Vm,
        _: (TRef, Value),
        _: (TRef, Value),
        _: (TRef, Value),
    ) -> R<()> {
        Err(NONE)
    }

    pub(super) fn metatype_field(&mut self, _: &Vm, (): (), _: Mm) -> R<Option<(Gc<Table>, Value)>> {
        Err(NONE)
    }

    pub(super) fn operand_metatype(&mut self, _: &Vm, _: TRef, _: Value) -> R<Option<()>> {
        Err(NONE)
    }

    pub(super) fn cdata_call_handler(&mut self, _: &Vm, _: TRef, _: Value) -> R<Option<(TRef, Value)>> {
        Err(NONE)
    }

    pub(super) fn cdata_arith(
        &mut self,
        _: &Vm,
        _: Mm,
        _: (TRef, Value),
        _: (TRef, Value),
    ) -> R<Option<TRef>> {
        Err(NONE)
    }

    pub(super) fn cdata_compare(
        &mut self,
        _: &Vm,
        _: Mm,
        _: (TRef, Value),
        _: (TRef, Value),
    ) -> R<Option<Pair>> {
        Err(NONE)
    }

    pub(super) fn wide_bits(&mut self, _: &Vm, _: TRef, _: Value) -> R<(Ref, bool)> {
        Err(NONE)
    }

    pub(super) fn wide_result(&mut self, _: Ref, _: bool) -> R<TRef> {
        Err(NONE)
    }

    pub(super) fn cdata_to_number(&mut self, _: &Vm, _: TRef, _: Value) -> R<TRef> {
        Err(NONE)
    }

    pub(super) fn cdata_to_string(&mut self, _: &Vm, _: (TRef, Value)) -> R<TRef> {
        Err(NONE)
    }
}
