//! Numeric loops whose control values are not all numbers: errors.

use super::dispatch::{HelperResult, enter_func, helper, next, resume, tail};
use super::meta::reg;
use crate::error::messages as msg;
use crate::state::Vm;

helper!(
    #[cold]
    for_slow = for_error
);

fn for_error(vm: &mut Vm, a: usize, _d: usize) -> HelperResult {
    let text = if !reg(vm, a).is_num() {
        msg::FOR_INIT
    } else if !reg(vm, a + 1).is_num() {
        msg::FOR_LIMIT
    } else {
        msg::FOR_STEP
    };
    Err(vm.throw_here(text.as_bytes()))
}
