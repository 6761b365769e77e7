//! The interpreter. `dispatch` says how handlers are chained, `handlers` holds the fast paths, the other modules
//! the slow ones, a family each.

pub(crate) mod arith;
pub(crate) mod boot;
pub(crate) mod call;
pub(crate) mod cdata;
pub(crate) mod compare;
pub(crate) mod coroutine;
pub(crate) mod debug;
pub(crate) mod dispatch;
pub(crate) mod forloop;
pub(crate) mod func;
pub(crate) mod handlers;
pub(crate) mod hot;
pub(crate) mod index;
mod load;
pub(crate) mod meta;
pub(crate) mod ret;
pub mod run;
pub mod sample;
pub(crate) mod tables;
#[cfg(test)]
mod tests;
pub(crate) mod unwind;

use crate::state::Vm;
use dispatch::{Act, HelperResult, NATIVE};

/// Carries errors to whoever catches them and re-enters natives until an act is left that handlers understand.
pub(crate) fn settle(vm: &mut Vm, r: HelperResult) -> Act {
    let mut r = r;
    loop {
        r = match r {
            Ok(NATIVE) => call::native_again(vm),
            Ok(act) => return act,
            Err(_) => unwind::unwind(vm),
        };
    }
}
