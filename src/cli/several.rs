//! `moonlitd` and `resty`, whatever they are called.

use std::ffi::OsString;
use std::process::ExitCode;

use super::{allocator, called, script};

/// Entry of both: acts as the name says.
pub fn main(default_name: &str) -> ExitCode {
    allocator::stock_blocks();
    let (args, name) = called();
    match name.as_deref().unwrap_or(default_name) {
        "moonlitd" | "nginx" | "openresty" => server(args),
        "moonlit" | "luajit" | "lua" => script::main(args),
        "resty" => resty(args),
        _ if default_name == "resty" => resty(args),
        _ => server(args),
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
    super::resty::main(&args)
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
