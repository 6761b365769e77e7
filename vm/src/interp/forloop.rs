//! Numeric loops whose control values are not all numbers: numeric strings are converted, the rest are errors.

use super::dispatch::{HelperResult, NEXT, enter_func, helper, next, resume, tail};
use super::meta::{reg, set_reg};
use crate::error::messages as msg;
use crate::state::Vm;
use crate::value::Value;

helper!(
    #[cold]
    for_slow = for_prepare
);

fn for_prepare(vm: &mut Vm, a: usize, _d: usize) -> HelperResult {
    for (i, text) in [msg::FOR_INIT, msg::FOR_LIMIT, msg::FOR_STEP].into_iter().enumerate() {
        match vm.to_number(reg(vm, a + i)) {
            Some(n) => set_reg(vm, a + i, Value::num(n)),
            None => return Err(vm.throw_here(text.as_bytes())),
        }
    }
    // The instruction is executed again.
    vm.pc = vm.pc.wrapping_sub(1);
    Ok(NEXT)
}
