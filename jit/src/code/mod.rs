//! Code memory and the way into it. Knows no IR: bytes come in, entry points go out.

pub mod arena;
pub mod exec;
pub mod exit;
pub mod link;
