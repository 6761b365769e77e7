//! The command lines. One executable under several names: what it is called decides what it is.

pub mod allocator;
pub mod args;
mod highlight;
mod interrupt;
mod repl;
#[cfg(feature = "server")]
mod resty;
pub mod script;

use std::ffi::OsString;
use std::process::ExitCode;

/// Entry of every binary: acts as the name says.
pub fn main(default_name: &str) -> ExitCode {
    allocator::stock_blocks();
    let args: Vec<OsString> = std::env::args_os().collect();
    let called =
        args.first().map(std::path::Path::new).and_then(|p| p.file_stem()).map(|s| s.to_string_lossy());
    let name = called.as_deref().unwrap_or(default_name);
    match name {
        "moonlitd" | "nginx" | "openresty" => server(args),
        "moonlit" | "luajit" | "lua" => script::main(args),
        "resty" => resty(args),
        _ if default_name == "moonlitd" => server(args),
        _ if default_name == "resty" => resty(args),
        _ => script::main(args),
    }
}

#[cfg(feature = "server")]
fn server(args: Vec<OsString>) -> ExitCode {
    use crate::EngineOptions;
    use moonlit_server::application::Gateways;
    // OpenResty builds its LuaJIT with the 5.2 set.
    let vms = || {
        crate::lua(EngineOptions {
            compat52: true,
            symbols: Some(moonlit_server::compat::address),
            ..EngineOptions::default()
        })
    };
    moonlit_server::cli::run(args.get(1..).unwrap_or_default(), &Gateways { vms })
}

#[cfg(feature = "server")]
fn resty(args: Vec<OsString>) -> ExitCode {
    resty::main(&args)
}

#[cfg(not(feature = "server"))]
fn resty(_: Vec<OsString>) -> ExitCode {
    eprintln!("resty: built without the feature `server`");
    ExitCode::FAILURE
}

#[cfg(not(feature = "server"))]
fn server(_: Vec<OsString>) -> ExitCode {
    eprintln!("moonlitd: built without the feature `server`");
    ExitCode::FAILURE
}
