//! The command lines. `moonlitd` and `resty` are one executable under several names: what it is called decides what it
//! is. `moonlit` has LuaJIT's command line alone, so that it carries no server: the server's tables hold addresses, and
//! what holds addresses takes memory in every process that starts.

pub mod allocator;
pub mod args;
mod highlight;
mod interrupt;
mod repl;
#[cfg(feature = "server")]
mod resty;
pub mod script;
pub mod several;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The words of the command line, and the name it was called by, without its folder.
fn called() -> (Vec<OsString>, Option<String>) {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().and_then(|p| Path::new(p).file_stem()).map(|s| s.to_string_lossy().into_owned());
    (args, name)
}

/// Entry of `moonlit`.
pub fn lua() -> ExitCode {
    allocator::stock_blocks();
    let (args, name) = called();
    if let Some(name @ ("moonlitd" | "nginx" | "openresty" | "resty")) = name.as_deref() {
        eprintln!(
            "{name}: this executable is `moonlit`, which has no server: call `moonlitd` or `resty` by that name"
        );
        return ExitCode::FAILURE;
    }
    script::main(args)
}
